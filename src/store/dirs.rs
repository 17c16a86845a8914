//! The directories of a store: store paths, Nix's state, and our folder beside it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::{StoreError, StorePath};

/// The logical store directory: the start of store paths in the database, in references and in files, wherever the store is.
pub(crate) const STORE_DIR: &str = "/nix/store";

/// The directories of one store: the machine's own under `/nix`, or one below another root, as with `nix --store DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDirs {
    root: Option<PathBuf>,
}

impl StoreDirs {
    /// The machine's own store, or the one below `root`: files in `root/nix/store`, state in `root/nix/var/nix`. A relative `root`
    /// is resolved against the current working directory. The disk is not accessed.
    #[must_use]
    pub fn new(root: Option<&Path>) -> Self {
        Self { root: root.map(absolute) }
    }

    /// The root as `nix --store` takes it; None for the machine's own store.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The logical store directory, always [`STORE_DIR`].
    #[must_use]
    pub fn store_dir(&self) -> &'static str {
        STORE_DIR
    }

    /// The real directory of the store paths.
    #[must_use]
    pub fn real_store(&self) -> PathBuf {
        self.below_root("nix/store")
    }

    /// Nix's state: database, locks, roots, profiles.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.below_root("nix/var/nix")
    }

    /// The `SQLite` database of valid paths.
    #[must_use]
    pub fn db_path(&self) -> PathBuf {
        self.state_dir().join("db/db.sqlite")
    }

    /// The real location of `path`.
    #[must_use]
    pub fn real(&self, path: &StorePath) -> PathBuf {
        self.real_store().join(path.as_str())
    }

    /// Our folder, beside Nix's state and therefore normally on the store's file system. It need not exist.
    #[must_use]
    pub fn own_dir(&self) -> PathBuf {
        self.below_root("nix/var").join(super::own::NAME)
    }

    /// User and group that own the real store directory.
    ///
    /// # Errors
    /// When the store directory cannot be accessed.
    pub fn owner(&self) -> Result<(u32, u32), StoreError> {
        let store = self.real_store();
        match store.metadata() {
            Ok(metadata) => Ok((metadata.uid(), metadata.gid())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::no_store(self)),
            Err(error) => Err(StoreError::io("access the store directory", &store, error)),
        }
    }

    /// User and group of the files of store paths: those of the owner of the store. Root's files belong to root's group, although
    /// `/nix/store` belongs to the group of the build users.
    ///
    /// # Errors
    /// When the store directory cannot be accessed.
    pub fn path_owner(&self) -> Result<(u32, u32), StoreError> {
        self.owner().map(|(user, group)| if user == 0 { (0, 0) } else { (user, group) })
    }

    /// The store as an argument of `nix --store`; None for the machine's own store.
    #[must_use]
    pub fn argument(&self) -> Option<OsString> {
        self.root.as_deref().map(store_argument)
    }

    fn below_root(&self, path: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(path)
    }
}

/// The store below `root` as an argument of `nix --store`. Nix parses the argument as a URL, in which a question mark starts the
/// parameters and a percent sign an escaped byte. A path with such characters is passed as a parameter.
#[must_use]
pub fn store_argument(root: &Path) -> OsString {
    let root = absolute(root);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let bytes = root.as_os_str().as_bytes();
    if bytes.iter().all(is_plain) {
        return root.into();
    }
    let mut address = String::from("local?root=");
    for byte in bytes {
        if is_plain(byte) {
            address.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(address, "%{byte:02X}");
        }
    }
    address.into()
}

/// Makes the path absolute and removes `.` and `..` lexically, as Nix does, without resolving links.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir => {}
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_store_is_under_nix() {
        let dirs = StoreDirs::new(None);
        assert_eq!(dirs.real_store(), Path::new("/nix/store"));
        assert_eq!(dirs.db_path(), Path::new("/nix/var/nix/db/db.sqlite"));
        assert_eq!(dirs.own_dir(), Path::new("/nix/var/nix-cache"));
        assert_eq!(dirs.root(), None);
    }

    #[test]
    fn a_root_moves_the_files_and_not_the_names() {
        let dirs = StoreDirs::new(Some(Path::new("/srv/x")));
        let path: StorePath = "00000000000000000000000000000000-a".parse().unwrap();
        assert_eq!(dirs.real(&path), Path::new("/srv/x/nix/store/00000000000000000000000000000000-a"));
        assert_eq!(dirs.state_dir(), Path::new("/srv/x/nix/var/nix"));
        assert_eq!(dirs.store_dir(), "/nix/store");
    }

    #[test]
    fn a_relative_root_is_made_absolute() {
        assert!(StoreDirs::new(Some(Path::new("x"))).root().unwrap().is_absolute());
    }

    #[test]
    fn a_root_is_what_nix_makes_of_it() {
        assert_eq!(StoreDirs::new(Some(Path::new("/a/../b/./c"))).root(), Some(Path::new("/b/c")));
        assert_eq!(store_argument(Path::new("/srv/a-b_c.d")), "/srv/a-b_c.d");
        assert_eq!(store_argument(Path::new("/q?x")), "local?root=/q%3Fx");
        assert_eq!(store_argument(Path::new("/100%41, #&")), "local?root=/100%2541%2C%20%23%26");
        let bytes = std::ffi::OsStr::from_bytes(b"/\xff");
        assert_eq!(store_argument(Path::new(bytes)), "local?root=/%FF");
    }

    #[test]
    fn a_store_that_is_not_there_has_no_owner() {
        let dir = tempfile::tempdir().unwrap();
        let error = StoreDirs::new(Some(dir.path())).owner().unwrap_err().to_string();
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
    }
}
