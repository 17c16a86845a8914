//! The flake of this repository, evaluated with a stand-in for nixpkgs (`own_flake/nixpkgs.nix`): real nixpkgs is not reachable here, and
//! nothing of this says that it builds there.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::machine::Machine;
use crate::support::nix;

const SYSTEMS: [&str; 4] = ["aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"];

/// The value of an expression about `outputs`, the outputs of the flake.
fn eval(machine: &Machine, expression: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = format!(
        "let outputs = (import {0}/flake.nix).outputs {{ self = outputs; nixpkgs = import {0}/tests/integration/own_flake/nixpkgs.nix; }}; in {expression}",
        root.display()
    );
    let mut command = machine.command("nix-instantiate");
    command.args(["--eval", "--strict", "--json", "--expr", &text, "--store"]).arg(machine.path("flake-store"));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn every_output_has_a_derivation_for_every_system() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        for (output, names) in [
            ("packages", vec!["default", "nix-cache"]),
            ("devShells", vec!["default"]),
            ("checks", vec!["package", "starts"]),
        ] {
            let found =
                eval(&machine, &format!("builtins.mapAttrs (_: builtins.mapAttrs (_: d: d.drvPath)) outputs.{output}"));
            let systems: Vec<&String> = found.as_object().unwrap().keys().collect();
            assert_eq!(systems, SYSTEMS, "{output}");
            for of_system in found.as_object().unwrap().values() {
                assert_eq!(of_system.as_object().unwrap().keys().collect::<Vec<_>>(), names, "{output}");
                let drvs = of_system.as_object().unwrap().values();
                assert!(drvs.map(|drv| drv.as_str().unwrap()).all(|drv| drv.starts_with("/nix/store/")), "{of_system}");
            }
        }
        let formatters = eval(&machine, "builtins.mapAttrs (_: d: d.drvPath) outputs.formatter");
        assert_eq!(formatters.as_object().unwrap().len(), SYSTEMS.len());
        let program = eval(&machine, "outputs.apps.x86_64-linux.default.program");
        assert!(program.as_str().unwrap().ends_with("-nix-cache/bin/nix-cache"), "{program}");
    }
}

#[test]
fn the_package_is_this_version_and_cargo_has_all_that_it_needs() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let given = eval(
        &machine,
        "let p = outputs.packages.x86_64-linux.default.given; in { inherit (p) version; lock = toString p.cargoLock.lockFile; inherit (p.src) files; }",
    );
    assert_eq!(given["version"], env!("CARGO_PKG_VERSION"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(Path::new(given["lock"].as_str().unwrap()), root.join("Cargo.lock"));

    // A copy of nothing but these files is a package that cargo can read, and no source names a file outside of them.
    let copy = machine.path("source");
    for file in given["files"].as_array().unwrap() {
        let from = Path::new(file.as_str().unwrap());
        let to = copy.join(from.strip_prefix(root).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        assert!(Command::new("cp").arg("-r").arg(from).arg(&to).status().unwrap().success());
    }
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--locked"])
        .current_dir(&copy)
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    for entry in walkdir::WalkDir::new(copy.join("src")).into_iter().map(Result::unwrap) {
        let is_code = entry.path().extension().is_some_and(|extension| extension == "rs");
        let name = entry.file_name().to_string_lossy();
        if !is_code || name == "tests.rs" || name.ends_with("_test.rs") {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        // Tests are not compiled there.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for included in code.split("include_str!(\"").skip(1).chain(code.split("include_bytes!(\"").skip(1)) {
            let name = included.split('"').next().unwrap();
            let file = entry.path().parent().unwrap().join(name);
            assert!(file.exists(), "{} includes {name}, which the flake's source lacks", entry.path().display());
        }
    }
}
