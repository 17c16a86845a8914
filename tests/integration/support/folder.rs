//! Temporary folders that stores can stand in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix_cache::store::tree::remove_tree;

/// A new folder, removed at the end with the read-only directories in it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// An empty folder. Newer Nix builds in no store below a folder that all may write to, such as `/tmp`.
    pub(crate) fn new() -> Self {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Self(tempfile::Builder::new().prefix("t-").tempdir_in(all).expect("target/tmp can be written").keep())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("NIX_CACHE_TEST_KEEP").is_some() {
            eprintln!("Kept: {}", self.0.display());
        } else if let Err(error) = remove_tree(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// Copies a file or a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
        let mode = fs::metadata(from).unwrap().permissions().mode();
        fs::set_permissions(to, fs::Permissions::from_mode(mode)).unwrap();
    }
}
