//! Which bytes of an image belong to which store path, to estimate a layer without some of them.
//!
//! 1. [`Usage::of`] walks the image and records the positions of each path's files. A file that several paths share belongs to
//!    all of them. Small files share blocks: each gets its proportional part of the compressed block.
//! 2. A restore stores this for the save ([`Usage::encode`]), which uses it to decide which layers to repack.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use super::error::ImageError;
use super::format::{BLOCK_SIZE, UNCOMPRESSED_BLOCK};
use super::read::{FileInode, Image, Inode};
use crate::layer::index::content_hash;
use crate::store::StorePath;

/// Largest number of recorded spans: 24 MiB.
const MAX_SPANS: usize = 1 << 20;
/// Largest number of blocks that are read: 256 GiB of files.
const MAX_BLOCKS: u64 = 1 << 21;
const ENTRY: usize = 24;
/// Largest encoded usage in bytes.
pub(crate) const MAX_USAGE: u64 = 32 + (MAX_SPANS * ENTRY) as u64;

/// From the first byte to after the last one.
pub(crate) type Span = (u64, u64);

/// The spans in the file of a layer that belong to each path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Sorted by path and position. A path is represented by a part of its hash, so that thousands of paths need little memory.
    spans: Vec<(u64, Span)>,
}

impl Usage {
    /// Reads the usage of the image in `file`.
    ///
    /// # Errors
    /// When it is not one of our images, or has too many files and blocks.
    pub(crate) fn of(file: File) -> Result<Self, ImageError> {
        let image = Image::open(file)?;
        let mut walk = Walk::default();
        for root in image.root()? {
            let path = number(&root.name);
            // An empty path gets a span too, so that all paths are counted.
            walk.spans.push((path, (0, 0)));
            let mut todo = vec![root.inode];
            while let Some(inode) = todo.pop() {
                match image.inode(inode)? {
                    Inode::Directory(entries) => todo.extend(entries.iter().rev().map(|entry| entry.inode)),
                    Inode::File(file) => walk.file(path, &file)?,
                    Inode::Symlink(_) => {}
                }
            }
        }
        Ok(Self { spans: walk.end(image.fragments()) })
    }

    /// The spans of `paths`, ascending and disjoint.
    pub(crate) fn spans_of<'a>(&self, paths: impl Iterator<Item = &'a StorePath>) -> Vec<Span> {
        let mut found = Vec::new();
        for path in paths {
            let path = number(path.as_str().as_bytes());
            let first = self.spans.partition_point(|(other, _)| *other < path);
            found.extend(self.spans[first..].iter().take_while(|(other, _)| *other == path).map(|(_, span)| *span));
        }
        union(found)
    }

    /// The spans of all paths.
    pub(crate) fn all_spans(&self) -> Vec<Span> {
        union(self.spans.iter().map(|(_, span)| *span).collect())
    }

    /// How many paths there are.
    pub(crate) fn paths(&self) -> u64 {
        self.spans.iter().map(|(path, _)| path).collect::<BTreeSet<_>>().len() as u64
    }

    /// Encodes it for [`Usage::decode`], which detects truncation.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body: Vec<u8> =
            self.spans.iter().flat_map(|(path, (from, to))| [*path, *from, *to]).flat_map(u64::to_le_bytes).collect();
        [blake3::hash(&body).as_bytes(), &body[..]].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (hash, body) = bytes.split_first_chunk::<32>()?;
        if blake3::hash(body) != *hash {
            return None;
        }
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let entry = |entry: &[u8]| (number(&entry[..8]), (number(&entry[8..16]), number(&entry[16..])));
        Some(Self { spans: body.chunks_exact(ENTRY).map(entry).collect() })
    }
}

