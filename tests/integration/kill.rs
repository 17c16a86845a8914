//! Restores and saves that are killed, at any moment: the store and the cache stay sound, and the next run works.
//!
//! `NIX_CACHE_TEST_KILLS` says how often, for both together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::cache::{assert_whole, entries};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{KEY, notes};
use crate::support::random::Random;
use crate::support::rows::{Rows, rows};
use nix_cache::store::tree::remove_tree;

pub(crate) fn kills() -> u64 {
    std::env::var("NIX_CACHE_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// A store of a few hundred paths.
fn large_store(machine: &Machine) -> TestStore {
    let store = machine.store("large");
    store.build(&["everything", "count=100"]);
    assert!(store.valid().len() > 300);
    store
}

/// How long `command` takes when nothing happens to it.
pub(crate) fn duration(mut command: Command) -> Duration {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("nix-cache runs");
    assert!(status.success());
    start.elapsed()
}

/// Runs `command` and kills it. The moment is anywhere in what it takes as a rule; every second time in the last third, in
/// which most is written. Returns whether it was still running.
pub(crate) fn kill_somewhere(mut command: Command, usual: Duration, random: &mut Random) -> bool {
    let share = if random.below(2) == 0 { random.below(1050) } else { 666 + random.below(384) };
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nix-cache runs");
    std::thread::sleep(usual * share as u32 / 1000);
    // The standard library's kill is SIGKILL: the program has no chance to clean up.
    child.kill().expect("a child can be killed");
    !child.wait().expect("a child can be waited for").success()
}

/// Asserts that of what is valid in `store` everything is as in `all`.
pub(crate) fn assert_part_of(store: &TestStore, all: &Rows) {
    let here = rows(store);
    assert!(here.paths.iter().all(|(path, row)| all.paths.get(path) == Some(row)));
    assert!(here.references.is_subset(&all.references));
    let expected = all.references.iter().filter(|(referrer, _)| here.paths.contains_key(referrer)).count();
    assert_eq!(here.references.len(), expected, "what is valid has all its references");
}

/// Asserts that our folder beside the store holds nothing large that nobody needs any more.
fn assert_no_leftovers(store: &TestStore) {
    let own = store.dirs().own_dir();
    let files = walkdir::WalkDir::new(&own).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let names: Vec<PathBuf> = files.map(|entry| entry.path().strip_prefix(&own).unwrap().to_owned()).collect();
    // What a save was packing when it was killed is removed by the next save, and the indexes of layers are for it.
    let is_known = |name: &&PathBuf| {
        let name = name.to_string_lossy();
        ["lock", "restore.json", "unverified.json"].contains(&&*name)
            || name.starts_with("layer-")
            || name.starts_with("indexes/")
    };
    let odd: Vec<&PathBuf> = names.iter().filter(|name| !is_known(name)).collect();
    assert!(odd.is_empty(), "left behind in {}: {odd:?}", own.display());
}

#[test]
fn a_restore_that_is_killed_leaves_a_sound_store() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (cache, first) = (machine.path("cache"), large_store(&machine));
    first.save(&cache, KEY, &[]);
    let all = rows(&first).restored();
    let usual = duration(machine.store("measured").verb("restore", &cache, KEY, &[]));
    let (mut random, mut killed, mut unfinished) = (Random::new(), 0, 0);
    for turn in 0..kills().div_ceil(2) {
        let store = machine.store(&format!("store-{turn}"));
        killed += u64::from(kill_somewhere(store.verb("restore", &cache, KEY, &[]), usual, &mut random));
        assert_part_of(&store, &all);
        store.assert_sound();
        unfinished += u64::from(store.valid().len() < first.valid().len());
        if turn % 10 == 0 {
            store.assert_verifies();
        }
        let outcome = store.restore(&cache, KEY, &[]);
        assert_eq!((&outcome["hit"], notes(&outcome)), (&"exact".into(), vec![]), "{outcome}");
        assert_eq!(rows(&store), all);
        store.assert_tidy();
        assert_no_leftovers(&store);
        if turn % 10 == 0 {
            store.assert_sound();
            store.assert_verifies();
            // What was valid before the one that was killed is all that it counts as there before.
            assert_eq!(store.save(&cache, &format!("later-{turn}"), &[])["saved"]["paths"], all.paths.len());
        }
        remove_tree(&store.root).unwrap();
    }
    println!("{killed} restores were killed, {unfinished} before all was valid");
}

/// The bytes of every entry of a cache.
fn contents(cache: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let all = [entries(cache, "snapshot"), entries(cache, "layer")].concat();
    all.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[test]
fn a_save_that_is_killed_leaves_a_sound_cache() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let store = large_store(&machine);
    let all = rows(&store);
    let usual = duration(store.verb("save", &machine.path("measured"), KEY, &[]));
    let (mut random, mut killed, mut unfinished) = (Random::new(), 0, 0);
    for turn in 0..kills() / 2 {
        let cache = machine.path(&format!("cache-{turn}"));
        killed += u64::from(kill_somewhere(store.verb("save", &cache, KEY, &[]), usual, &mut random));
        let saved = assert_whole(&cache);
        unfinished += u64::from(saved.is_empty());
        let before = contents(&cache);
        let outcome = store.save(&cache, KEY, &[]);
        assert_eq!(outcome["reason"], if saved.is_empty() { "new-key" } else { "nothing-new" }, "{outcome}");
        assert_eq!(notes(&outcome), [""; 0]);
        // No entry was written twice, and none has changed.
        assert_eq!((entries(&cache, "snapshot").len(), entries(&cache, "layer").len()), (1, 1));
        assert!(before.iter().all(|(file, bytes)| fs::read(file).unwrap() == *bytes));
        assert_whole(&cache);
        if turn % 10 == 0 {
            let second = machine.store(&format!("second-{turn}"));
            second.restore(&cache, KEY, &[]);
            assert_eq!(rows(&second), all.clone().restored());
            second.assert_sound();
            second.assert_verifies();
            remove_tree(&second.root).unwrap();
        }
        remove_tree(&cache).unwrap();
    }
    println!("{killed} saves were killed, {unfinished} before a snapshot was written");
    assert_eq!(rows(&store), all, "a save changes nothing in the store");
    store.assert_verifies();
    store.restore(&machine.path("measured"), KEY, &[]);
    assert_no_leftovers(&store);
}
