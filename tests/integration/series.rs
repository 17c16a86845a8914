//! Series of generations: many jobs that save at once, names that are used up, growth, planted numbers, and one key for two systems.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::cache::{assert_whole, entries};
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{KEY, Run, notes};
use nix_cache::store::StorePath;

/// A number that the environment can make greater.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn github(store: &TestStore, fake: &Fake, verb: &str, more: &[&str]) -> Command {
    let mut command = store.machine.nix_cache(&[verb, "--format", "json", "--primary-key", KEY, "--remote", "github"]);
    command.arg("--store-root").arg(&store.root).args(["--threads", "1"]).args(more).envs(fake.env());
    command
}

/// Adds a file of its own to a store.
fn add(store: &TestStore, name: &str) {
    let file = store.machine.path(name);
    fs::write(&file, format!("{name} {}", store.root.display())).unwrap();
    store.nix_store(&["--add", file.to_str().unwrap()]);
}

fn all(stores: &[TestStore]) -> BTreeSet<StorePath> {
    stores.iter().flat_map(TestStore::valid).collect()
}

#[test]
fn lanes_that_save_at_once_are_all_in_the_newest_generation_and_layers_stay_few() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let fake = Fake::start(FakeConfig { lookup_lag: Duration::from_millis(500), ..FakeConfig::default() });
    let lanes = number("NIX_CACHE_TEST_LANES", 12);
    let stores: Vec<TestStore> = (0..lanes).map(|lane| machine.store(&format!("store-{lane}"))).collect();
    for (lane, store) in stores.iter().enumerate() {
        add(store, &format!("file-{lane}"));
    }
    let start = |(lane, store): (usize, &TestStore)| -> Child {
        let mut command = github(store, &fake, "save", &["--lane", &format!("lane-{lane}")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let saves: Vec<Child> = stores.iter().enumerate().map(start).collect();
    for save in saves {
        let output = save.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {log}"));
        assert!(outcome["saved"].is_object(), "{outcome}\n{log}");
    }
    let creates = fake.stats().count(Operation::Create);
    println!("{lanes} lanes: {creates} reservations, {} lookups", fake.stats().count(Operation::Lookup));
    // How many they are depends on how busy this machine is; the simulation beside the code has a time of its own and a closer bound.
    assert!(creates <= lanes as u64 * 5, "{creates} reservations for {lanes} lanes");
    let new = machine.store("new");
    let outcome = Run::of(github(&new, &fake, "restore", &["--lane", "never seen"])).json();
    assert_eq!(new.valid(), all(&stores), "{outcome}");
    assert!(outcome["layers"].as_array().unwrap().len() <= 8, "{outcome}");
    new.assert_sound();
}

#[test]
fn names_that_unfinished_saves_used_up_do_not_keep_later_saves_from_it() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let fake = Fake::start(FakeConfig::default());
    let store = machine.store("store");
    store.build(&["one"]);
    // The upload of the layer fails: its name is reserved for good.
    fake.fault(Fault::new(FaultName::ExpiredUrl).on(Operation::PutBlob));
    for _ in 0..6 {
        let outcome = Run::of(github(&store, &fake, "save", &[])).json();
        assert_eq!(notes(&outcome), ["save-failed"], "{outcome}");
    }
    fake.clear_faults();
    // Now that of the generation.
    fake.fault(Fault::new(FaultName::ExpiredUrl).on(Operation::PutBlob).after(1));
    let outcome = Run::of(github(&store, &fake, "save", &[])).json();
    assert_eq!(notes(&outcome), ["save-failed"], "{outcome}");
    fake.clear_faults();
    assert!(fake.stats().reservations >= 7, "{:?}", fake.stats());
    let run = Run::of(github(&store, &fake, "save", &[]));
    assert_eq!(run.json()["saved"]["generation"], 2, "{}", run.log);
    assert!(run.log.contains("not finished") && !run.log.contains("merging"), "{}", run.log);
    let second = machine.store("second");
    assert_eq!(Run::of(github(&second, &fake, "restore", &[])).json()["hit"], "exact");
    assert_eq!(second.valid(), store.valid());
}

#[test]
fn an_answer_that_got_lost_after_the_last_byte_is_looked_up() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let fake = Fake::start(FakeConfig::default());
    let store = machine.store("store");
    store.build(&["one"]);
    fake.fault(Fault::new(FaultName::LostReply).on(Operation::Finalize));
    let outcome = Run::of(github(&store, &fake, "save", &[])).json();
    assert_eq!((&outcome["reason"], &notes(&outcome).len()), (&"new-key".into(), &0), "{outcome}");
    let second = machine.store("second");
    assert_eq!(Run::of(github(&second, &fake, "restore", &[])).json()["hit"], "exact");
}

