# The program as a flake: `nix run github:blazedots/nix-cache-action -- key`. The actions do not use it: they bring their binaries.
{
  description = "nix-cache: starts a CI job with the Nix store of the last one";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      eachSystem = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      manifest = lib.importTOML ./Cargo.toml;

      package =
        pkgs:
        pkgs.rustPlatform.buildRustPackage {
          pname = "nix-cache";
          inherit (manifest.package) version;
          # What goes into the binary, and nothing else: a change of a document builds nothing.
          src = lib.fileset.toSource {
            root = ./.;
            fileset = lib.fileset.unions [
              ./.cargo
              ./Cargo.lock
              ./Cargo.toml
              ./src
            ];
          };
          cargoLock.lockFile = ./Cargo.lock;
          # The tests run Nix itself, mount file systems and start servers: scripts/test.sh runs them outside of the sandbox.
          doCheck = false;
          meta = {
            inherit (manifest.package) description;
            homepage = manifest.package.repository;
            license = [
              lib.licenses.mit
              lib.licenses.asl20
            ];
            mainProgram = "nix-cache";
            platforms = systems;
          };
        };
    in
    {
      packages = eachSystem (pkgs: {
        default = package pkgs;
        nix-cache = package pkgs;
      });

      apps = eachSystem (pkgs: {
        default = {
          type = "app";
          program = lib.getExe (package pkgs);
          meta.description = manifest.package.description;
        };
      });

      devShells = eachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (package pkgs) ];
          packages = [
            pkgs.clippy
            pkgs.rust-analyzer
            pkgs.rustfmt
            pkgs.actionlint
            pkgs.nodejs
            pkgs.python3
            pkgs.zizmor
          ];
        };
      });

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);

      checks = eachSystem (pkgs: {
        package = package pkgs;
        # The binary starts and finds the key of this very repository.
        starts = pkgs.runCommand "nix-cache-starts" { nativeBuildInputs = [ (package pkgs) ]; } ''
          nix-cache --version >$out
          nix-cache key --project ${./tests/workflows/flake} >>$out
        '';
      });
    };
}
