//! What Nix does with a store, done with a mounted one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use nix_cache::store;

use super::{at_nix, benches, detach_cleanly, entries, full, own_side, path_named, paths_in, run};
use crate::support::machine::TestStore;
use crate::support::rows::rows;
use crate::support::skip;

#[test]
fn every_path_is_known_and_sound_and_none_is_unpacked() {
    for bench in benches() {
        let store = bench.mounted();
        assert_eq!(rows(&store), rows(&bench.saved).restored());
        let known: BTreeSet<String> = store.nix(&["path-info", "--all"]).lines().map(str::to_owned).collect();
        assert_eq!(known, bench.saved.valid().iter().map(full).collect());
        store.assert_sound();
        store.assert_verifies();
        assert_eq!(paths_in(&own_side(&store)), BTreeSet::new());
        assert_eq!(store.builds(&["everything"]), 0);
        detach_cleanly(&store);
        assert_eq!(store.valid(), BTreeSet::new());
    }
}

#[test]
fn builds_use_mounted_paths() {
    for bench in benches() {
        let store = bench.mounted();
        // In a store under a root of its own every build is sandboxed.
        let built = store.build(&["onTop"]);
        assert_eq!(store.builds(&["onTop"]), 0);
        let text = fs::read_to_string(store.root.join(&built[0][1..])).unwrap();
        assert_eq!(text.trim(), full(&path_named(&store, "another")));
        store.assert_verifies();
    }
}

#[test]
fn builds_outside_of_a_sandbox_use_mounted_paths() {
    for bench in benches() {
        let store = bench.mounted();
        let script = "nix-build \"$1\" --argstr system \"$2\" -A onTop --option sandbox false --no-out-link
            test \"$(nix-build \"$1\" --argstr system \"$2\" -A everything --option sandbox false --no-out-link)\" = \"$3\"
            nix-store --verify --check-contents";
        let project = bench.machine.path("project");
        let mut command = at_nix(&store, script);
        command.arg("sh").arg(project).arg(crate::support::machine::system());
        run(command.arg(full(&path_named(&store, "everything"))));
        path_named(&store, "on-top");
        store.assert_verifies();
    }
}

#[test]
fn what_is_built_is_linked_to_equal_files() {
    for bench in benches() {
        let store = bench.mounted();
        let mut command = store.build_command(&["everything", "salt=new"]);
        run(command.args(["--no-out-link", "--option", "auto-optimise-store", "true"]));
        assert!(!entries(&store.dirs().real_store().join(".links")).is_empty());
        store.assert_sound();
        store.assert_verifies();
        let detached = detach_cleanly(&store);
        assert_ne!(detached["kept"], 0);
    }
}

#[test]
fn the_store_can_be_optimised() {
    for bench in benches() {
        let store = bench.mounted();
        run(store.command("nix-store").arg("--optimise"));
        assert!(!entries(&store.dirs().real_store().join(".links")).is_empty());
        store.assert_sound();
        store.assert_verifies();
        // And once more, with what is linked already.
        run(store.command("nix").args(["store", "optimise"]));
        collect_garbage(&store);
        store.assert_verifies();
        detach_cleanly(&store);
    }
}

#[test]
fn garbage_is_collected_down_to_nothing() {
    for bench in benches() {
        let store = bench.mounted();
        store.build(&["another"]);
        collect_garbage(&store);
        let kept = store.nix_store(&["-qR", &full(&path_named(&store, "another"))]);
        let valid: BTreeSet<String> = store.valid().iter().map(full).collect();
        assert!(kept.lines().all(|path| valid.contains(path)), "what is rooted was collected");
        assert!(!valid.iter().any(|path| path.ends_with("-everything")), "what is not rooted is still there");
        store.assert_verifies();
        fs::remove_file(store.root.join("result")).unwrap();
        collect_garbage(&store);
        assert_eq!(store.valid(), BTreeSet::new());
        assert_eq!(paths_in(&store.dirs().real_store()), BTreeSet::new());
        assert_ne!(store.builds(&["everything"]), 0);
        store.assert_verifies();
        detach_cleanly(&store);
        path_named(&store, "everything");
    }
}

fn collect_garbage(store: &TestStore) {
    run(&mut store.command("nix-collect-garbage"));
}

#[test]
fn a_deleted_path_can_be_made_again() {
    for bench in benches() {
        let store = bench.mounted();
        // A file and a folder of files.
        let paths = ["everything", "package-11", "package-11-doc"].map(|name| path_named(&store, name));
        let before = rows(&store).paths;
        for path in &paths {
            store.nix_store(&["--delete", &full(path)]);
            assert!(!store.dirs().real(path).exists());
        }
        assert_eq!(store.builds(&["everything"]), 2);
        for path in &paths {
            assert_eq!(rows(&store).paths[&full(path)].hash, before[&full(path)].hash);
        }
        let all = &paths[0];
        store.assert_verifies();
        let detached = detach_cleanly(&store);
        assert_ne!(detached["kept"], 0);
        assert!(store.valid().contains(all));
    }
}