/// The number that represents a path.
fn number(name: &[u8]) -> u64 {
    content_hash(name).first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Sorts `spans` and joins adjacent ones.
pub(crate) fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (from, to) in spans.into_iter().filter(|(from, to)| from < to) {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// Total bytes of disjoint spans.
pub(crate) fn length(spans: &[Span]) -> u64 {
    spans.iter().map(|(from, to)| to - from).sum()
}

#[derive(Default)]
struct Walk {
    spans: Vec<(u64, Span)>,
    /// Path, block of small files, and the position in its content.
    small: Vec<(u64, u32, Span)>,
    blocks: u64,
}

impl Walk {
    fn file(&mut self, path: u64, file: &FileInode<'_>) -> Result<(), ImageError> {
        self.blocks = self.blocks.saturating_add(file.blocks);
        if self.blocks > MAX_BLOCKS || self.spans.len() + self.small.len() >= MAX_SPANS {
            return Err(ImageError::Malformed("it has too many files"));
        }
        let (mut words, mut bytes) = (file.words.clone(), 0);
        for _ in 0..file.blocks {
            bytes += u64::from(words.word()? & !UNCOMPRESSED_BLOCK);
        }
        if bytes > 0 {
            let span = (file.start, file.start.saturating_add(bytes));
            match self.spans.last_mut() {
                Some((last, (_, to))) if *last == path && *to == span.0 => *to = span.1,
                _ => self.spans.push((path, span)),
            }
        }
        if let Some(fragment) = file.fragment {
            let from = u64::from(fragment.offset);
            let span = (from, from + file.size % BLOCK_SIZE as u64);
            match self.small.last_mut() {
                Some((last, index, (_, to))) if (*last, *index, *to) == (path, fragment.index, from) => *to = span.1,
                _ => self.small.push((path, fragment.index, span)),
            }
        }
        Ok(())
    }

    /// All spans; those of small files are their part of the `fragments`.
    fn end(mut self, fragments: &[(u64, u32)]) -> Vec<(u64, Span)> {
        let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, index, (_, to)) in &self.small {
            let size = sizes.entry(*index).or_default();
            *size = (*size).max(*to);
        }
        for (path, index, (from, to)) in self.small {
            let Some((start, word)) = fragments.get(index as usize) else { continue };
            let stored = u64::from(word & !UNCOMPRESSED_BLOCK);
            let place = |at: u64| start.saturating_add(at * stored / sizes[&index].max(1));
            self.spans.push((path, (place(from), place(to))));
        }
        self.spans.sort_unstable();
        self.spans
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::layer::hash_of;
    use crate::layer::pack::{Item, Options, Outcome, pack};

    fn noise(seed: u64, size: usize) -> Vec<u8> {
        let mut out = vec![0; size];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn each_path_has_what_its_files_take_and_what_two_have_belongs_to_both() {
        let store = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("{}-{name}", "0".repeat(32)).parse::<StorePath>().unwrap();
        let paths = ["a", "b", "c", "empty"].map(path);
        let write = |path: &StorePath, name: &str, bytes: &[u8]| {
            fs::create_dir_all(store.path().join(path.as_str())).unwrap();
            fs::write(store.path().join(path.as_str()).join(name), bytes).unwrap();
        };
        write(&paths[0], "large", &noise(1, 1 << 20));
        write(&paths[0], "small", &noise(2, 5000));
        write(&paths[1], "large too", &noise(1, 1 << 20));
        write(&paths[1], "zeros", &vec![0; 500_000]);
        write(&paths[2], "small", &noise(3, 15_000));
        fs::write(store.path().join(paths[3].as_str()), b"").unwrap();
        let item = |path: &StorePath| Item {
            path: path.clone(),
            nar_hash: hash_of(&store.path().join(path.as_str())).unwrap(),
        };
        let items: Vec<Item> = paths.iter().map(item).collect();
        let file = tempfile::tempfile().unwrap();
        let packed = pack(store.path(), &items, &file, Options::new(), &AtomicU64::new(0)).unwrap();
        let Outcome::Packed(packed) = packed else { panic!("{packed:?}") };

        let usage = Usage::of(file).unwrap();
        let bytes = |paths: &[&StorePath]| length(&usage.spans_of(paths.iter().copied()));
        let [a, b, c, empty] = &paths;
        let about = |found: u64, expected: u64| assert!(found.abs_diff(expected) < 600, "{found} for {expected}");
        about(bytes(&[a]), (1 << 20) + 5000);
        about(bytes(&[b]), 1 << 20);
        about(bytes(&[a, b]), (1 << 20) + 5000);
        about(bytes(&[c]), 15_000);
        assert_eq!((bytes(&[empty]), bytes(&[&path("other")])), (0, 0));
        let data: u64 = packed.blocks.iter().map(|block| u64::from(block.length)).sum();
        assert_eq!((length(&usage.all_spans()), usage.paths()), (data, 4));

        let mut kept = usage.encode();
        assert_eq!(Usage::decode(&kept), Some(usage));
        kept[40] ^= 1;
        assert_eq!(Usage::decode(&kept), None);
    }
}
