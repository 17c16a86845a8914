//! Trees of every kind, there and back.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use nix_cache::layer::hash_of;
use nix_cache::layer::pack::Outcome;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, proptest};

use super::{Stored, pack_to, unpack_from};
use crate::support::check::flip_byte;
use crate::support::folder::Folder;
use crate::support::skip;
use crate::support::tree::{Tree, noise, tree};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_was_packed_is_unpacked_the_same(trees in vec(tree(), 1..5)) {
        let stored = Stored::new(trees);
        let (layer, packed) = stored.pack(&stored.items(), 2, "layer");
        assert_eq!(packed.nodes, stored.trees.iter().map(Tree::nodes).sum::<u64>());
        let target = Folder::new();
        let unpacked = unpack_from(&layer, &stored.infos, target.path()).unwrap();
        assert!(unpacked.rejected.is_empty() && unpacked.already.is_empty(), "{unpacked:?}");
        assert_eq!(unpacked.placed.len(), stored.trees.len());
        stored.assert_same(target.path());
        for info in &stored.infos {
            assert_eq!(hash_of(&target.path().join(info.path.as_str())).unwrap(), info.nar_hash);
        }
    }

    #[test]
    fn the_same_paths_are_the_same_bytes(trees in vec(tree(), 1..5)) {
        let stored = Stored::new(trees);
        let (one, first) = stored.pack(&stored.items(), 1, "one");
        let mut items = stored.items();
        items.reverse();
        items.push(items[0].clone());
        let (four, second) = stored.pack(&items, 4, "four");
        // Elsewhere, with other inodes, modes and times.
        let target = Folder::new();
        unpack_from(&one, &stored.infos, target.path()).unwrap();
        let elsewhere = target.path().join("layer");
        let Outcome::Packed(third) = pack_to(target.path(), &items, 3, &elsewhere) else { panic!("it was sound") };
        assert_eq!((&first.digests, &first.digests), (&second.digests, &third.digests));
        let bytes = fs::read(one).unwrap();
        assert!(bytes == fs::read(four).unwrap() && bytes == fs::read(elsewhere).unwrap());
        let digests = nix_cache::layer::digest::Digests::of_reader(&bytes[..]).unwrap();
        assert_eq!(digests, first.digests);
    }
}

/// Nix's own hash of a path, for what ours is compared with.
#[test]
fn a_nar_hash_is_that_of_nix() {
    let Some(nix) = crate::support::nix::all().first() else { return };
    let machine = crate::support::machine::Machine::new(nix);
    let trees = [Tree::File(noise(5000, 1), true), Tree::Link(b"somewhere".to_vec())];
    let both = trees.iter().cloned().zip(0u8..).map(|(tree, number)| (vec![b'n', number + 1], tree)).collect();
    for tree in trees.into_iter().chain([Tree::Directory(both)]) {
        let stored = Stored::new(vec![tree]);
        let place = stored.store().join(stored.infos[0].path.as_str());
        let output = machine.command("nix-hash").args(["--type", "sha256"]).arg(&place).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.trim(), stored.infos[0].nar_hash.to_string(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn some_trees() -> Vec<Tree> {
    let folder = |names: &[&str]| {
        let files = names.iter().map(|name| (name.as_bytes().to_vec(), Tree::File(noise(300_000, 5), false)));
        Tree::Directory(files.collect())
    };
    vec![folder(&["a", "b"]), folder(&["c"]), Tree::File(b"a small file".to_vec(), false)]
}

#[test]
fn a_corrupt_path_is_rejected_and_no_layer_is_made() {
    for (number, file) in ["a", "c", ""].iter().enumerate() {
        let stored = Stored::new(some_trees());
        let path = &stored.infos[number].path;
        let place = stored.store().join(path.as_str());
        flip_byte(&if file.is_empty() { place } else { place.join(file) }, 10);
        let outcome = pack_to(&stored.store(), &stored.items(), 2, &stored.folder.path().join("layer"));
        let Outcome::Rejected(rejected) = outcome else { panic!("{outcome:?}") };
        let names: Vec<_> = rejected.iter().map(|rejected| &rejected.path).collect();
        assert_eq!(names, [path]);
        assert!(rejected[0].why.contains("corrupt"), "{rejected:?}");
    }
}

#[test]
fn what_no_store_path_can_hold_is_rejected() {
    let stored = Stored::new(some_trees());
    let place = stored.store().join(stored.infos[0].path.as_str());
    assert!(Command::new("mkfifo").arg(place.join("pipe")).status().unwrap().success());
    fs::remove_file(stored.store().join(stored.infos[2].path.as_str())).unwrap();
    let outcome = pack_to(&stored.store(), &stored.items(), 2, &stored.folder.path().join("layer"));
    let Outcome::Rejected(rejected) = outcome else { panic!("{outcome:?}") };
    let names: std::collections::BTreeSet<_> = rejected.iter().map(|rejected| &rejected.path).collect();
    assert_eq!(names, [&stored.infos[0].path, &stored.infos[2].path].into());
}

#[test]
fn a_symlink_in_the_way_is_not_followed() {
    let stored = Stored::new(some_trees());
    let (layer, _) = stored.pack(&stored.items(), 2, "layer");
    let (target, outside) = (Folder::new(), Folder::new());
    for info in &stored.infos {
        symlink(outside.path(), target.path().join(info.path.as_str())).unwrap();
    }
    let unpacked = unpack_from(&layer, &stored.infos, target.path()).unwrap();
    assert_eq!(unpacked.placed.len(), 3, "{unpacked:?}");
    stored.assert_same(target.path());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn unsquashfs_extracts_the_same() {
    if Command::new("unsquashfs").arg("-version").output().is_err() {
        return skip("There is no `unsquashfs` on PATH.");
    }
    let stored = Stored::new(super::image::odd_trees());
    let (layer, _) = stored.pack(&stored.items(), 2, "layer");
    let target = Folder::new();
    let place = target.path().join("out");
    let output = Command::new("unsquashfs").arg("-no-progress").arg("-d").arg(&place).arg(&layer).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    if rustix::process::geteuid().is_root() {
        stored.assert_same(&place);
    }
    for info in &stored.infos {
        assert_eq!(hash_of(&place.join(info.path.as_str())).unwrap(), info.nar_hash);
    }
}