#[test]
fn a_build_overwrites_what_a_layer_has_of_an_invalid_path() {
    for bench in benches() {
        let store = bench.mounted();
        // A folder and a file, as paths lie in a layer that this job did not ask for.
        let left = ["package-11", "package-11-doc", "everything"].map(|name| path_named(&store, name));
        store::unregister(&store.dirs(), &left).unwrap();
        for path in &left {
            assert!(store.dirs().real(path).exists());
        }
        assert_eq!(store.builds(&["everything"]), 2);
        store.assert_sound();
        store.assert_verifies();
        assert!(own_side(&store).join(left[0].as_str()).is_dir());
        detach_cleanly(&store);
    }
}

/// Writes into a read-only file.
fn damage(file: &Path) {
    let mode = fs::metadata(file).unwrap().permissions();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::File::options().write(true).open(file).unwrap().write_all_at(b"damage", 100).unwrap();
    fs::set_permissions(file, mode).unwrap();
}

#[test]
fn a_damaged_path_can_be_repaired() {
    for bench in benches() {
        let store = bench.mounted();
        let path = path_named(&store, "package-3");
        // Written through the overlay, so that the damage is on the store's own side.
        damage(&store.dirs().real(&path).join("lib/small"));
        let output = store.command("nix-store").args(["--verify-path", &full(&path)]).output().unwrap();
        assert!(!output.status.success(), "the damage is not seen");
        let other = path_named(&store, "package-4");
        damage(&store.dirs().real(&other).join("lib/small"));
        // Builds in a store of one's own cannot be repaired by building; a binary cache has the paths.
        let remote = format!("file://{}", bench.machine.path("binary-cache").display());
        bench.saved.nix(&["copy", "--all", "--to", &remote]);
        let options = ["--option", "substituters", &remote, "--option", "require-sigs", "false"];
        store.nix_store(&[["--repair-path", &full(&path)].as_slice(), &options].concat());
        store.nix_store(&[["--verify", "--check-contents", "--repair"].as_slice(), &options].concat());
        store.assert_sound();
        store.assert_verifies();
        assert_eq!(detach_cleanly(&store)["was-mounted"], true);
    }
}

#[test]
fn paths_are_copied_out_and_in() {
    for bench in benches() {
        let store = bench.mounted();
        let remote = format!("file://{}", bench.machine.path("binary-cache").display());
        store.nix(&["copy", "--all", "--to", &remote]);
        let copied = bench.machine.store("copied");
        run(bench
            .machine
            .command("nix")
            .args(["copy", "--no-check-sigs", "--from", &remote, "--to"])
            .arg(&copied.root)
            .arg(full(&path_named(&store, "everything"))));
        copied.assert_sound();

        let built = bench.saved.build(&["onTop"]);
        bench.saved.nix(&["copy", "--to", &remote, &built[0]]);
        let mut command = bench.machine.command("nix");
        command.args(["copy", "--no-check-sigs", "--from", &remote, "--to"]).arg(&store.root);
        run(command.arg(&built[0]));
        assert_eq!(full(&path_named(&store, "on-top")), built[0]);
        store.assert_verifies();
        detach_cleanly(&store);
        path_named(&store, "on-top");
    }
}

const SHELL: &str = "{ system }: derivation {
  inherit system;
  name = \"shell\";
  outputs = [ \"out\" ];
  builder = \"${./tools}/bash\";
  args = [ \"-c\" \"echo > $out\" ];
  used = (import ./. { inherit system; }).one;
}";

#[test]
fn a_development_shell_opens_in_it() {
    let bash = Path::new("/bin/bash-static");
    if !bash.is_file() {
        skip("There is no /bin/bash-static: `nix develop`, which takes no other shell, is not tested.");
        return;
    }
    for bench in benches() {
        let project = bench.machine.path("project");
        fs::copy(bash, project.join("tools/bash")).unwrap();
        bench.saved.build(&["everything"]);
        bench.save();
        let store = bench.mounted();
        let mut command = at_nix(
            &store,
            "nix develop -f \"$1\" --argstr system \"$2\" --option sandbox false -c \"$3\" sh -c 'echo used=$used'",
        );
        fs::write(project.join("shell.nix"), SHELL).unwrap();
        command.arg("sh").arg(project.join("shell.nix")).arg(crate::support::machine::system());
        let said = run(command.arg(project.join("tools/busybox")));
        assert!(said.contains(&format!("used={}", full(&path_named(&store, "one")))), "{said}");
        store.assert_verifies();
    }
}
