//! What older layers have of the paths that are packed. Most files of a path that was built again are those that it had before.
//!
//! 1. [`Older::of`] reads what the older layers have of paths with the same names: it decompresses their blocks and hashes what is
//!    in them.
//! 2. The walk finds blocks of large files, and small files, by that hash. The stored block goes into the new layer as it is: it
//!    is not compressed again, and a recipe need not send it.
//! 3. A block of small files is taken whole if at least half of it is needed. The rest of it belongs to no file of the new layer.
//!
//! Only blocks that a recipe can name are used. A layer that cannot be read only costs bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::layer::index::{ContentHash, content_hash, entries};
use crate::layer::recipe::KnownBlocks;
use crate::layer::squashfs::{
    BLOCK_SIZE, BlockReader, Fragment, Image, ImageError, Inode, UNCOMPRESSED_BLOCK, read_block,
};

/// Largest number of files and blocks that are known. Each takes some 60 bytes of memory.
const MAX_KNOWN: usize = 1 << 19;

/// A stored block of an older layer.
#[derive(Clone)]
pub(super) struct OldBlock {
    file: Arc<File>,
    start: u64,
    /// Its size word.
    pub word: u32,
    /// The hash of its stored bytes.
    pub hash: ContentHash,
    /// The number of its bytes before compression.
    pub size: u32,
}

impl OldBlock {
    /// Its stored bytes.
    ///
    /// # Errors
    /// When they cannot be read, or are others than before.
    pub(super) fn stored(&self) -> io::Result<Vec<u8>> {
        let bytes = read_block(&self.file, self.start, self.word)?;
        if content_hash(&bytes) == self.hash { Ok(bytes) } else { Err(io::Error::other("an older layer has changed")) }
    }

    /// Its bytes before compression.
    pub(super) fn plain(&self) -> io::Result<Vec<u8>> {
        let stored = self.stored()?;
        if self.word & UNCOMPRESSED_BLOCK != 0 { Ok(stored) } else { zstd::bulk::decompress(&stored, BLOCK_SIZE) }
    }
}

/// A small file in a block of an older layer.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The number of the block.
    pub block: u32,
    pub offset: u32,
    pub size: u32,
}

/// The blocks of older layers that may be used again.
#[derive(Default)]
pub(crate) struct Older {
    blocks: Vec<OldBlock>,
    /// Blocks of large files by the hash of their bytes before compression.
    large: HashMap<ContentHash, u32>,
    small: HashMap<ContentHash, Place>,
}

/// A block to read, and the small files in it; none if it is one of a large file.
struct Task {
    start: u64,
    word: u32,
    files: Vec<(u32, u32)>,
}

/// A block that was read: the hash of all its bytes, or those of its small files.
struct Found {
    block: OldBlock,
    whole: Option<ContentHash>,
    files: Vec<(ContentHash, u32, u32)>,
}

impl Older {
    /// Reads the paths of `layers` that have one of `names`, as far as their blocks are among the `known` ones: at most `most` bytes.
    pub(crate) fn of(
        layers: Vec<File>,
        names: &BTreeSet<&str>,
        known: &KnownBlocks,
        (most, threads): (u64, usize),
    ) -> Self {
        let mut older = Self::default();
        let left = AtomicU64::new(most);
        for layer in layers {
            match read(layer, names, known, (&left, threads)) {
                Ok(found) => older.add(found),
                Err(error) => tracing::debug!("an older layer is not used again: {error}"),
            }
        }
        older
    }

    fn add(&mut self, mut found: Vec<Found>) {
        // The threads end in any order.
        found.sort_by_key(|found| found.block.start);
        for Found { block, whole, files } in found {
            if self.small.len() + self.large.len() >= MAX_KNOWN {
                return;
            }
            let number = self.blocks.len() as u32;
            if let Some(hash) = whole {
                self.large.entry(hash).or_insert(number);
            }
            for (hash, offset, size) in files {
                self.small.entry(hash).or_insert(Place { block: number, offset, size });
            }
            self.blocks.push(block);
        }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The block of a large file with this hash.
    pub(super) fn large(&self, hash: &ContentHash, size: usize) -> Option<&OldBlock> {
        let block = self.block(*self.large.get(hash)?);
        (block.size as usize == size).then_some(block)
    }

    /// The place of a small file with this hash.
    pub(super) fn small(&self, hash: &ContentHash, size: usize) -> Option<Place> {
        self.small.get(hash).copied().filter(|place| place.size as usize == size)
    }

    pub(super) fn block(&self, number: u32) -> &OldBlock {
        &self.blocks[number as usize]
    }
}

/// The name of a store path without its version, which often differs: up to a dash and a digit.
pub(crate) fn stem(name: &str) -> &str {
    let is_version = |(at, _): &(usize, &str)| name.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit);
    name.match_indices('-').find(is_version).map_or(name, |(at, _)| &name[..at])
}

