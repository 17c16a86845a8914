//! Garbage collector roots: paths that Nix does not delete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use walkdir::WalkDir;

use super::{STORE_DIR, StoreDirs, StorePath};
use crate::base::bounds::{MAX_TEXT, open_file, read_to_end};

/// Returns the store paths that are roots, valid or not, like `LocalStore::findRoots` of Nix: links into the store below
/// `gcroots` and `profiles`, links there to a link elsewhere that points into the store, files there that are named like a store
/// path, and the temporary roots of running Nix processes. Roots are links to the logical store, even if the store is below
/// another root.
///
/// Roots that this user cannot read are ignored, and so are running programs, which Nix also keeps.
#[must_use]
pub fn roots(dirs: &StoreDirs) -> BTreeSet<StorePath> {
    let state = dirs.state_dir();
    let mut roots = BTreeSet::new();
    for folder in ["gcroots", "profiles"] {
        for entry in WalkDir::new(state.join(folder)).into_iter().filter_map(Result::ok) {
            if entry.file_type().is_symlink() {
                roots.extend(linked(entry.path()));
            } else if entry.file_type().is_file() {
                roots.extend(entry.file_name().to_str().and_then(|name| name.parse::<StorePath>().ok()));
            }
        }
    }
    for entry in fs::read_dir(state.join("temproots")).into_iter().flatten().filter_map(Result::ok) {
        roots.extend(temporary(&entry.path()));
    }
    roots
}

/// Returns the store path that a link points to directly or through one other link. Nix follows no further.
fn linked(link: &Path) -> Option<StorePath> {
    let target = fs::read_link(link).ok()?;
    if target.starts_with(STORE_DIR) {
        return in_store(&target);
    }
    let next = fs::read_link(without_dots(&link.parent()?.join(target))).ok()?;
    in_store(&next)
}

/// Returns the store path that contains `path`.
fn in_store(path: &Path) -> Option<StorePath> {
    match path.strip_prefix(STORE_DIR).ok()?.components().next()? {
        Component::Normal(name) => name.to_str()?.parse().ok(),
        _ => None,
    }
}

/// Removes `.` and `..` from `path` lexically, as Nix does, without resolving links.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Returns the roots in a file of `temproots`: full paths, each terminated by a NUL. A Nix process keeps its file locked while it
/// runs; an unlocked file is a leftover.
fn temporary(path: &Path) -> Vec<StorePath> {
    let Ok(file) = open_file(path) else { return Vec::new() };
    if flock(&file, FlockOperation::NonBlockingLockExclusive) != Err(rustix::io::Errno::WOULDBLOCK) {
        return Vec::new();
    }
    let Ok(text) = read_to_end(&file, MAX_TEXT).map(String::from_utf8) else { return Vec::new() };
    let text = text.unwrap_or_default();
    // A path without a NUL is still being written.
    text.split_inclusive('\0')
        .filter_map(|path| StorePath::from_full(path.strip_suffix('\0')?, STORE_DIR).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(digit: char) -> StorePath {
        format!("{}-x", digit.to_string().repeat(32)).parse().unwrap()
    }

    #[test]
    fn temporary_roots_count_while_their_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(dir.path()));
        let folder = dirs.state_dir().join("temproots");
        fs::create_dir_all(&folder).unwrap();
        let (whole, torn) = (path('1').full(STORE_DIR), path('2').full(STORE_DIR));
        fs::write(folder.join("7"), format!("{whole}\0{torn}")).unwrap();
        assert_eq!(roots(&dirs), BTreeSet::new());
        for operation in [FlockOperation::LockShared, FlockOperation::LockExclusive] {
            let process = fs::File::open(folder.join("7")).unwrap();
            flock(&process, operation).unwrap();
            assert_eq!(roots(&dirs), BTreeSet::from([path('1')]));
        }
        assert_eq!(roots(&dirs), BTreeSet::new());
    }

    #[test]
    fn only_the_first_name_below_the_store_counts() {
        let root = |text: String| in_store(Path::new(&text));
        assert_eq!(root(format!("{}/bin/sh", path('1').full(STORE_DIR))), Some(path('1')));
        assert_eq!(root("/nix/store".to_owned()), None);
        assert_eq!(root("/nix/store/.links/x".to_owned()), None);
        assert_eq!(root("/nix/storefront/x".to_owned()), None);
    }
}
