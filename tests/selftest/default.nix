# What `.github/workflows/selftest.yml` builds: a few paths that refer to each other, with no nixpkgs and no network. The shell
# comes from the machine, so builds run outside of the sandbox's closed world only where `/bin/sh` is in it, as Nix has it.
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
