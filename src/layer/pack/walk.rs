//! Reads store paths: builds the tree of the image, hashes the NAR of each path, and sends its blocks to the pipeline.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::older::{Older, Place};
use super::pipeline::{BlockSender, Stopped, WriterGone};
use super::{Item, Rejected};
use crate::layer::index::{ContentHash, LargeHash, content_hash};
use crate::layer::nar::{self, NarHasher};
use crate::layer::squashfs::{
    Content, FRAGMENT_SIZE, Fragment, Kind, LARGE_FILE, MAX_FILE, MAX_INODES, MAX_LISTING, Tree,
};
use crate::store::StorePath;

/// The result of the walk.
pub(super) struct Walked {
    pub tree: Tree,
    pub rejected: Vec<Rejected>,
    pub nar_sizes: BTreeMap<StorePath, u64>,
    pub bytes: u64,
    pub duplicate_bytes: u64,
}

/// Why a path is not packed, or the walk ends.
enum NotPacked {
    Path(String),
    Writer,
}

impl From<io::Error> for NotPacked {
    fn from(error: io::Error) -> Self {
        Self::Path(format!("Cannot read it: {error}."))
    }
}

impl From<nix_archive::nar::Error> for NotPacked {
    fn from(error: nix_archive::nar::Error) -> Self {
        Self::Path(format!("It changed while it was read, or is not a store path: {error}."))
    }
}

impl From<WriterGone> for NotPacked {
    fn from(_: WriterGone) -> Self {
        Self::Writer
    }
}

/// Reads `items` in order and sends their blocks, or those of `older` layers. Paths that do not match are in the result; after the first of them, the others
/// are only checked, because the layer will not be used.
pub(super) fn walk(
    store: &Path,
    items: &[&Item],
    (older, block_size): (&Older, usize),
    sender: &BlockSender,
    progress: &AtomicU64,
) -> Result<Walked, Stopped> {
    let mut walker = Walker {
        sender,
        progress,
        older,
        walked: Walked {
            tree: Tree { block_size, ..Tree::new() },
            rejected: Vec::new(),
            nar_sizes: BTreeMap::new(),
            bytes: 0,
            duplicate_bytes: 0,
        },
        known: HashMap::new(),
        large_sizes: HashSet::new(),
        fragment: Vec::with_capacity(FRAGMENT_SIZE),
        fragments: 0,
        in_older: BTreeMap::new(),
        buffer: vec![0; LARGE_FILE],
    };
    let mut roots = Vec::with_capacity(items.len());
    for item in items {
        match walker.path(store, item) {
            Ok(node) => roots.push(node),
            Err(NotPacked::Path(why)) => walker.walked.rejected.push(Rejected { path: item.path.clone(), why }),
            Err(NotPacked::Writer) => return Err(Stopped::WriterGone),
        }
    }
    walker.take_from_older()?;
    walker.flush_fragment()?;
    let mut result = walker.walked;
    let nodes = &result.tree.nodes;
    roots.sort_by(|a, b| nodes[*a as usize].name.cmp(&nodes[*b as usize].name));
    result.tree.nodes[0].kind = Kind::Directory(roots);
    Ok(result)
}

struct Walker<'a> {
    sender: &'a BlockSender,
    progress: &'a AtomicU64,
    older: &'a Older,
    walked: Walked,
    known: HashMap<ContentHash, u32>,
    /// Sizes of the contents with blocks: only a file of one of these sizes can be a copy.
    large_sizes: HashSet<u64>,
    fragment: Vec<u8>,
    fragments: u32,
    /// By block of an older layer: the small files that it has, with their contents.
    in_older: BTreeMap<u32, Vec<(u32, Place)>>,
    buffer: Vec<u8>,
}

/// A fragment block shorter than this is cut only if it is full. Small files take less if more of them share a block: of 1,356 packages of
/// Debian, 200 MB instead of 214 MB with a least of 32, an average of 64 and a most of 128 KiB. The fewer blocks are cut because they are
/// full, the sooner the cuts after a changed file are those of before again.
const FRAGMENT_LEAST: usize = 136 * 1024;
/// Average number of bytes between two cuts beyond that.
const FRAGMENT_MEAN: u64 = 64 * 1024;

/// Returns whether a fragment block ends after a small file. This depends on the content of the file, and is more likely for a
/// large one. After changed files, blocks are therefore soon cut at the same places as in an older layer, and are identical.
fn is_cut_after(hash: &ContentHash, size: usize) -> bool {
    let [a, b, c, d, ..] = *hash;
    u64::from(u32::from_le_bytes([a, b, c, d])) * FRAGMENT_MEAN < (size as u64) << 32
}

/// The file that is being read, and its role in the NAR.
struct Source<'a> {
    path: &'a Path,
    nar_name: Option<&'a [u8]>,
    executable: bool,
    size: u64,
}

