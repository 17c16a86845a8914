//! Files of a cache that are damaged, truncated, emptied, missing or replaced.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::cache::{copy, entries};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix::{self, Nix};
use crate::support::program::{KEY, notes};
use crate::support::random::Random;
use crate::support::rows::rows;

/// What can happen to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// One bit of the byte at this place, in thousandths of the file, is another.
    Flip(u64),
    /// What follows this place is cut off.
    Cut(u64),
    /// It was evicted.
    Delete,
    /// It holds what another file of the cache holds.
    Replace,
}

/// A cache with two generations: everything, and what was built on top of it.
struct Cached {
    machine: Machine,
    cache: PathBuf,
    store: TestStore,
}

fn cached(nix: &Nix) -> Cached {
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["everything"]);
    store.save(&cache, KEY, &[]);
    store.build(&["onTop"]);
    assert_eq!(store.save(&cache, KEY, &[])["saved"]["layers"], 2);
    Cached { machine, cache, store }
}

fn files(cache: &Path) -> Vec<PathBuf> {
    let all = [entries(cache, "snapshot"), entries(cache, "layer")].concat();
    assert_eq!(all.len(), 4);
    all.iter().map(|file| file.strip_prefix(cache).unwrap().to_owned()).collect()
}

fn inflict(damage: Damage, file: &Path, other: &Path) {
    let bytes = fs::read(file).unwrap();
    let written = fs::metadata(file).unwrap().modified().unwrap();
    let place = |thousandths: u64| (bytes.len() as u64 - 1) * thousandths / 1000;
    match damage {
        Damage::Flip(at) => {
            let mut bytes = bytes.clone();
            bytes[place(at) as usize] ^= 1 << (at % 8);
            fs::write(file, bytes).unwrap();
        }
        Damage::Cut(at) => fs::File::options().write(true).open(file).unwrap().set_len(place(at)).unwrap(),
        Damage::Delete => fs::remove_file(file).unwrap(),
        Damage::Replace => drop(fs::copy(other, file).unwrap()),
    }
    if let Ok(file) = fs::File::options().write(true).open(file) {
        file.set_modified(written).unwrap();
    }
}

/// Damages one file of a copy of the cache and restores from that. Whatever it was, what is valid then is sound and a part of
/// what was saved.
fn restore_damaged(cached: &Cached, name: &str, file: &Path, damage: Damage) -> (PathBuf, TestStore) {
    let cache = cached.machine.path(&format!("{name}-cache"));
    copy(&cached.cache, &cache);
    let other = files(&cache).into_iter().rev().find(|other| other != file).unwrap();
    inflict(damage, &cache.join(file), &cache.join(other));
    let store = cached.machine.store(name);
    let outcome = store.restore(&cache, KEY, &[]);
    let case = format!("{} {damage:?}: {outcome}", file.display());
    store.assert_sound();
    store.assert_tidy();
    let (all, here) = (rows(&cached.store).restored(), rows(&store));
    assert!(here.paths.iter().all(|(path, row)| all.paths.get(path) == Some(row)), "{case}");
    assert_eq!(outcome["paths-restored"], here.paths.len(), "{case}");
    let is_oldest = file.ends_with(format!("{KEY}#g1"));
    if is_oldest {
        assert_eq!((&outcome["hit"], here.paths.len()), (&"exact".into(), all.paths.len()), "{case}");
    } else {
        assert!(here.paths.len() < all.paths.len(), "{case}");
        // A generation that is simply not there is nothing to warn of.
        let is_silent = matches!(damage, Damage::Delete) && file.starts_with("snapshot");
        assert_eq!(notes(&outcome).is_empty(), is_silent, "{case}");
        assert_eq!(outcome["hit"] == "miss", here.paths.is_empty(), "{case}");
    }
    (cache, store)
}

#[test]
fn a_damaged_entry_makes_the_hit_smaller_and_harms_nothing() {
    let Some(nix) = nix::all().last() else { return };
    let cached = cached(nix);
    let mut random = Random::new();
    for (number, file) in files(&cached.cache).iter().enumerate() {
        let chosen = [Damage::Flip(0), Damage::Flip(1000), Damage::Cut(0), Damage::Cut(1000), Damage::Cut(500)];
        let flips = (0..6).map(|_| Damage::Flip(random.below(1001)));
        for (turn, damage) in chosen.into_iter().chain(flips).chain([Damage::Replace]).enumerate() {
            let (cache, store) = restore_damaged(&cached, &format!("case-{number}-{turn}"), file, damage);
            if turn % 4 == 0 {
                store.assert_verifies();
            }
            nix_cache::store::tree::remove_tree(&store.root).unwrap();
            nix_cache::store::tree::remove_tree(&cache).unwrap();
        }
    }
}

