//! Packs store paths into a layer.
//!
//! 1. One thread walks the paths in order, computes the NAR hash of each from the bytes that it passes on, and finds files that
//!    were packed before, in this layer or in an [`older`] one.
//! 2. A pool of threads compresses blocks.
//! 3. One thread writes the blocks in order, so the image does not depend on the number of threads.
//!
//! At most some 50 MiB are in memory at once.

pub(crate) mod older;
mod pipeline;
mod walk;

#[cfg(test)]
pub(super) use pipeline::compressor;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

use self::older::Older;
use super::digest::{DigestWriter, Digests, refresh_first_chunk};
use super::index::{StoredBlock, encode_index};
use super::squashfs::{BLOCK_SIZE, SUPERBLOCK_SIZE, round_up_to_page, write_tables};
use crate::base::disk::Guarded;
use crate::store::{NarHash, StorePath};

/// A path to pack, and its NAR according to the Nix database.
#[derive(Clone, Debug)]
pub struct Item {
    /// The path.
    pub path: StorePath,
    /// The expected NAR hash.
    pub nar_hash: NarHash,
}

/// Settings for packing.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// zstd level, 1 to 22.
    pub level: i32,
    /// Number of threads that compress.
    pub threads: usize,
    /// Bytes of a block of a large file, one of the sizes that images can have.
    pub block_size: usize,
}

impl Options {
    /// The default level, on all cores.
    #[must_use]
    pub fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self { level: DEFAULT_LEVEL, threads, block_size: BLOCK_SIZE }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// The default zstd level, chosen by measurement.
pub const DEFAULT_LEVEL: i32 = 5;

/// A path that must not be packed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The path.
    pub path: StorePath,
    /// A whole sentence.
    pub why: String,
}

/// A written layer.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Size and digests of the whole file; the layer's name is their id.
    pub digests: Digests,
    /// Files, symlinks and directories in it.
    pub nodes: u64,
    /// The NAR size of each path, as read. The database need not know it.
    pub nar_sizes: BTreeMap<StorePath, u64>,
    /// Total bytes of its files before compression, counting every copy.
    pub bytes: u64,
    /// The part of these bytes that are copies of files already in the layer.
    pub duplicate_bytes: u64,
    /// Bytes behind its blocks: the tables of the image, and the index.
    pub tables: u64,
    /// The parts of its blocks, in the order of the file.
    pub blocks: Vec<StoredBlock>,
}

/// The result of packing.
#[derive(Debug)]
pub enum Outcome {
    /// The layer is written.
    Packed(Packed),
    /// These paths do not match the database or cannot be read. Nothing useful was written: pack again without them and their
    /// referrers.
    Rejected(Vec<Rejected>),
}

/// Packs `items` from the directory `store` into `file`, which is empty. `progress` counts bytes read.
///
/// # Errors
/// When the layer cannot be written (disk full). Problems with single paths are in the outcome.
pub fn pack(store: &Path, items: &[Item], file: &File, options: Options, progress: &AtomicU64) -> io::Result<Outcome> {
    pack_with(store, items, (&|_| None, &Older::default()), file, options, progress)
}

/// The rank of a path, if it has one.
pub(crate) type Rank<'a> = &'a dyn Fn(&StorePath) -> Option<usize>;

/// Like [`pack`]; of all paths but derivations, those with a rank come first, in the order of their ranks. Blocks of `older` layers are used
/// again.
///
/// # Errors
/// As with [`pack`].
pub(crate) fn pack_with(
    store: &Path,
    items: &[Item],
    (rank, older): (Rank<'_>, &Older),
    file: &File,
    options: Options,
    progress: &AtomicU64,
) -> io::Result<Outcome> {
    let mut sorted: Vec<(usize, &Item)> =
        items.iter().map(|item| (rank(&item.path).unwrap_or(usize::MAX), item)).collect();
    // Derivations come first: a restore reads all of them, and of a streamed layer they are here soon only if they lie together.
    let key = |(rank, item): &(usize, &Item)| (!item.path.is_derivation(), *rank);
    sorted.sort_by(|one, other| key(one).cmp(&key(other)).then_with(|| packing_order(&one.1.path, &other.1.path)));
    sorted.dedup_by(|a, b| a.1.path == b.1.path);
    let sorted: Vec<&Item> = sorted.into_iter().map(|(_, item)| item).collect();

    let mut out = DigestWriter::new(BufWriter::with_capacity(1 << 20, Guarded::new(file)));
    out.write_all(&[0; SUPERBLOCK_SIZE])?;
    let (walked, written) = pipeline::run(&mut out, options, |sender| {
        walk::walk(store, &sorted, (older, options.block_size), sender, progress)
    })?;
    if !walked.rejected.is_empty() {
        return Ok(Outcome::Rejected(walked.rejected));
    }
    let mut tree = walked.tree;
    written.complete(&mut tree);
    let end_of_blocks = out.position();
    let tables = write_tables(&tree, &written.fragments, end_of_blocks)?;
    out.write_all(&tables.tail)?;
    pad(&mut out)?;
    out.write_all(&encode_index(&written.stored))?;
    pad(&mut out)?;
    out.flush()?;
    let behind_blocks = out.position() - end_of_blocks;
    let mut digests = out.finish().1;
    file.write_all_at(&tables.superblock, 0)?;
    refresh_first_chunk(&mut digests, file)?;
    Ok(Outcome::Packed(Packed {
        digests,
        nodes: tree.nodes.len() as u64 - 1,
        nar_sizes: walked.nar_sizes,
        bytes: walked.bytes,
        duplicate_bytes: walked.duplicate_bytes,
        tables: behind_blocks,
        blocks: written.stored,
    }))
}

/// The order in which derivations, and other paths without a rank, are packed. Outputs and versions of one package are adjacent, because they are
/// similar and used together.
pub(crate) fn packing_order(a: &StorePath, b: &StorePath) -> Ordering {
    a.name().cmp(b.name()).then_with(|| a.cmp(b))
}

fn pad(out: &mut DigestWriter<impl Write>) -> io::Result<()> {
    let missing = round_up_to_page(out.position()) - out.position();
    out.write_all(&vec![0; missing as usize])
}