/// Reads what an image has of paths with these names.
fn read(
    layer: File,
    names: &BTreeSet<&str>,
    known: &KnownBlocks,
    (left, threads): (&AtomicU64, usize),
) -> Result<Vec<Found>, ImageError> {
    let file = Arc::new(layer.try_clone()?);
    let image = Image::open(layer)?;
    let tasks = tasks(&image, names)?;
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<(), ImageError> {
        let mut reader = BlockReader::new(&image)?;
        let mut plain = Vec::new();
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let stored = reader.stored_block(task.start, task.word, &mut plain)?;
            let (hash, parts) = (content_hash(stored), entries(stored, task.word));
            let size = plain.len() as u64;
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size)).is_err() {
                return Ok(());
            }
            if !parts.iter().all(|part| known.contains(part)) {
                continue;
            }
            let of_file = |(offset, size): &(u32, u32)| {
                let bytes = plain.get(*offset as usize..)?.get(..*size as usize)?;
                Some((content_hash(bytes), *offset, *size))
            };
            let files: Vec<_> = task.files.iter().filter_map(of_file).collect();
            let whole = task.files.is_empty().then(|| content_hash(&plain));
            let block =
                OldBlock { file: Arc::clone(&file), start: task.start, word: task.word, hash, size: size as u32 };
            found.lock().unwrap_or_else(PoisonError::into_inner).push(Found { block, whole, files });
        }
        Ok(())
    };
    let broken: Vec<ImageError> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.err()).collect()
    });
    if let Some(error) = broken.into_iter().next() {
        tracing::debug!("a part of an older layer is not used again: {error}");
    }
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The blocks that paths with these names have in an image.
fn tasks(image: &Image, names: &BTreeSet<&str>) -> Result<Vec<Task>, ImageError> {
    let is_wanted = |name: &[u8]| {
        let name = name.get(33..).and_then(|name| std::str::from_utf8(name).ok());
        name.is_some_and(|name| names.contains(stem(name)))
    };
    let mut ahead: Vec<u64> =
        image.root()?.iter().filter(|entry| is_wanted(&entry.name)).map(|entry| entry.inode).collect();
    let mut small: BTreeMap<u32, BTreeSet<(u32, u32)>> = BTreeMap::new();
    let mut large: BTreeMap<u64, u32> = BTreeMap::new();
    while let Some(inode) = ahead.pop() {
        match image.inode(inode)? {
            Inode::Directory(entries) => ahead.extend(entries.iter().map(|entry| entry.inode)),
            Inode::Symlink(_) => {}
            Inode::File(file) => {
                let content = file.content()?;
                let mut at = content.start;
                for word in content.blocks.into_iter().filter(|word| *word != 0) {
                    large.insert(at, word);
                    at = at.saturating_add(u64::from(word & !UNCOMPRESSED_BLOCK));
                }
                if let Some(Fragment { index, offset }) = content.fragment {
                    small.entry(index).or_default().insert((offset, content.size as u32));
                }
            }
        }
        if small.len() + large.len() > MAX_KNOWN {
            break;
        }
    }
    let mut tasks: Vec<Task> = large.into_iter().map(|(start, word)| Task { start, word, files: Vec::new() }).collect();
    for (index, files) in small {
        let &(start, word) = image
            .fragments()
            .get(index as usize)
            .ok_or(ImageError::Malformed("a file names a fragment that is not there"))?;
        tasks.push(Task { start, word, files: files.into_iter().collect() });
    }
    Ok(tasks)
}

#[cfg(test)]
#[path = "older_test.rs"]
mod tests;
