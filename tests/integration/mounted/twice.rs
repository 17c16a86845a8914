//! More restores into a store that has layers mounted.

use std::fs;

use super::{Bench, KEY, MOUNT, benches, detach_cleanly, mounts_of, path_named};
use crate::support::machine::TestStore;
use crate::support::rows::rows;

const OTHER_KEY: &str = "tests-two";

/// Saves one path more under another key.
fn save_more(bench: &Bench) -> TestStore {
    let more = bench.machine.store("more");
    more.build(&["everything"]);
    more.build(&["onTop"]);
    more.save(&bench.cache, OTHER_KEY, &[]);
    more
}

#[test]
fn a_second_restore_unpacks_on_top() {
    for bench in benches() {
        let more = save_more(&bench);
        let store = bench.mounted();
        let mounts = mounts_of(&store);
        let outcome = store.restore(&bench.cache, OTHER_KEY, &MOUNT);
        assert_eq!((&outcome["mode"], &outcome["hit"]), (&"unpack".into(), &"exact".into()), "{outcome}");
        assert_eq!(crate::support::program::notes(&outcome), ["not-mounted"]);
        assert_eq!(mounts_of(&store), mounts);
        assert_eq!(store.valid(), more.valid());
        store.assert_sound();
        store.assert_verifies();
        detach_cleanly(&store);
        path_named(&store, "on-top");
    }
}

#[test]
fn a_second_restore_of_the_same_layers_leaves_the_mounted_ones_alone() {
    for bench in benches() {
        for mode in ["mount", "unpack"] {
            let store = bench.machine.store(mode);
            bench.mount_on(&store);
            store.build(&["another"]);
            // What is deleted is wanted again, and comes from the layer that is mounted.
            store.nix_store(&["--gc"]);
            let kept = store.valid();
            assert!(kept.len() < bench.saved.valid().len());
            drop_page_cache_of(&store);
            let outcome = store.restore(&bench.cache, KEY, &["--restore-mode", mode]);
            assert_eq!((&outcome["mode"], &outcome["paths-lost"]), (&"unpack".into(), &0.into()), "{outcome}");
            assert!(bench.saved.valid().is_subset(&store.valid()));
            store.assert_sound();
            store.assert_verifies();
            detach_cleanly(&store);
            assert!(kept.is_subset(&store.valid()));
        }
    }
}

/// Makes what is read of the store from here on come from its files, and its images, again.
fn drop_page_cache_of(store: &TestStore) {
    let own = store.dirs().own_dir();
    for entry in ["layers", "mounts/layers"].iter().filter_map(|folder| fs::read_dir(own.join(folder)).ok()).flatten() {
        let file = fs::File::open(entry.unwrap().path()).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

#[test]
fn a_second_restore_that_finds_all_does_nothing() {
    for bench in benches() {
        let store = bench.mounted();
        let before = rows(&store);
        let outcome = store.restore(&bench.cache, KEY, &MOUNT);
        assert_eq!((&outcome["hit"], &outcome["paths-restored"]), (&"exact".into(), &0.into()), "{outcome}");
        assert_eq!(rows(&store), before);
        store.assert_verifies();
        assert_eq!(detach_cleanly(&store)["unregistered"], before.paths.len());
    }
}

#[test]
fn what_was_made_on_a_mounted_store_is_saved_and_mounted_with_the_rest() {
    for bench in benches() {
        let store = bench.mounted();
        store.build(&["onTop"]);
        let saved = store.save(&bench.cache, KEY, &[]);
        assert_eq!((&saved["reason"], &saved["saved"]["generation"]), (&"new-paths".into(), &2.into()), "{saved}");
        assert_eq!(saved["saved"]["layers"], 2, "{saved}");
        let next = bench.machine.store("next");
        bench.mount_on(&next);
        assert_eq!(rows(&next), rows(&store).restored());
        next.assert_sound();
        next.assert_verifies();
        assert_eq!(next.builds(&["onTop"]), 0);
        detach_cleanly(&next);
        detach_cleanly(&store);
    }
}

#[test]
fn a_store_is_the_same_by_way_of_a_link() {
    for bench in benches() {
        let store = bench.mounted();
        let link = bench.machine.path("link");
        std::os::unix::fs::symlink(&store.root, &link).unwrap();
        let linked = TestStore { root: link, ..store.clone() };
        store.nix_store(&["--gc"]);
        let mounts = mounts_of(&store);
        assert_eq!(linked.restore(&bench.cache, KEY, &MOUNT)["mode"], "unpack");
        assert_eq!(mounts_of(&store), mounts);
        assert_eq!(super::run_detach(&linked).json()["was-mounted"], true);
        super::assert_plain(&store);
    }
}
