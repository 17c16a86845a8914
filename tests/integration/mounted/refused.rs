//! Layers that the packer would not write, with matching digests and snapshot: they are neither mounted nor unpacked.

use std::fs;
use std::path::Path;

use nix_cache::layer::digest::Digests;
use nix_cache::snapshot::{Stored, decode, encode};
use nix_cache::store::StorePath;

use super::{benches, mounts_of};
use crate::layer::changed::Parts;
use crate::support::cache::{copy, entries};
use crate::support::program::{KEY, notes};

/// Changes the layer of a cache that has one, and makes everything that names it fit.
fn change_layer(cache: &Path, change: impl FnOnce(&mut Parts)) {
    let [file] = &entries(cache, "snapshot")[..] else { panic!("there is one generation") };
    let mut snapshot = decode(&fs::read(file).unwrap()).unwrap();
    let (id, mut layer) = snapshot.layers.pop_first().expect("there is a layer");
    assert!(snapshot.layers.is_empty());
    let stored = snapshot.stored.remove(&id).expect("it is stored whole");
    let mut parts = Parts::of(&fs::read(cache.join("layer").join(stored.entry)).unwrap());
    change(&mut parts);
    let bytes = parts.join();
    let digests = Digests::of_reader(&bytes[..]).unwrap();
    let entry = digests.id().to_string();
    fs::write(cache.join("layer").join(&entry), bytes).unwrap();
    snapshot.stored.insert(digests.id(), Stored { digests: digests.clone(), entry });
    layer.digests = digests;
    snapshot.layers.insert(layer.digests.id(), layer);
    fs::remove_file(file).unwrap();
    fs::write(file, encode(&snapshot).unwrap()).unwrap();
}

#[test]
fn an_image_that_the_packer_did_not_make_is_a_miss_with_one_warning() {
    type Change = fn(&mut Parts);
    let changes: [(&str, Change); 4] = [
        ("set-uid", |parts| parts.tables[0][0][3] |= 0x08),
        ("a device", |parts| parts.tables[0][0][0] = 4),
        ("attributes", |parts| parts.superblock[56..64].copy_from_slice(&96_u64.to_le_bytes())),
        ("another owner", |parts| parts.owners[0] = 1),
    ];
    for bench in benches() {
        let all = bench.saved.valid();
        for (number, (what, change)) in changes.into_iter().enumerate() {
            for mode in ["mount", "unpack"] {
                let cache = bench.machine.path(&format!("cache-{number}-{mode}"));
                copy(&bench.cache, &cache);
                change_layer(&cache, change);
                let store = bench.machine.store(&format!("store-{number}-{mode}"));
                let outcome = store.restore(&cache, KEY, &["--restore-mode", mode]);
                assert_eq!(notes(&outcome), ["layer-refused"], "{what}, {mode}: {outcome}");
                assert_eq!(
                    (&outcome["hit"], &outcome["paths-restored"]),
                    (&"miss".into(), &0.into()),
                    "{what}, {mode}"
                );
                assert!(store.valid().is_empty() && mounts_of(&store).is_empty(), "{what}, {mode}");
                let there = |path| fs::symlink_metadata(store.dirs().real(path)).is_ok();
                assert!(!all.iter().any(there), "{what}, {mode}: nothing of it is in the store");
            }
        }
        // The next save replaces the layer.
        let cache = bench.machine.path("cache-0-unpack");
        let store = bench.machine.store("store-0-unpack");
        store.build(&["everything"]);
        store.save(&cache, KEY, &[]);
        let next = bench.machine.store("next");
        let outcome = next.restore(&cache, KEY, &["--restore-mode", "mount"]);
        assert_eq!((&outcome["hit"], &outcome["paths-lost"]), (&"exact".into(), &0.into()), "{outcome}");
        assert!(notes(&outcome).is_empty(), "{outcome}");
        super::detach_cleanly(&next);
    }
}

#[test]
fn what_the_snapshot_does_not_want_of_a_layer_is_not_to_be_seen() {
    for bench in benches() {
        let cache = bench.machine.path("less");
        copy(&bench.cache, &cache);
        let [file] = &entries(&cache, "snapshot")[..] else { panic!("there is one generation") };
        let mut snapshot = decode(&fs::read(file).unwrap()).unwrap();
        let infos: Vec<_> = snapshot.paths.values().map(|record| record.info.clone()).collect();
        let is_needed =
            |path: &StorePath| infos.iter().any(|info| info.path != *path && info.references.contains(path));
        let dropped = infos.iter().map(|info| &info.path).find(|path| !is_needed(path)).expect("something is on top");
        snapshot.retain(|(path, _)| path != dropped);
        fs::remove_file(file).unwrap();
        fs::write(file, encode(&snapshot).unwrap()).unwrap();
        let store = bench.machine.store("store");
        let outcome = store.restore(&cache, KEY, &["--restore-mode", "mount"]);
        assert_eq!((&outcome["hit"], &outcome["mode"]), (&"exact".into(), &"mount".into()), "{outcome}");
        let valid = store.valid().iter().map(ToString::to_string).collect();
        assert_eq!(super::paths_in(&store.dirs().real_store()), valid);
        assert!(!valid.contains(dropped.as_str()));
        // It can be made all the same, and is the store's own then.
        store.build(&["everything"]);
        store.assert_verifies();
        super::detach_cleanly(&store);
    }
}

#[test]
fn taking_a_layer_apart_and_joining_it_changes_nothing() {
    for bench in benches() {
        let cache = bench.machine.path("same");
        copy(&bench.cache, &cache);
        change_layer(&cache, |_| {});
        let store = bench.machine.store("store");
        let outcome = store.restore(&cache, KEY, &["--restore-mode", "mount"]);
        assert_eq!((&outcome["hit"], &outcome["mode"]), (&"exact".into(), &"mount".into()), "{outcome}");
        super::detach_cleanly(&store);
    }
}
