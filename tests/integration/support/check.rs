//! Whether a store is sound.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use nix_cache::layer::hash_of;
use nix_cache::store::{NarHash, StorePath};

use super::machine::TestStore;
use super::rows::{PathRow, dangling, rows};

impl TestStore {
    /// The base names of all valid paths.
    pub(crate) fn valid(&self) -> BTreeSet<StorePath> {
        rows(self).paths.keys().map(|path| StorePath::from_full(path, "/nix/store").unwrap()).collect()
    }

    /// The base names of all valid paths that builds made.
    pub(crate) fn outputs(&self) -> BTreeSet<StorePath> {
        let is_output = |(path, row): (String, PathRow)| row.deriver.is_some().then_some(path);
        let outputs = rows(self).paths.into_iter().filter_map(is_output);
        outputs.map(|path| StorePath::from_full(&path, "/nix/store").unwrap()).collect()
    }

    /// Asserts that every valid path is there with the bytes that the database says, and refers to valid paths only.
    pub(crate) fn assert_sound(&self) {
        assert_eq!(dangling(self), 0, "references lead from or to nowhere");
        for (path, row) in rows(self).paths {
            let path = StorePath::from_full(&path, "/nix/store").unwrap();
            let found = hash_of(&self.dirs().real(&path));
            let found = found.unwrap_or_else(|error| panic!("{path} is valid and cannot be read: {error}"));
            assert_eq!(Some(found), NarHash::from_database(&row.hash), "{path} has other bytes than it should");
        }
    }

    /// Asserts that Nix itself finds nothing wrong with the store.
    pub(crate) fn assert_verifies(&self) {
        let output = self.command("nix-store").args(["--verify", "--check-contents"]).output().expect("nix-store runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let wrong = ["error", "disappeared", "modified", "removing", "wrong", "invalid", "warning"];
        let complaint = said.lines().find(|line| wrong.iter().any(|word| line.contains(word)));
        assert!(output.status.success() && complaint.is_none(), "nix-store --verify --check-contents: {said}");
    }

    /// Asserts that nothing of an unfinished restore is left in the store directory.
    pub(crate) fn assert_tidy(&self) {
        for entry in fs::read_dir(self.dirs().real_store()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with(".nix-cache"), "{name} was left behind");
        }
    }
}

/// Changes one byte of a file, which may be read-only.
pub(crate) fn flip_byte(file: &Path, at: u64) {
    let mode = fs::metadata(file).unwrap().permissions();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let opened = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    opened.read_exact_at(&mut byte, at).unwrap();
    opened.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    fs::set_permissions(file, mode).unwrap();
}
