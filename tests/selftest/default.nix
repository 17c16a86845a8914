# What `.github/workflows/selftest.yml` builds: a few paths that refer to each other, with no nixpkgs and no network. `/bin/sh`
# is in the sandbox of Nix's own installers too (Debian's has none there); nothing else is used but what every shell can do.
{ salt ? "none", system ? builtins.currentSystem }:
let
  make = name: needs: derivation {
    inherit name system salt needs;
    builder = "/bin/sh";
    args = [ "-c" "n=0; while [ $n -lt 2000 ]; do echo \"${name} $n $salt $needs\"; n=$((n + 1)); done > $out" ];
  };
  lib = make "lib" [ ];
  doc = make "doc" [ lib ];
in
make "app" [ lib doc ]
