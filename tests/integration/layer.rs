//! Layers: what is packed comes back the same, also by other programs, and nothing wrong ever does.

mod bounds;
pub(crate) mod changed;
mod fuzz;
mod hostile;
mod image;
mod trees;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use nix_archive::nar::{CaseHack, hash_path};

use crate::support::folder::Folder;
use crate::support::tree::Tree;
use nix_cache::attach::unpack::{Target, Unpacked, unpack};
use nix_cache::layer::pack::{Item, Options, Outcome, Packed, pack};
use nix_cache::layer::squashfs::{Image, ImageError};
use nix_cache::store::{NarHash, PathInfo, SharedMap, SharedSet, StorePath};

/// Trees in a store directory, as paths with names that end in a number.
struct Stored {
    folder: Folder,
    infos: Vec<PathInfo>,
    trees: Vec<Tree>,
}

fn store_path(number: usize) -> StorePath {
    format!("{}-path-{number}", "0".repeat(32)).parse().unwrap()
}

fn info(path: StorePath, nar_hash: NarHash, nar_size: u64) -> PathInfo {
    PathInfo {
        path,
        nar_hash,
        nar_size,
        references: SharedSet::new(),
        deriver: None,
        signatures: SharedSet::new(),
        ca: None,
        registration_time: 0,
        ultimate: false,
        outputs: SharedMap::new(),
    }
}

impl Stored {
    fn new(trees: Vec<Tree>) -> Self {
        let folder = Folder::new();
        fs::create_dir(folder.path().join("store")).unwrap();
        let mut infos = Vec::new();
        for (number, tree) in trees.iter().enumerate() {
            let path = store_path(number);
            let place = folder.path().join("store").join(path.as_str());
            tree.write(&place);
            let nar = hash_path(&place, CaseHack::Disabled).unwrap();
            infos.push(info(path, NarHash(nar.sha256), nar.size));
        }
        Self { folder, infos, trees }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn items(&self) -> Vec<Item> {
        self.infos.iter().map(|info| Item { path: info.path.clone(), nar_hash: info.nar_hash }).collect()
    }

    /// Packs `items` and gives the layer's file.
    fn pack(&self, items: &[Item], threads: usize, name: &str) -> (PathBuf, Packed) {
        let file = self.folder.path().join(name);
        match pack_to(&self.store(), items, threads, &file) {
            Outcome::Packed(packed) => (file, packed),
            Outcome::Rejected(rejected) => panic!("{rejected:?}"),
        }
    }

    /// Asserts that the store directory `store` holds these trees and nothing else.
    fn assert_same(&self, store: &Path) {
        assert_eq!(fs::read_dir(store).unwrap().count(), self.trees.len());
        for (tree, info) in self.trees.iter().zip(&self.infos) {
            let found = Tree::read_canonical(&store.join(info.path.as_str()), 0);
            assert!(*tree == found, "{}: {}", info.path, tree.difference(&found));
        }
    }
}

fn pack_to(store: &Path, items: &[Item], threads: usize, file: &Path) -> Outcome {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(file).unwrap();
    pack(store, items, &file, Options { level: 1, threads, ..Options::new() }, &AtomicU64::new(0)).unwrap()
}

/// Unpacks `wanted` from the layer in `file` into the directory `store`, in which nothing is valid.
fn unpack_from(file: &Path, wanted: &[PathInfo], store: &Path) -> Result<Unpacked, ImageError> {
    let image = Image::open(File::open(file).unwrap())?;
    let wanted: Vec<&PathInfo> = wanted.iter().collect();
    let target =
        Target { store, owner: None, is_valid: &|_| false, threads: 2, deadline: None, progress: &AtomicU64::new(0) };
    unpack(&image, &wanted, &target)
}
