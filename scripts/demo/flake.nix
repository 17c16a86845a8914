# A small project with real derivations: 120 packages that depend on each other, most of them on nothing but the
# builder, some on the input "words". It stands in for a flake with nixpkgs, so that the demo needs no network.
{
  inputs.words = {
    url = "path:./words";
    flake = false;
  };

  outputs =
    { self, words }:
    let
      inherit (builtins) elemAt genList toString;
      system = "@system@";
      tools = ./tools;
      sh = "${tools}/busybox";

      package =
        number:
        derivation {
          inherit system number sh;
          name = "package-${toString number}";
          builder = sh;
          args = [ "sh" ./build.sh ];
          outputs = [ "out" "doc" ];
          # Each depends on one with half its number; every tenth also reads the words.
          deps = if number < 2 then [ ] else [ (elemAt packages (number / 2)).out ];
          words = if number / 10 * 10 == number then "${words}/list" else "";
        };

      packages = genList package 120;
    in
    {
      packages.${system}.default = derivation {
        inherit system;
        name = "everything";
        builder = sh;
        args = [ "sh" "-c" "for p in $paths; do echo $p; done > $out" ];
        paths = builtins.concatMap (p: [ p.out p.doc ]) packages;
      };
    };
}