impl Walker<'_> {
    fn path(&mut self, store: &Path, item: &Item) -> Result<u32, NotPacked> {
        let full = store.join(item.path.as_str());
        let mut nar = nar::hasher()?;
        let kind = fs::symlink_metadata(&full)?.file_type();
        let kind = self.kind(&full, kind, None, &mut nar)?;
        let (found, size) = nar::finish(nar)?;
        if self.walked.tree.nodes.len() >= MAX_INODES as usize {
            return Err(NotPacked::Path(format!(
                "A layer can contain {MAX_INODES} files, and this path exceeds the limit."
            )));
        }
        if found != item.nar_hash {
            let expected = item.nar_hash;
            return Err(NotPacked::Path(format!(
                "Its bytes do not match the Nix database (NAR hash {found}, registered {expected}): the path is \
                 corrupt. Repair it with `nix-store --repair-path`."
            )));
        }
        self.walked.nar_sizes.insert(item.path.clone(), size);
        Ok(self.walked.tree.add(item.path.as_str().as_bytes(), kind))
    }

    fn kind(
        &mut self,
        full: &Path,
        kind: FileType,
        name: Option<&[u8]>,
        nar: &mut NarHasher,
    ) -> Result<Kind, NotPacked> {
        if kind.is_dir() {
            return self.directory(full, name, nar);
        }
        if kind.is_symlink() {
            let target = fs::read_link(full)?.into_os_string().into_vec();
            nar.symlink(name, &target)?;
            return Ok(Kind::Symlink(target.into()));
        }
        if !kind.is_file() {
            return Err(NotPacked::Path(
                "It contains a device, socket or pipe, which is not allowed in a store path.".into(),
            ));
        }
        self.file(full, name, nar)
    }

    fn directory(&mut self, full: &Path, name: Option<&[u8]>, nar: &mut NarHasher) -> Result<Kind, NotPacked> {
        nar.start_directory(name)?;
        let mut entries = fs::read_dir(full)?
            .map(|entry| entry.and_then(|entry| Ok((entry.file_name().into_vec(), entry.file_type()?))))
            .collect::<io::Result<Vec<_>>>()?;
        // An entry of a listing takes eight bytes, and perhaps a separate header.
        if entries.iter().map(|(name, _)| name.len() + 20).sum::<usize>() > MAX_LISTING {
            let count = entries.len();
            return Err(NotPacked::Path(format!(
                "It contains a directory of {count} entries, which is too large for a layer."
            )));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut children = Vec::with_capacity(entries.len());
        for (name, kind) in entries {
            let kind = self.kind(&full.join(OsStr::from_bytes(&name)), kind, Some(&name), nar)?;
            children.push(self.walked.tree.add(&name, kind));
        }
        nar.end_directory()?;
        Ok(Kind::Directory(children))
    }

    fn file(&mut self, full: &Path, name: Option<&[u8]>, nar: &mut NarHasher) -> Result<Kind, NotPacked> {
        let mut file = open(full)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        if size > MAX_FILE {
            return Err(NotPacked::Path(format!(
                "It contains a file of {size} bytes, which is too large for a layer."
            )));
        }
        let source = Source { path: full, nar_name: name, executable: metadata.mode() & 0o100 != 0, size };
        let content = if size < LARGE_FILE as u64 {
            self.small(&mut file, &source, nar)?
        } else if self.large_sizes.contains(&size) {
            self.large_that_may_be_known(&mut file, &source, nar)?
        } else {
            self.large(&mut file, &source, nar)?
        };
        self.walked.bytes += size;
        self.progress.fetch_add(size, Ordering::Relaxed);
        Ok(Kind::File { content, executable: source.executable })
    }

    fn small(&mut self, file: &mut File, source: &Source<'_>, nar: &mut NarHasher) -> Result<u32, NotPacked> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let bytes = &mut buffer[..source.size as usize];
        let read = file.read_exact(bytes);
        let content = read.map_err(NotPacked::from).and_then(|()| {
            nar.regular(source.nar_name, source.executable, bytes)?;
            self.small_content(bytes)
        });
        self.buffer = buffer;
        content
    }

    fn small_content(&mut self, bytes: &[u8]) -> Result<u32, NotPacked> {
        let hash = content_hash(bytes);
        if let Some(known) = self.known(&hash, bytes.len() as u64) {
            return Ok(known);
        }
        let content = Content { size: bytes.len() as u64, ..Content::default() };
        let number = self.walked.tree.add_content(content);
        self.remember(hash, number);
        match self.older.small(&hash, bytes.len()) {
            _ if bytes.is_empty() => {}
            Some(place) => self.in_older.entry(place.block).or_default().push((number, place)),
            None => self.append(number, bytes, &hash)?,
        }
        Ok(number)
    }

    /// Adds a small file to the current fragment block.
    fn append(&mut self, number: u32, bytes: &[u8], hash: &ContentHash) -> Result<(), WriterGone> {
        if self.fragment.len() + bytes.len() > FRAGMENT_SIZE.min(self.walked.tree.block_size) {
            self.flush_fragment()?;
        }
        let place = Fragment { index: self.fragments, offset: self.fragment.len() as u32 };
        self.walked.tree.contents[number as usize].fragment = Some(place);
        self.fragment.extend_from_slice(bytes);
        if self.fragment.len() >= FRAGMENT_LEAST && is_cut_after(hash, bytes.len()) {
            self.flush_fragment()?;
        }
        Ok(())
    }

    /// Places the small files that older layers have: in their blocks, if these are used well enough.
    fn take_from_older(&mut self) -> Result<(), Stopped> {
        for (number, files) in std::mem::take(&mut self.in_older) {
            if self.is_useless() {
                break;
            }
            let block = self.older.block(number);
            let used: u32 = files.iter().map(|(_, place)| place.size).sum();
            if used < block.size / 2 || block.size as usize > self.walked.tree.block_size {
                let plain = block.plain().map_err(Stopped::Failed)?;
                for (content, Place { offset, size, .. }) in files {
                    let bytes = &plain[offset as usize..(offset + size) as usize];
                    self.append(content, bytes, &content_hash(bytes))?;
                }
                continue;
            }
            // Fragment blocks are numbered in the order in which they are sent.
            self.flush_fragment()?;
            for (content, Place { offset, .. }) in files {
                self.walked.tree.contents[content as usize].fragment = Some(Fragment { index: self.fragments, offset });
            }
            self.fragments += 1;
            self.sender.old_fragment(block.clone())?;
        }
        Ok(())
    }

    fn flush_fragment(&mut self) -> Result<(), WriterGone> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        let mut next = self.sender.buffer();
        next.clear();
        let block = std::mem::replace(&mut self.fragment, next);
        self.fragments += 1;
        if self.is_useless() { Ok(()) } else { self.sender.fragment(block) }
    }

    /// Returns whether the layer will not be used, so that nothing needs to be compressed.
    fn is_useless(&self) -> bool {
        !self.walked.rejected.is_empty()
    }

    fn known(&mut self, hash: &ContentHash, size: u64) -> Option<u32> {
        let known = *self.known.get(hash)?;
        self.walked.duplicate_bytes += size;
        Some(known)
    }

    fn remember(&mut self, hash: ContentHash, number: u32) {
        self.known.insert(hash, number);
    }

    /// A file with blocks whose size is unique: it is read once and sent while it is read.
    fn large(&mut self, file: &mut File, source: &Source<'_>, nar: &mut NarHasher) -> Result<u32, NotPacked> {
        let mut payload = nar.start_regular(source.nar_name, source.executable, source.size)?;
        let (hash, number) = self.send(file, source.size, |block| payload.write_all(block))?;
        payload.finish()?;
        self.remember(hash, number);
        Ok(number)
    }

    /// A file of the same size as an earlier one: it is hashed first, and read again and sent only if it is new.
    fn large_that_may_be_known(
        &mut self,
        file: &mut File,
        source: &Source<'_>,
        nar: &mut NarHasher,
    ) -> Result<u32, NotPacked> {
        let mut payload = nar.start_regular(source.nar_name, source.executable, source.size)?;
        let mut hash = LargeHash::new();
        let mut block = self.sender.buffer();
        let mut left = source.size;
        while left > 0 {
            left -= read_block(file, &mut block, left.min(self.walked.tree.block_size as u64))?;
            hash.block(&content_hash(&block));
            payload.write_all(&block)?;
        }
        payload.finish()?;
        self.sender.done_with(block);
        let hash = hash.finish();
        if let Some(known) = self.known(&hash, source.size) {
            return Ok(known);
        }
        let (again, number) = self.send(&mut open(source.path)?, source.size, |_| Ok(()))?;
        if again != hash {
            return Err(NotPacked::Path("It changed while it was read.".into()));
        }
        self.remember(hash, number);
        Ok(number)
    }

    /// Sends the blocks of a file as a new content, and passes them to `also`. Returns their hash and the content's number.
    fn send(
        &mut self,
        file: &mut File,
        size: u64,
        mut also: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(ContentHash, u32), NotPacked> {
        let number = self.walked.tree.add_content(Content { size, ..Content::default() });
        self.large_sizes.insert(size);
        let (mut whole, mut left) = (LargeHash::new(), size);
        while left > 0 {
            let mut block = self.sender.buffer();
            left -= read_block(file, &mut block, left.min(self.walked.tree.block_size as u64))?;
            let hash = content_hash(&block);
            whole.block(&hash);
            also(&block)?;
            if self.is_useless() {
                self.sender.done_with(block);
            } else if let Some(old) = self.older.large(&hash, block.len()) {
                self.sender.old_block(number, old.clone())?;
                self.sender.done_with(block);
            } else {
                self.sender.block(number, block)?;
            }
        }
        Ok((whole.finish(), number))
    }
}

/// Reads the next `size` bytes of a file into `block`, instead of what is in it. Returns `size`.
fn read_block(file: &mut File, block: &mut Vec<u8>, size: u64) -> io::Result<u64> {
    block.resize(size as usize, 0);
    file.read_exact(block)?;
    Ok(size)
}

/// Opens a file without following a symlink.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}
