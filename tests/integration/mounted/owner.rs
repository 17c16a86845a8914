//! A store that belongs to a user, as single-user installations have it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;
use std::process::Command;

use super::{Bench, KEY, assert_plain, at_nix, benches, detach_cleanly, full, path_named, run};
use crate::support::machine::{TestStore, system};
use crate::support::skip_refused;

/// Somebody who has no name on this machine.
const USER: u32 = 1234;

/// Makes [`USER`] the owner of a store, with a home in it.
fn hand_over(store: &TestStore) {
    fs::create_dir(store.root.join("nix/home")).unwrap();
    run(Command::new("chown").arg("-R").arg(format!("{USER}:{USER}")).arg(&store.root));
}

/// Commands of that user, `as_user`, at `/nix`.
fn as_user(store: &TestStore, script: &str) -> Command {
    let start = format!(
        "as_user() {{ setpriv --reuid={USER} --regid={USER} --clear-groups env USER=somebody HOME=/nix/home \
         XDG_CACHE_HOME=/nix/home XDG_STATE_HOME=/nix/home XDG_CONFIG_HOME=/nix/home NIX_CONF_DIR=/nix/home \"$@\"; }}"
    );
    at_nix(store, &format!("{start}\n{script}"))
}

/// An empty store of the user's; None where that user cannot run Nix.
fn users_store(bench: &Bench) -> Option<TestStore> {
    let store = bench.machine.store("mounted");
    hand_over(&store);
    if as_user(&store, "as_user nix-store --version").output().is_ok_and(|out| out.status.success()) {
        return Some(store);
    }
    skip_refused(&format!("a user other than root cannot run Nix {} here.", bench.machine.nix.version));
    None
}

/// Asserts that everything at and below a path belongs to the user, but for the folders that Nix 2.8 makes for whoever opens a store.
fn assert_owned(path: &Path) {
    if path.ends_with("per-user/root") {
        return;
    }
    let metadata = fs::symlink_metadata(path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (USER, USER), "{}", path.display());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            assert_owned(&entry.unwrap().path());
        }
    }
}

/// A bench whose cache holds a derivation that is not built: nobody but root can read the project.
fn derivation(bench: &Bench) -> String {
    let mut command = bench.saved.command("nix-instantiate");
    run(command.arg(bench.machine.path("project")).args(["--argstr", "system", &system(), "-A", "onTop"]));
    bench.save();
    full(&path_named(&bench.saved, "on-top.drv"))
}

#[test]
fn what_is_kept_at_the_end_is_the_users() {
    for bench in benches() {
        let derivation = derivation(&bench);
        let Some(store) = users_store(&bench) else { continue };
        bench.mount_on(&store);
        run(&mut as_user(&store, &format!("as_user nix-store --option sandbox false -r {derivation}")));
        assert_ne!(detach_cleanly(&store)["kept"], 0);
        assert_owned(&store.dirs().real_store());
        // Root's Nix, which looked at the store just now, has folders of its own beside these.
        assert_owned(&store.dirs().state_dir().join("db"));
        assert_owned(&store.dirs().own_dir());
        assert_plain(&store);
    }
}

#[test]
fn a_mount_by_another_owner_changes_the_owner_of_the_layer() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        lchown(store.dirs().real_store(), Some(USER), Some(4321)).unwrap();
        bench.mount_on(&store);
        let metadata = fs::symlink_metadata(store.dirs().real(&path_named(&store, "everything"))).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (USER, 4321));
    }
}

#[test]
fn the_user_owns_uses_and_collects_what_root_mounted() {
    for bench in benches() {
        let derivation = derivation(&bench);
        let Some(store) = users_store(&bench) else { continue };
        bench.mount_on(&store);
        let script = format!(
            "as_user nix-store --option sandbox false --option auto-optimise-store true -r {derivation} --add-root /nix/home/result
            as_user nix-store --optimise
            as_user nix-store --verify --check-contents
            as_user nix-collect-garbage
            as_user test -e /nix/home/result
            rm /nix/home/result
            as_user nix-collect-garbage
            as_user nix-store --verify --check-contents"
        );
        run(&mut as_user(&store, &script));
        assert_owned(&store.dirs().real_store());
        assert_eq!(store.valid(), BTreeSet::new());
        detach_cleanly(&store);
        assert_plain(&store);
    }
}

#[test]
fn a_user_without_more_rights_unpacks() {
    for bench in benches() {
        let Some(store) = users_store(&bench) else { continue };
        // No `sudo` on the way.
        let script = "mkdir -p /nix/home/cache /nix/home/bin
            cp -r \"$2\"/. /nix/home/cache; ln \"$NIX_CACHE\" /nix/home/bin/nix-cache || cp \"$NIX_CACHE\" /nix/home/bin/nix-cache
            printf '#!/bin/sh\\nexit 1\\n' >/nix/home/bin/sudo; chmod 755 /nix/home/bin/sudo
            chown -R --from=0:0 1234:1234 /nix/home/cache
            as_user env PATH=/nix/home/bin:$PATH nix-cache restore --restore-mode mount --format json --primary-key \"$1\" --remote dir:/nix/home/cache
            as_user env PATH=/nix/home/bin:$PATH nix-cache detach";
        let said = run(as_user(&store, script).arg("sh").arg(KEY).arg(&bench.cache));
        assert!(said.contains("\"not-mounted\"") && said.contains("Nothing was mounted"), "{said}");
        assert_owned(&store.dirs().real_store());
        assert_eq!(store.valid(), bench.saved.valid());
        store.assert_sound();
        assert_plain(&store);
    }
}
