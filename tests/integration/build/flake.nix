# One package for each way in which a build can go. The shell comes with the project; no network.
{
  outputs =
    { self }:
    let
      system = "@system@";
      sh = "${./tools}/busybox";
      shell =
        name: text: attributes:
        derivation (
          {
            inherit name system sh;
            builder = sh;
            args = [ "sh" "-c" text ];
          }
          // attributes
        );
      phase = name: ''echo "@nix { \"action\": \"setPhase\", \"phase\": \"${name}\" }" >&$NIX_LOG_FD; '';
      download = {
        outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        outputHashAlgo = "sha256";
        outputHashMode = "flat";
      };
    in
    {
      packages.${system} = rec {
        default = shell "default-1.0" "${phase "buildPhase"} echo hello; ${phase "installPhase"} echo $one > $out" { inherit one; };
        one = shell "one" "echo ::error::from the builder; $sh seq 1 5000 > $out" { };
        two = shell "two" "echo two > $out" { };
        folder = shell "folder" "$sh mkdir $out; $sh seq 1 20000 > $out/numbers" { };

        # Evaluation.
        throws = throw "this attribute is broken";
        broken = (import ./broken.nix).a;
        undefined = { x = 1; }.y;

        # Builders and tests.
        fails = shell "fails" "echo some line; echo 'main.c:2:11: error: expected ;' >&2; exit 1" { };
        failsToo = shell "fails-too" "$sh sleep 1; echo another line; exit 7" { };
        noOutput = shell "no-output" "exit 0" { };
        test = shell "test-1.0" "${phase "buildPhase"} echo built; ${phase "checkPhase"} echo 'not ok 3'; exit 1" { };
        both = shell "both" "echo $a $b > $out" { a = fails; b = failsToo; };

        # Downloads.
        hash = shell "hash" "echo something else > $out" download;
        refused = shell "refused" "$sh wget http://127.0.0.1:1/x -O $out" download;
        fetched = derivation (
          {
            name = "fetched";
            system = "builtin";
            builder = "builtin:fetchurl";
            url = "http://127.0.0.1:1/x";
          }
          // download
        );
        tarball = shell "tarball" "echo $t > $out" {
          t = builtins.fetchTarball {
            url = "http://127.0.0.1:1/x.tar.gz";
            sha256 = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
          };
        };

        # The machine.
        large = shell "large" "$sh dd if=/dev/zero of=$out bs=1M count=200" { };
        hungry = shell "hungry" "ulimit -v 30000; $sh dd if=/dev/zero of=/dev/null bs=200M count=1" { };
        killed = shell "killed" "exit 137" { };
        slow = shell "slow" "echo begun; $sh sleep 1000" { };
      };
    };
}
