# What the tests build: packages that depend on each other and on nothing but a static shell, and a path of every kind that
# the Nix database tells apart.
{
  system,
  # How many packages.
  count ? "12",
  # Text that goes into every fifth package and what depends on it.
  salt ? "",
}:
let
  inherit (builtins) elemAt fromJSON genList toString;
  sh = "${./tools}/busybox";
  number = fromJSON count;

  build =
    attributes:
    derivation (
      {
        inherit system sh;
        builder = sh;
        args = [ "sh" ./build.sh ];
      }
      // attributes
    );

  package =
    n:
    build {
      name = "package-${toString n}";
      number = n;
      outputs = [ "out" "doc" ];
      # Each depends on one with half its number.
      deps = if n < 2 then [ ] else [ (elemAt packages (n / 2)).out ];
      salt = if n / 5 * 5 == n then salt else "";
    };

  packages = genList package number;

  shell =
    name: text: attributes:
    derivation (
      {
        inherit system name sh;
        builder = sh;
        args = [ "sh" "-c" text ];
      }
      // attributes
    );

  contentAddressed = {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  };
in
rec {
  # The smallest thing there is: a file.
  one = shell "one" "echo ${salt} one > $out" { };

  # One more than `everything` has.
  another = shell "another" "echo ${salt} another $dep > $out" { dep = (elemAt packages 1).out; };

  # Refers to `another`.
  onTop = shell "on-top" "echo $dep > $out" { dep = another; };

  # Content-addressed: their paths are known when they are built. The first refers to itself.
  addressed = shell "addressed" "echo one $out > $out" contentAddressed;
  onAddressed = shell "on-addressed" "echo $dep > $out" ({ dep = addressed; } // contentAddressed);
  usesAddressed = shell "uses-addressed" "echo $dep > $out" { dep = onAddressed; };

  # Made with a package that it does not refer to.
  copied = shell "copied" "$sh cat $dep/lib/small > $out" { dep = (elemAt packages 1).out; };

  # Content-addressed by a hash that is known beforehand, as a download is.
  fixed = shell "fixed" "$sh cat ${./tools}/mark > $out" {
    outputHash = builtins.hashString "sha256" (builtins.readFile ./tools/mark);
    outputHashAlgo = "sha256";
    outputHashMode = "flat";
  };

  # A text, with a reference.
  text = builtins.toFile "text" "in ${./tools}";

  everything = shell "everything" "for p in $paths; do echo $p; done > $out" {
    paths = builtins.concatMap (p: [ p.out p.doc ]) packages ++ [ fixed text ];
  };

  # Takes so long that others come in between: one step after the other.
  slow = shell "slow" "$sh sleep 2; echo ${salt} slow > $out" { };
}
