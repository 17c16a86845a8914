//! Which paths a save keeps.

use super::{KEY, OTHER_KEY, PREFIX, base, inspect, saved, snapshot_paths};
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::notes;

#[test]
fn an_exact_hit_with_new_paths_saves_only_these_as_the_next_generation() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        let first = saved(&machine, &cache);
        let second = machine.store("second");
        assert_eq!(second.restore(&cache, KEY, &[])["hit"], "exact");
        let before = second.valid();
        second.build(&["onTop"]);
        let new = second.valid().difference(&before).count();
        let outcome = second.save(&cache, KEY, &[]);
        assert_eq!((&outcome["reason"], &outcome["paths-new"]), (&"new-paths".into(), &new.into()));
        let saved = &outcome["saved"];
        assert_eq!((&saved["generation"], &saved["layers"]), (&2.into(), &2.into()));
        assert_eq!(saved["paths"], first.valid().len() + new);
        let third = machine.store("third");
        third.restore(&cache, KEY, &[]);
        assert_eq!(third.valid(), second.valid());
        assert_eq!(third.builds(&["onTop"]), 0);
        third.assert_verifies();
    }
}

#[test]
fn after_a_change_of_the_key_what_is_stale_goes_and_what_is_rooted_stays() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        let first = machine.store("first");
        let rooted = base(&first.build(&["one"])[0]);
        let stale = base(&first.build(&["everything"])[0]);
        first.save(&cache, KEY, &[]);

        let second = machine.store("second");
        let restored = second.restore(&cache, OTHER_KEY, &PREFIX);
        assert_eq!((&restored["hit"], &restored["matched-key"]), (&"partial".into(), &KEY.into()));
        let roots = second.dirs().state_dir().join("gcroots");
        std::os::unix::fs::symlink(format!("/nix/store/{rooted}"), roots.join("kept")).unwrap();
        let fresh = base(&second.build(&["everything", "salt=changed"])[0]);
        let outcome = second.save(&cache, OTHER_KEY, &PREFIX);
        assert_eq!(outcome["reason"], "new-key");

        let kept = snapshot_paths(&machine, &cache, OTHER_KEY);
        assert!(kept.contains(&fresh) && kept.contains(&rooted) && !kept.contains(&stale));
        assert_eq!(outcome["paths-dropped"], first.valid().iter().filter(|p| !kept.contains(p.as_str())).count());
        let third = machine.store("third");
        assert_eq!(third.restore(&cache, OTHER_KEY, &[])["hit"], "exact");
        assert_eq!(third.builds(&["everything", "salt=changed"]), 0);
        third.assert_verifies();
        // The other key has what it had.
        assert!(snapshot_paths(&machine, &cache, KEY).contains(&stale));
    }
}

#[test]
fn a_changed_key_without_anything_new_keeps_everything() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        let first = saved(&machine, &cache);
        let second = machine.store("second");
        second.restore(&cache, OTHER_KEY, &PREFIX);
        assert_eq!(second.builds(&["everything"]), 0);
        let outcome = second.save(&cache, OTHER_KEY, &PREFIX);
        assert_eq!((&outcome["reason"], &outcome["paths-new"]), (&"new-key".into(), &0.into()));
        // No layer is packed anew.
        assert_eq!((&outcome["entries-created"], &outcome["paths-dropped"]), (&1.into(), &0.into()));
        assert_eq!(inspect(&machine, &cache, OTHER_KEY)["paths"].as_array().unwrap().len(), first.valid().len());
    }
}

#[test]
fn what_was_there_before_the_restore_is_saved_only_where_it_is_needed() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, store) = (machine.path("cache"), machine.store("store"));
        let unneeded = base(&store.build(&["one"])[0]);
        let needed = base(&store.build(&["another"])[0]);
        assert_eq!(store.restore(&cache, KEY, &[])["hit"], "miss");
        let new = base(&store.build(&["onTop"])[0]);
        let outcome = store.save(&cache, KEY, &[]);
        assert_eq!(notes(&outcome), [""; 0]);
        let kept = snapshot_paths(&machine, &cache, KEY);
        assert!(kept.contains(&new) && kept.contains(&needed) && !kept.contains(&unneeded));
        // Enough to build on elsewhere.
        let second = machine.store("second");
        second.restore(&cache, KEY, &[]);
        assert_eq!(second.builds(&["onTop"]), 0);
        second.assert_verifies();
    }
}

#[test]
fn a_second_restore_in_a_job_keeps_what_the_first_one_knew() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, store) = (machine.path("cache"), machine.store("store"));
        store.build(&["one"]);
        store.restore(&cache, KEY, &[]);
        let new = base(&store.build(&["another"])[0]);
        assert_eq!(store.restore(&cache, KEY, &[])["hit"], "miss");
        assert_eq!(store.save(&cache, KEY, &[])["reason"], "new-key");
        assert!(snapshot_paths(&machine, &cache, KEY).contains(&new));
        let again = store.restore(&cache, KEY, &[]);
        assert_eq!((&again["hit"], &again["paths-restored"]), (&"exact".into(), &0.into()));
        assert_eq!(again["paths-already-valid"], again["paths-in-snapshot"]);
        assert_eq!(again["bytes-downloaded"].as_u64(), entry_size(&cache.join("snapshot")));
        store.assert_verifies();
    }
}

fn entry_size(folder: &std::path::Path) -> Option<u64> {
    let mut entries = std::fs::read_dir(folder).unwrap();
    Some(entries.next()?.unwrap().metadata().unwrap().len())
}
