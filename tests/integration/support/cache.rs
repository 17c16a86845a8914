//! Caches in folders.

use std::fs;
use std::path::{Path, PathBuf};

use nix_cache::layer::digest::Digests;
use nix_cache::layer::recipe::assemble;
use nix_cache::snapshot::{Snapshot, Stored, decode};

/// Copies a cache.
pub(crate) fn copy(from: &Path, to: &Path) {
    for kind in ["snapshot", "layer", "files", "offer", "tmp"] {
        fs::create_dir_all(to.join(kind)).unwrap();
        for file in entries(from, kind) {
            fs::copy(&file, to.join(kind).join(file.file_name().unwrap())).unwrap();
        }
    }
}

/// The files of one kind in a cache, by name.
pub(crate) fn entries(cache: &Path, kind: &str) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(cache.join(kind)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Asserts that every snapshot in a cache can be read, and that every layer it names is there with the bytes it should have.
/// Returns the snapshots by name.
pub(crate) fn assert_whole(cache: &Path) -> Vec<(String, Snapshot)> {
    let mut snapshots = Vec::new();
    for file in entries(cache, "snapshot") {
        let snapshot = decode(&fs::read(&file).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let open = |stored: &Stored| fs::File::open(cache.join("layer").join(&stored.entry));
        for stored in snapshot.stored.values() {
            let bytes = open(stored).expect("a layer was pushed before");
            assert_eq!(Digests::of_reader(bytes).unwrap(), stored.digests, "{}", stored.entry);
        }
        for layer in snapshot.layers.values() {
            if let Some(recipe) = &layer.recipe {
                let made = assemble(recipe, &mut |id| open(&snapshot.stored[&id]), &tempfile::tempfile().unwrap());
                assert_eq!(made.unwrap(), layer.digests, "a recipe makes the layer that it is for");
            }
        }
        snapshots.push((file.file_name().unwrap().to_string_lossy().into_owned(), snapshot));
    }
    snapshots
}
