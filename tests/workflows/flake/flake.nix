# What the workflows here build: twelve packages and two halves of them. Every third package contains the words of an input,
# so a change of that input changes the lock and a part of the packages. The shell comes with the project; no network.
{
  inputs.words = {
    url = "path:@words@";
    flake = false;
  };

  outputs =
    { self, words }:
    let
      inherit (builtins) elemAt genList listToAttrs toString;
      tools = ./tools;
      sh = "${tools}/busybox";

      packagesFor =
        system:
        let
          package =
            number:
            derivation {
              inherit system number sh;
              name = "package-${toString number}";
              builder = sh;
              args = [ "sh" ./build.sh ];
              dependency = if number < 2 then "" else elemAt packages (number / 2);
              words = if number / 3 * 3 == number then "${words}/list" else "";
            };
          packages = genList package 12;
          together =
            name: numbers:
            derivation {
              inherit system name;
              builder = sh;
              args = [ "sh" "-c" "for p in $paths; do echo $p; done > $out" ];
              paths = map (elemAt packages) numbers;
            };
        in
        {
          default = together "everything" (genList (n: n) 12);
          left = together "left" [ 0 2 4 6 8 10 ];
          right = together "right" [ 1 3 5 7 9 11 ];
          broken = derivation {
            inherit system;
            name = "broken";
            builder = sh;
            args = [ "sh" "-c" "echo this is broken; exit 1" ];
          };
        };
    in
    {
      packages = listToAttrs (
        map (name: { inherit name; value = packagesFor name; }) [ "x86_64-linux" "aarch64-linux" ]
      );
    };
}
