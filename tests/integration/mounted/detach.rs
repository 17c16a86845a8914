//! Unmounting, and what is left then.

use std::collections::BTreeSet;
use std::process::{Child, Command};

use nix_cache::store::StorePath;

use super::{Bench, assert_plain, at_nix, benches, detach_cleanly, full, mounts_of, path_named, run, run_detach};
use crate::support::machine::TestStore;
use crate::support::rows::rows;

fn closure(store: &TestStore, path: &StorePath) -> BTreeSet<String> {
    store.nix_store(&["-qR", &full(path)]).lines().map(str::to_owned).collect()
}

#[test]
fn what_is_new_stays_with_all_that_it_refers_to() {
    for bench in benches() {
        let store = bench.mounted();
        store.build(&["onTop"]);
        let before = rows(&store);
        let new: BTreeSet<StorePath> = store.valid().difference(&bench.saved.valid()).cloned().collect();
        let expected: BTreeSet<String> = new.iter().flat_map(|path| closure(&store, path)).collect();
        let detached = detach_cleanly(&store);
        assert_eq!(store.valid().iter().map(full).collect::<BTreeSet<_>>(), expected);
        assert_eq!(detached["kept"], expected.len() - new.len());
        assert_eq!(detached["unregistered"], before.paths.len() - expected.len());
        for (path, row) in rows(&store).paths {
            assert_eq!(row, before.paths[&path], "{path}");
        }
        assert_eq!(store.builds(&["onTop"]), 0);
        assert_eq!(run_detach(&store).json()["was-mounted"], false);
    }
}

#[test]
fn after_it_layers_are_mounted_again() {
    for bench in benches() {
        let store = bench.mounted();
        store.build(&["onTop"]);
        run(store.command("nix-store").arg("--optimise"));
        detach_cleanly(&store);
        bench.mount_on(&store);
        assert_eq!(store.builds(&["onTop", "everything"]), 0);
        store.assert_sound();
        store.assert_verifies();
        run(store.command("nix-store").arg("--optimise"));
        store.assert_verifies();
        detach_cleanly(&store);
    }
}

#[test]
fn paths_that_are_named_like_locks_are_kept() {
    for bench in benches() {
        let store = bench.mounted();
        for (name, text) in [("yarn.lock", ""), ("flake.lock", "{}")] {
            let file = store.machine.path(name);
            std::fs::write(&file, text).unwrap();
            store.nix_store(&["--add", file.to_str().unwrap()]);
        }
        detach_cleanly(&store);
        path_named(&store, "yarn.lock");
        path_named(&store, "flake.lock");
    }
}

/// Ends a process of this test with the test.
pub(super) struct Ended(pub(super) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("a child can be ended");
    }
}

#[test]
fn a_store_in_use_stays_as_it_is() {
    for bench in benches() {
        let store = bench.mounted();
        store.build(&["onTop"]);
        let (before, mounts) = (rows(&store), mounts_of(&store));
        let place = store.dirs().real(&path_named(&store, "package-7"));
        let user = Ended(Command::new("sleep").arg("600").current_dir(place).spawn().unwrap());
        let refused = run_detach(&store);
        assert_eq!(refused.code, Some(1), "{}{}", refused.out, refused.log);
        assert!(refused.log.contains("in use"), "{}", refused.log);
        assert_eq!((rows(&store), mounts_of(&store)), (before, mounts));
        store.assert_sound();
        store.assert_verifies();
        drop(user);
        detach_cleanly(&store);
    }
}

#[test]
fn nothing_is_lost_where_mounts_spread() {
    // As under systemd: a mount in one place appears wherever else the folder below it is mounted.
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let built = in_spreading_mounts(&bench, &store);
        assert!(built.contains("\"kept\""), "{built}");
        assert_plain(&store);
        path_named(&store, "on-top");
    }
}

fn in_spreading_mounts(bench: &Bench, store: &TestStore) -> String {
    let script = "mount --make-rshared /
        nix_cache restore --format json --restore-mode mount --primary-key tests-one --remote \"dir:$1\" --store-root \"$ROOT\"
        shift
        \"$@\"
        nix_cache detach --format json --store-root \"$ROOT\"
        ! awk '{ print $5 }' /proc/self/mountinfo | grep \"^$ROOT\" >&2";
    let mut command = at_nix(store, script);
    // Not at /nix here: the store is used by its root.
    command.arg("sh").arg(&bench.cache);
    let build = store.build_command(&["onTop"]);
    command.arg(build.get_program()).args(build.get_args()).arg("--no-out-link");
    run(&mut command)
}
