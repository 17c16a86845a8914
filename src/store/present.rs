//! Which store paths have files. To look for many, the store directory is read once: the kernel takes long to look up each name in a
//! mounted image of very many.

use super::{StoreDirs, StorePath};
use crate::base::quick::QuickSet;

/// From this number on, one reading of the directory is cheaper than looking each path up.
const MANY: usize = 256;

/// The names in the store directory, if it was worth it to read them; by default, each path is looked up.
#[derive(Debug, Default)]
pub(crate) struct Present {
    names: Option<QuickSet<Box<[u8]>>>,
}

impl Present {
    /// Prepares to look for `count` paths. The answers for many are those of this moment.
    pub(crate) fn of(dirs: &StoreDirs, count: usize) -> Self {
        let read = || {
            let entries = std::fs::read_dir(dirs.real_store())?;
            entries.map(|entry| Ok(entry?.file_name().into_encoded_bytes().into())).collect::<std::io::Result<_>>()
        };
        // Where the directory cannot be read, each path can still be found.
        Self { names: if count < MANY { None } else { read().ok() } }
    }

    /// Whether there is a file, folder or link of this name.
    pub(crate) fn has(&self, dirs: &StoreDirs, path: &StorePath) -> bool {
        match &self.names {
            Some(names) => names.contains(path.as_str().as_bytes()),
            None => dirs.real(path).symlink_metadata().is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_found_alike() {
        let root = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(root.path()));
        let path = |name: &str| -> StorePath { format!("{}-{name}", "0".repeat(32)).parse().unwrap() };
        assert!(!Present::of(&dirs, MANY).has(&dirs, &path("file")), "there is no store");
        std::fs::create_dir_all(dirs.real(&path("folder"))).unwrap();
        std::fs::write(dirs.real(&path("file")), "").unwrap();
        std::os::unix::fs::symlink("nowhere", dirs.real(&path("link"))).unwrap();
        for count in [1, MANY] {
            let present = Present::of(&dirs, count);
            assert_eq!(present.names.is_some(), count == MANY);
            assert!(["folder", "file", "link"].iter().all(|name| present.has(&dirs, &path(name))));
            assert!(!present.has(&dirs, &path("fil")) && !present.has(&dirs, &path("file.lock")));
        }
    }
}