#[test]
fn the_next_save_heals_a_damaged_cache() {
    for nix in nix::all() {
        let cached = cached(nix);
        for (number, file) in files(&cached.cache).iter().enumerate() {
            for (turn, damage) in [Damage::Flip(500), Damage::Cut(0), Damage::Delete].into_iter().enumerate() {
                let name = format!("case-{number}-{turn}");
                let (cache, store) = restore_damaged(&cached, &name, file, damage);
                store.build(&["everything"]);
                store.build(&["onTop"]);
                store.save(&cache, KEY, &[]);
                let next = cached.machine.store(&format!("{name}-next"));
                let outcome = next.restore(&cache, KEY, &[]);
                let case = format!("{} {damage:?} with Nix {}: {outcome}", file.display(), nix.version);
                assert_eq!((&outcome["hit"], &outcome["paths-lost"]), (&"exact".into(), &0.into()), "{case}");
                assert_eq!(notes(&outcome), [""; 0], "{case}");
                assert_eq!(next.valid(), store.valid(), "{case}");
                assert_eq!(next.builds(&["everything", "onTop"]), 0, "{case}");
                next.assert_verifies();
            }
        }
    }
}

#[test]
fn a_lost_layer_is_stored_again_under_another_name() {
    for nix in nix::all() {
        let cached = cached(nix);
        let layers = entries(&cached.cache, "layer");
        for (number, layer) in layers.iter().enumerate() {
            let file = layer.strip_prefix(&cached.cache).unwrap();
            let (cache, store) = restore_damaged(&cached, &format!("case-{number}"), file, Damage::Flip(300));
            store.build(&["everything"]);
            store.build(&["onTop"]);
            let saved = store.save(&cache, KEY, &[]);
            assert_eq!((&saved["reason"], notes(&saved)), (&"new-paths".into(), vec!["entries-lost"]));
            // The damaged entry keeps its name, which is taken for good.
            assert!(entries(&cache, "layer").len() > layers.len());
            assert_ne!(fs::read(cache.join(file)).unwrap(), fs::read(layer).unwrap());
        }
    }
}

#[test]
fn a_hole_in_the_cache_does_not_keep_itself_alive() {
    for nix in nix::all() {
        let Cached { machine, cache, store } = cached(nix);
        for (number, layer) in entries(&cache, "layer").iter().enumerate() {
            let holed = machine.path(&format!("holed-{number}"));
            copy(&cache, &holed);
            fs::remove_file(holed.join(layer.strip_prefix(&cache).unwrap())).unwrap();
            // It has every path, and fetches nothing.
            let outcome = store.save(&holed, KEY, &[]);
            assert_eq!(outcome["saved"]["generation"], 3, "{outcome}");
            assert_eq!(notes(&outcome), ["entries-lost"]);
            assert_whole_newest(&holed, 3);
            let next = machine.store(&format!("next-{number}"));
            let restored = next.restore(&holed, KEY, &[]);
            assert_eq!((&restored["hit"], &restored["paths-lost"]), (&"exact".into(), &0.into()), "{restored}");
            assert_eq!(next.valid(), store.valid());
            assert_eq!(store.save(&holed, KEY, &[])["reason"], "nothing-new");
        }
        // A machine that cannot rebuild the lost part drops it, after two lookups, and keeps the rest.
        let holed = machine.path("holed");
        copy(&cache, &holed);
        let newest = newest_layer(&cache);
        fs::remove_file(holed.join("layer").join(newest)).unwrap();
        let other = machine.store("other");
        assert_eq!(other.restore(&holed, KEY, &[])["hit"], "exact");
        let outcome = other.save(&holed, KEY, &[]);
        assert_eq!(outcome["reason"], "repaired", "{outcome}");
        assert_whole_newest(&holed, 3);
        let next = machine.store("next");
        let restored = next.restore(&holed, KEY, &[]);
        assert_eq!((notes(&restored), next.valid()), (vec![], other.valid()));
    }
}

/// The file of the layer that the second generation added.
fn newest_layer(cache: &Path) -> String {
    let snapshot = |number| {
        let bytes = fs::read(cache.join("snapshot").join(format!("{KEY}#g{number}"))).unwrap();
        nix_cache::snapshot::decode(&bytes).unwrap()
    };
    let (first, second) = (snapshot(1), snapshot(2));
    let new = second.stored.iter().find(|(id, _)| !first.stored.contains_key(id)).unwrap();
    new.1.entry.clone()
}

/// Asserts that all that generation `number` names is there.
fn assert_whole_newest(cache: &Path, number: u64) {
    let bytes = fs::read(cache.join("snapshot").join(format!("{KEY}#g{number}"))).unwrap();
    let snapshot = nix_cache::snapshot::decode(&bytes).unwrap();
    for stored in snapshot.stored.values() {
        let file = fs::File::open(cache.join("layer").join(&stored.entry)).expect("it is there");
        assert_eq!(nix_cache::layer::digest::Digests::of_reader(file).unwrap(), stored.digests);
    }
}
