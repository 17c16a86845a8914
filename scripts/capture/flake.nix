# One attribute for each way in which Nix can fail. @system@, @http@ (a server that fails as its addresses say) are filled in.
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
      zeros = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
      download = {
        outputHash = zeros;
        outputHashAlgo = "sha256";
        outputHashMode = "flat";
      };
      fetched =
        path:
        derivation (
          {
            name = "fetched";
            system = "builtin";
            builder = "builtin:fetchurl";
            url = "@http@/${path}";
          }
          // download
        );
      needs = drv: shell "needs" "echo ${drv} > $out" { };
    in
    {
      packages.${system} = rec {
        one = shell "one" "echo ${self.narHash}; $sh seq 1 20000 > $out" { };
        two = shell "two" "echo ${one} > $out" { };
        fails = shell "fails" "echo some line; exit 1" { };
        failsToo = shell "fails-too" "exit 7" { };
        dependent = needs fails;
        dependents = shell "dependents" "echo ${fails} ${failsToo} > $out" { };
        noOutput = shell "no-output" "exit 0" { };
        killed = shell "killed" "exit 137" { };
        slow = shell "slow" "echo begun; $sh sleep 1000" { };
        large = shell "large" "$sh dd if=/dev/zero of=$out bs=1M count=200" { };
        hungry = shell "hungry" "ulimit -v 30000; $sh dd if=/dev/zero of=/dev/null bs=200M count=1" { };
        refers = shell "refers" "echo ${one} > $out" { allowedReferences = [ ]; };
        forbidden = shell "forbidden" "echo ${one} > $out" { disallowedReferences = [ one ]; };
        required = shell "required" "echo ${two} > $out" { disallowedRequisites = [ one ]; };
        random = shell "random" "$sh dd if=/dev/urandom of=$out bs=64 count=1" { };
        cyclic = shell "cyclic" "echo $bar > $out; echo $out > $bar" { outputs = [ "out" "bar" ]; };
        elsewhere = shell "elsewhere" "exit 0" { system = "aarch64-linux"; };
        features = shell "features" "exit 0" { requiredSystemFeatures = [ "no-such-feature" ]; };
        virtual = shell "virtual" "exit 0" { requiredSystemFeatures = [ "kvm" "no-such-feature" ]; };
        noBuilder = shell "no-builder" "" { builder = "/no/such/builder"; };

        # Downloads.
        hash = shell "hash" "echo something else > $out" download;
        hashHex = shell "hash" "echo something else > $out" (download // { outputHash = "0000000000000000000000000000000000000000000000000000000000000000"; });
        hash32 = shell "hash" "echo something else > $out" (download // { outputHash = "0000000000000000000000000000000000000000000000000000"; });
        hashEmpty = shell "hash" "echo something else > $out" (download // { outputHash = ""; });
        f404 = fetched "status/404/x";
        f403 = fetched "status/403/x";
        f408 = fetched "status/408/x";
        f410 = fetched "status/410/x";
        f429 = fetched "status/429/x";
        f503 = fetched "status/503/x";
        fCut = fetched "cut/x";
        fRefused = derivation ({ name = "fetched"; system = "builtin"; builder = "builtin:fetchurl"; url = "http://127.0.0.1:1/x"; } // download);
        fUnknown = derivation ({ name = "fetched"; system = "builtin"; builder = "builtin:fetchurl"; url = "https://no-such-host.example/x"; } // download);
        fTls = derivation ({ name = "fetched"; system = "builtin"; builder = "builtin:fetchurl"; url = "https://tls.example/x"; } // download);
        tarball = shell "tarball" "echo $t > $out" { t = builtins.fetchTarball { url = "@http@/status/503/x.tar.gz"; sha256 = zeros; }; };
        tarball404 = shell "tarball" "echo $t > $out" { t = builtins.fetchTarball { url = "@http@/status/404/x.tar.gz"; sha256 = zeros; }; };
        url = shell "url" "echo $t > $out" { t = builtins.fetchurl { url = "@http@/file/x"; sha256 = zeros; }; };
        urlTls = shell "url" "echo $t > $out" { t = builtins.fetchurl { url = "https://tls.example/x"; sha256 = zeros; }; };
        git = shell "git" "echo $t > $out" { t = fetchGit { url = "@http@/git-cut/repository"; rev = "0123456789012345678901234567890123456789"; }; };

        # Evaluation.
        throws = throw "this attribute is broken";
        syntax = (import ./broken.nix).a;
        undefined = import ./undefined.nix;
        missing = { x = 1; }.y;
        near = { hello = 1; }.helo;
        infinite = let a = a; in a;
        coerced = shell "coerced" "${{ }}" { };
        asserted = assert 1 == 2; one;
        absent = import ./not-there.nix;
        argument = ({ a }: a) { b = 1; };
        required' = ({ a }: a) { };
        typed = shell "typed" (1 + { }) { };
        inFunction = (x: x.y) { };
        aborted = builtins.abort "stop here";
        impure = builtins.readFile /etc/passwd;
        unlocked = builtins.fetchTarball "@http@/file/x.tar.gz";
        deep = let f = n: f (n + 1) + 1; in f 0;
        vast = let l = builtins.genList (n: [ n n n n ]) 20000000; in builtins.deepSeq l l;
        json = builtins.fromJSON "{";
        notFunction = 1 2;
      };
      nixosConfigurations.number = 1;
    };
}
