//! Caches in folders.

use std::fs;
use std::path::{Path, PathBuf};

use nix_cache::layer::digest::Digests;
use nix_cache::snapshot::{Snapshot, decode};

/// Copies a cache.
pub fn copy(from: &Path, to: &Path) {
    for kind in ["snapshot", "layer", "files", "tmp"] {
        fs::create_dir_all(to.join(kind)).unwrap();
        for file in entries(from, kind) {
            fs::copy(&file, to.join(kind).join(file.file_name().unwrap())).unwrap();
        }
    }
}

/// The files of one kind in a cache, by name.
pub fn entries(cache: &Path, kind: &str) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(cache.join(kind)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Asserts that every snapshot in a cache can be read, and that every layer it names is there with the bytes it should have.
/// Gives the snapshots by name.
pub fn assert_whole(cache: &Path) -> Vec<(String, Snapshot)> {
    let mut snapshots = Vec::new();
    for file in entries(cache, "snapshot") {
        let snapshot = decode(&fs::read(&file).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for layer in snapshot.layers.values() {
            let bytes = fs::File::open(cache.join("layer").join(&layer.entry)).expect("a layer was pushed before");
            assert_eq!(Digests::of_reader(bytes).unwrap(), layer.digests, "{}", layer.entry);
        }
        snapshots.push((file.file_name().unwrap().to_string_lossy().into_owned(), snapshot));
    }
    snapshots
}