#[test]
fn a_planted_number_neither_ends_a_series_nor_hides_it() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["one"]);
    store.save(&cache, KEY, &[]);
    for number in ["18446744073709551615", "18446744073709551614", "99999999999"] {
        let planted = cache.join("snapshot").join(format!("{KEY}#g{number}"));
        fs::write(&planted, "planted").unwrap();
        let next = machine.store(&format!("next-{number}"));
        let restored = next.restore(&cache, KEY, &[]);
        assert_eq!((&restored["hit"], &restored["paths-lost"]), (&"exact".into(), &0.into()), "{restored}");
        add(&next, &format!("file-{number}"));
        let saved = next.save(&cache, KEY, &[]);
        assert_eq!(saved["reason"], "new-paths", "{saved}");
        assert!(saved["saved"]["generation"].as_u64() < Some(10), "{saved}");
        fs::remove_file(planted).unwrap();
        let last = machine.store(&format!("last-{number}"));
        last.restore(&cache, KEY, &[]);
        assert_eq!(last.valid(), next.valid());
    }
    assert_whole(&cache);
}

#[test]
fn one_key_for_two_systems_has_a_snapshot_for_each() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let cache = machine.path("cache");
    let systems = ["x86_64-linux", "aarch64-linux"];
    let stores = systems.map(|system| machine.store(system));
    for (store, system) in stores.iter().zip(systems) {
        add(store, &format!("for-{system}"));
        let outcome = store.save(&cache, KEY, &["--system", system]);
        assert_eq!(outcome["reason"], "new-key", "{outcome}");
    }
    for (store, system) in stores.iter().zip(systems) {
        let second = machine.store(&format!("{system}-second"));
        let restored = second.restore(&cache, KEY, &["--system", system]);
        assert_eq!((&restored["hit"], second.valid()), (&"exact".into(), store.valid()), "{restored}");
        add(&second, &format!("more-for-{system}"));
        assert_eq!(second.save(&cache, KEY, &["--system", system])["reason"], "new-paths");
        let third = machine.store(&format!("{system}-third"));
        third.restore(&cache, KEY, &["--system", system]);
        assert_eq!(third.valid(), second.valid());
    }
    let third = machine.store("riscv64-linux");
    let restored = third.restore(&cache, KEY, &["--system", "riscv64-linux"]);
    assert_eq!((&restored["hit"], notes(&restored)), (&"miss".into(), vec!["snapshot-other-system"]), "{restored}");
}

#[test]
fn under_one_key_what_newer_paths_replaced_goes_after_a_few_saves() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let cache = machine.path("cache");
    let generations = number("NIX_CACHE_TEST_GENERATIONS", 9);
    let keep = if generations > 20 { 5 } else { 2 };
    let more = ["--keep-saves", &keep.to_string()];
    let first = machine.store("first");
    add(&first, "only-read");
    let read = first.valid();
    first.build(&["everything", "salt=0"]);
    first.save(&cache, KEY, &more);
    let base = first.valid().len();
    let (mut changed, mut changed_bytes, mut sent) = (0, 0, 0);
    for generation in 1..=generations {
        let store = machine.store("store");
        let restored = store.restore(&cache, KEY, &[]);
        assert_eq!((&restored["hit"], &restored["paths-lost"]), (&"exact".into(), &0.into()), "{restored}");
        let before = store.valid();
        let salt = |number| format!("salt={number}");
        assert_eq!(store.builds(&["everything", &salt(generation - 1)]), 0, "the last job's paths are here");
        // What a job only reads leaves no trace, and stays.
        assert!(before.is_superset(&read));
        store.build(&["everything", &salt(generation)]);
        changed = store.valid().difference(&before).count();
        let saved = store.save(&cache, KEY, &more);
        assert_eq!(saved["reason"], "new-paths", "{saved}");
        let paths = saved["saved"]["paths"].as_u64().unwrap() as usize;
        // What the last job needed, in a cache of its own.
        let alone = machine.path("alone");
        let fresh = machine.store("fresh");
        fresh.build(&["everything", &salt(generation)]);
        add(&fresh, "only-read");
        fresh.save(&alone, KEY, &[]);
        let bytes = |folder| -> u64 { entries(folder, "layer").iter().map(|e| fs::metadata(e).unwrap().len()).sum() };
        let needed = bytes(&alone);
        let held = bytes(&cache);
        let downloaded = restored["bytes-downloaded"].as_u64().unwrap();
        let uploaded = saved["bytes-uploaded"].as_u64().unwrap();
        sent += uploaded;
        if generation == 1 {
            // Nothing is there yet that could be packed again.
            changed_bytes = uploaded;
        }
        let count = entries(&cache, "layer").len();
        println!(
            "generation {generation}: {paths} paths, {downloaded} bytes down, {needed} needed, {uploaded} up, {held} held in {count} entries"
        );
        assert!(paths <= base + changed * (keep + 1), "{paths} paths, {base} at first, {changed} with each save");
        assert!(downloaded * 10 <= needed * 12, "{downloaded} bytes fetched, {needed} needed");
        for folder in [store.root, fresh.root, alone] {
            nix_cache::store::tree::remove_tree(&folder).unwrap();
        }
    }
    assert!(changed > 5, "{changed} paths change with each save");
    println!("{sent} bytes sent in {generations} saves, {changed_bytes} in the first of them");
    let most = changed_bytes * generations as u64 * 3;
    assert!(sent <= most, "{sent} bytes sent in {generations} saves, {changed_bytes} in the first of them");
    assert_whole(&cache);
}
