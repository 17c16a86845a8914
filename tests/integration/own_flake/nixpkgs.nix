# The functions of nixpkgs that flake.nix calls, as small as they can be: nixpkgs itself is not here. Every package is a derivation that
# remembers what it was given.
let
  fake =
    system: name: given:
    derivation {
      inherit name system;
      builder = "/bin/sh";
    }
    // {
      inherit given;
      meta.mainProgram = given.meta.mainProgram or name;
    };
  lib = {
    genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
    importTOML = file: builtins.fromTOML (builtins.readFile file);
    getExe = package: "${package.outPath}/bin/${package.meta.mainProgram}";
    licenses = {
      mit.spdxId = "MIT";
      asl20.spdxId = "Apache-2.0";
    };
    fileset = {
      unions =
        files:
        map (file: if builtins.pathExists file then file else throw "${toString file} is in no fileset: it does not exist") files;
      toSource = { root, fileset }: { inherit root; files = map toString fileset; };
    };
  };
  packagesOf = system: {
    rustPlatform.buildRustPackage = given: fake system given.pname given;
    mkShell = given: fake system "shell" given;
    runCommand = name: given: script: fake system name (given // { inherit script; });
  } // lib.genAttrs [ "clippy" "rust-analyzer" "rustfmt" "actionlint" "nodejs" "python3" "zizmor" "nixfmt-tree" ] (name: fake system name { });
in
{
  inherit lib;
  legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] packagesOf;
}
