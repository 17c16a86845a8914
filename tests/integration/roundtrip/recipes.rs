//! Layers that are stored as recipes: bytes of older layers are not uploaded again, and are restored anyway.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::inspect;
use crate::support::cache::{assert_whole, copy, entries};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix::{self, Nix};
use crate::support::program::{KEY, notes};
use crate::support::random::mix;
use crate::support::rows::rows;

/// A cache with a large source under two generations: as it was first, and with one of its files changed.
struct Changed {
    machine: Machine,
    cache: PathBuf,
    /// The store that saved the second one.
    store: TestStore,
    /// What that save said.
    outcome: Value,
}

/// Files that do not compress: three large ones and some dozens that share blocks.
fn source(machine: &Machine, changed: u64) -> PathBuf {
    let folder = machine.path(&format!("source-{changed}/source"));
    fs::create_dir_all(&folder).unwrap();
    for number in 0..60 {
        let seed = number << 32 | if number == 30 { changed << 24 } else { 0 };
        let size = if number < 3 { 700_000 } else { 2_000 + mix(seed) % 20_000 };
        let bytes: Vec<u8> = (0..size).map(|at| mix(seed + at) as u8).collect();
        fs::write(folder.join(format!("file-{number}")), bytes).unwrap();
    }
    folder
}

fn add(store: &TestStore, changed: u64) {
    let folder = source(&store.machine, changed);
    store.nix_store(&["--add", folder.to_str().unwrap()]);
}

fn changed(nix: &Nix, mode: &str) -> Changed {
    let machine = Machine::new(nix);
    let (cache, first) = (machine.path("cache"), machine.store("first"));
    // So much that the first layer is not packed again with the second.
    add(&first, 0);
    first.build(&["everything"]);
    first.save(&cache, KEY, &[]);
    let store = machine.store("second");
    assert_eq!(store.restore(&cache, KEY, &["--restore-mode", mode])["hit"], "exact");
    add(&store, 1);
    let outcome = store.save(&cache, KEY, &[]);
    Changed { machine, cache, store, outcome }
}

#[test]
fn a_source_with_one_file_changed_travels_as_little_more_than_that_file() {
    for nix in nix::all() {
        let Changed { machine, cache, store, outcome } = changed(nix, "unpack");
        assert_eq!(outcome["reason"], "new-paths", "{outcome}");
        let sent = outcome["bytes-uploaded"].as_u64().unwrap();
        assert!(sent < 400_000, "{sent} bytes were sent for one small file of 2.7 MB");
        let layers = inspect(&machine, &cache, KEY)["layers"].clone();
        let is_recipe = |layer: &&Value| layer["stored-bytes"].as_u64() < layer["bytes"].as_u64();
        assert_eq!(layers.as_array().unwrap().iter().filter(is_recipe).count(), 1, "{layers}");
        assert_whole(&cache);

        let third = machine.store("third");
        let restored = third.restore(&cache, KEY, &[]);
        assert_eq!((&restored["hit"], &restored["paths-lost"]), (&"exact".into(), &0.into()), "{restored}");
        assert_eq!(rows(&third), rows(&store).restored());
        third.assert_sound();
        third.assert_verifies();
    }
}

#[test]
fn recipes_follow_recipes() {
    let Changed { machine, cache, mut store, .. } = changed(&nix::all()[0], "unpack");
    for step in 2..8 {
        let next = machine.store(&format!("store-{step}"));
        assert_eq!(next.restore(&cache, KEY, &[])["paths-lost"], 0);
        assert_eq!(rows(&next), rows(&store).restored());
        add(&next, step);
        // Nothing that newer files replaced is dropped, or layers would be packed again.
        let outcome = next.save(&cache, KEY, &["--keep-saves", "0"]);
        let sent = outcome["bytes-uploaded"].as_u64().unwrap();
        assert!(sent < 2_000_000, "step {step} sent {sent} bytes");
        assert!(outcome["saved"]["layers"].as_u64().unwrap() <= 8);
        next.assert_sound();
        store = next;
    }
    assert_whole(&cache);
    store.assert_verifies();
}

#[test]
fn what_an_older_layer_has_lost_is_a_smaller_hit_and_is_saved_again() {
    let Changed { machine, cache, store, .. } = changed(&nix::all()[0], "unpack");
    for (number, file) in (0..).zip(entries(&cache, "layer")) {
        let damaged = machine.path(&format!("damaged-{number}"));
        copy(&cache, &damaged);
        fs::remove_file(damaged.join("layer").join(file.file_name().unwrap())).unwrap();
        let third = machine.store(&format!("third-{number}"));
        let restored = third.restore(&damaged, KEY, &[]);
        assert!(notes(&restored).contains(&"layer-missing"), "{restored}");
        assert!(restored["paths-lost"].as_u64() > Some(0), "{restored}");
        third.assert_sound();
        third.assert_verifies();
        // Made anew, everything is saved again, and whole.
        add(&third, 0);
        add(&third, 1);
        third.build(&["everything"]);
        third.save(&damaged, KEY, &[]);
        let healed = machine.store(&format!("healed-{number}"));
        let restored = healed.restore(&damaged, KEY, &[]);
        assert_eq!((&restored["hit"], &restored["paths-lost"]), (&"exact".into(), &0.into()), "{restored}");
        assert_eq!(healed.valid(), store.valid());
        healed.assert_sound();
    }
}

#[test]
fn without_the_indexes_of_the_restore_a_layer_is_stored_whole() {
    let Changed { cache, store, .. } = changed(&nix::all()[0], "unpack");
    for file in fs::read_dir(store.dirs().own_dir().join("indexes")).unwrap() {
        let file = file.unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        bytes[100] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    add(&store, 2);
    let outcome = store.save(&cache, KEY, &[]);
    assert!(outcome["bytes-uploaded"].as_u64() > Some(2_000_000), "{outcome}");
    assert_whole(&cache);
}
