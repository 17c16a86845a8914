//! The image as the kernel sees it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix_cache::layer::squashfs::{BLOCK_SIZE, FRAGMENT_SIZE};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::Stored;
use crate::support::folder::Folder;
use crate::support::skip_refused;
use crate::support::tree::{Tree, noise, tree};

/// Trees that are large or deep in every way in which the format knows limits.
pub(super) fn odd_trees() -> Vec<Tree> {
    let file = |size, seed| Tree::File(noise(size, seed), seed % 2 == 0);
    let many = (0..3000u64).map(|n| (format!("{n:x}-{}", "name".repeat((n % 40) as usize)).into_bytes(), file(20, n)));
    let mut deep = Tree::Link(vec![b'x'; 4000]);
    for level in 0..60u8 {
        deep = Tree::Directory(BTreeMap::from([
            (vec![b'd', b'0' + level], deep),
            (b"empty".to_vec(), Tree::Directory(BTreeMap::new())),
        ]));
    }
    let mut holes = noise(5 * BLOCK_SIZE + 77, 9);
    holes[BLOCK_SIZE..3 * BLOCK_SIZE].fill(0);
    holes[4 * BLOCK_SIZE..].fill(0);
    let sizes = [
        0,
        1,
        FRAGMENT_SIZE - 1,
        FRAGMENT_SIZE,
        FRAGMENT_SIZE + 1,
        BLOCK_SIZE - 1,
        BLOCK_SIZE,
        BLOCK_SIZE + 1,
        9_000_000,
    ];
    let sizes = sizes.iter().zip(0u64..);
    let sizes = sizes.map(|(size, n)| (vec![b's', n as u8 + 1], file(*size, n)));
    vec![
        Tree::Directory(many.collect()),
        deep,
        Tree::File(holes.clone(), false),
        Tree::File(vec![0; 3 * BLOCK_SIZE], true),
        Tree::Directory(sizes.collect()),
        // A copy of what is above.
        Tree::Directory(BTreeMap::from([(vec![0xff; 255], Tree::File(holes, true))])),
        Tree::Link(b"/nix/store".to_vec()),
        Tree::File(Vec::new(), false),
    ]
}

/// Mounts a layer, looks at it and unmounts it. False where that is refused.
pub(super) fn mounted(layer: &Path, look: impl FnOnce(&Path)) -> bool {
    let point = Folder::new();
    let output = Command::new("mount").args(["-t", "squashfs", "-o", "loop,ro"]).args([layer, point.path()]).output();
    let output = output.expect("there is `mount`");
    if !output.status.success() {
        skip_refused(&format!("No squashfs can be mounted here: {}", String::from_utf8_lossy(&output.stderr)));
        return false;
    }
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(point.path())));
    assert!(Command::new("umount").arg(point.path()).status().unwrap().success());
    if let Err(panic) = seen {
        std::panic::resume_unwind(panic);
    }
    true
}

#[test]
fn the_kernel_mounts_it_and_sees_the_same() {
    let stored = Stored::new(odd_trees());
    let (layer, _) = stored.pack(&stored.items(), 2, "layer");
    mounted(&layer, |point| {
        stored.assert_same(point);
        let many = point.join(stored.infos[0].path.as_str());
        let Tree::Directory(names) = &stored.trees[0] else { unreachable!("it is the large directory") };
        // A lookup by name takes another way through the kernel than a listing.
        for name in names.keys() {
            assert!(fs::symlink_metadata(many.join(std::str::from_utf8(name).unwrap())).is_ok());
        }
        assert!(fs::symlink_metadata(many.join("nowhere")).is_err());
    });
}

#[test]
fn the_kernel_mounts_whatever_was_packed() {
    let mut runner = TestRunner::default();
    for _ in 0..24 {
        let trees: Vec<Tree> = (0..3).map(|_| tree().new_tree(&mut runner).unwrap().current()).collect();
        let stored = Stored::new(trees);
        let (layer, _) = stored.pack(&stored.items(), 2, "layer");
        if !mounted(&layer, |point| stored.assert_same(point)) {
            return;
        }
    }
}

#[test]
fn the_owner_of_a_mounted_image_can_be_set() {
    let stored = Stored::new(odd_trees());
    let (layer, packed) = stored.pack(&stored.items(), 2, "layer");
    nix_cache::layer::squashfs::set_owner(&layer, (0, 0)).unwrap();
    let bytes = fs::File::open(&layer).unwrap();
    assert_eq!(nix_cache::layer::digest::Digests::of_reader(bytes).unwrap(), packed.digests, "nothing changed");
    nix_cache::layer::squashfs::set_owner(&layer, (1234, 1234)).unwrap();
    mounted(&layer, |point| {
        for (tree, info) in stored.trees.iter().zip(&stored.infos) {
            let found = Tree::read_canonical(&point.join(info.path.as_str()), 1234);
            assert!(*tree == found, "{}: {}", info.path, tree.difference(&found));
        }
    });
}
