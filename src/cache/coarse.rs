//! Which paths are packed in large blocks: those of mostly large files.
//!
//! Blocks of 1 MiB make large files some 6 % smaller than blocks of 128 KiB. But where the kernel reads any file ahead, it takes as many pages
//! for it as one block has, however small the file (`squashfs_readahead`, seen with Linux 6.18): 0.3 ms for each small file of such an
//! image. So paths of large files are packed apart from those of many small ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::path::Path;

use walkdir::WalkDir;

use crate::layer::squashfs::{BLOCK_SIZE, FRAGMENT_SIZE, LARGE_FILE};
use crate::store::StorePath;

/// In large blocks are paths that have more than so many bytes in large files for each small one. Of a store made of 1,356 packages of
/// Debian, they have 75 % of the bytes of large files, and 1 % of the small files.
const BYTES_FOR_EACH: u64 = 128 << 10;
/// So few small files do not matter, in whatever layer.
const FEW: u64 = 1000;

/// The files of a path, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// Number of those that share blocks.
    pub small: u64,
    /// Bytes of the others.
    pub large: u64,
}

impl AddAssign for Files {
    fn add_assign(&mut self, other: Self) {
        self.small += other.small;
        self.large += other.large;
    }
}

impl Files {
    /// Those at or below `path`, as far as they can be read.
    fn below(path: &Path) -> Self {
        let sizes = WalkDir::new(path).into_iter().flatten().filter(|entry| entry.file_type().is_file());
        let sizes = sizes.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len());
        sizes.fold(Self::default(), |files, size| match size {
            0 => files,
            size if size < LARGE_FILE as u64 => Self { small: files.small + 1, ..files },
            size => Self { large: files.large + size, ..files },
        })
    }

    /// Whether they are better packed in large blocks.
    pub(super) fn are_large(self) -> bool {
        self.large > self.small * BYTES_FOR_EACH
    }
}

/// The files of each path.
#[derive(Debug, Default)]
pub(super) struct Kinds(pub BTreeMap<StorePath, Files>);

impl Kinds {
    /// Looks at `paths` in the folder `store`. They are walked once more when they are packed: their kinds decide before that what is
    /// packed together.
    ///
    /// # Errors
    /// When the task panics.
    pub(super) async fn of(store: &Path, paths: &BTreeSet<StorePath>) -> Result<Self, tokio::task::JoinError> {
        let (store, paths) = (store.to_owned(), paths.clone());
        let walk =
            move || paths.into_iter().map(|path| (path.clone(), Files::below(&store.join(path.as_str())))).collect();
        Ok(Self(tokio::task::spawn_blocking(walk).await?))
    }

    /// Whether a path is better packed in large blocks.
    pub(super) fn is_large(&self, path: &StorePath) -> bool {
        self.0.get(path).is_some_and(|files| files.are_large())
    }

    /// The bytes of a large block of a layer with `paths`. Where both kinds are in it, most of its large files decide, since the blocks of
    /// their earlier versions can be taken over only into blocks of the same size.
    pub(super) fn block_size(&self, paths: &BTreeSet<StorePath>) -> usize {
        let (mut all, mut apart) = (Files::default(), Files::default());
        for (path, files) in paths.iter().filter_map(|path| Some((path, self.0.get(path)?))) {
            all += *files;
            if self.is_large(path) {
                apart += *files;
            }
        }
        if 2 * apart.large > all.large && (all.small <= FEW || all.are_large()) { BLOCK_SIZE } else { FRAGMENT_SIZE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(files: &[(u64, u64)]) -> (Kinds, BTreeSet<StorePath>) {
        let path = |number: usize| format!("{number:0>32}-path").parse::<StorePath>().unwrap();
        let files = files
            .iter()
            .enumerate()
            .map(|(number, (small, large))| (path(number), Files { small: *small, large: *large }));
        let kinds = Kinds(files.collect());
        let paths = kinds.0.keys().cloned().collect();
        (kinds, paths)
    }

    #[test]
    fn files_are_counted_by_their_size() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("below")).unwrap();
        for (name, size) in [("empty", 0), ("small", LARGE_FILE - 1), ("below/small", 1), ("below/large", LARGE_FILE)] {
            std::fs::write(folder.path().join(name), vec![1; size]).unwrap();
        }
        std::os::unix::fs::symlink("large", folder.path().join("link")).unwrap();
        assert_eq!(Files::below(folder.path()), Files { small: 2, large: LARGE_FILE as u64 });
        assert_eq!(Files::below(&folder.path().join("below/large")), Files { small: 0, large: LARGE_FILE as u64 });
        assert_eq!(Files::below(&folder.path().join("missing")), Files::default());
    }

    #[test]
    fn a_layer_has_large_blocks_if_that_helps_and_small_files_are_few() {
        const MIB: u64 = 1 << 20;
        let block_size = |files: &[(u64, u64)]| {
            let (kinds, paths) = kinds(files);
            kinds.block_size(&paths)
        };
        assert_eq!(block_size(&[(0, 0)]), FRAGMENT_SIZE);
        assert_eq!(block_size(&[(7, MIB)]), BLOCK_SIZE);
        assert_eq!(block_size(&[(8, MIB)]), FRAGMENT_SIZE);
        // Together with few small files of others, and with many.
        assert_eq!(block_size(&[(10, 20 * MIB), (900, 2 * MIB)]), BLOCK_SIZE);
        assert_eq!(block_size(&[(10, 20 * MIB), (1500, 2 * MIB)]), FRAGMENT_SIZE);
        assert_eq!(block_size(&[(10, 200 * MIB), (1500, 2 * MIB)]), BLOCK_SIZE);
        // Most of the large files lie in paths of many small ones.
        assert_eq!(block_size(&[(7, MIB), (900, 20 * MIB)]), FRAGMENT_SIZE);
    }
}
