//! Writes the files of a level into an archive, and computes the digest of their content.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use sha2::{Digest, Sha256};

use super::archive::{Attributes, Writer};
use super::gaps::Gaps;
use super::header::{Content, Header};
use super::walk::{Findings, Item, Sources};
use crate::base::digest::Sha;
use crate::base::disk::Guarded;
use crate::series::HEAD;

/// Files up to this size are read before their header is written, so that concurrent changes are harmless.
const SMALL: u64 = 1 << 20;

/// The content of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub digest: Sha,
    /// Files and symbolic links.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// Computes the digest of the files without storing anything.
///
/// # Errors
/// When a file changes while it is read.
pub(super) fn measure(sources: &Sources<'_>, findings: &mut Findings) -> io::Result<Packed> {
    Ok(write(sources, io::sink(), findings)?.1)
}

/// Writes the body of an entry to `file`, after the space for its header, and returns the header. `now` is in seconds since 1970.
///
/// # Errors
/// When `file` cannot be written, or a large file changes while it is read.
pub(super) fn pack(
    sources: &Sources<'_>,
    mut file: &File,
    level: i32,
    now: u64,
    findings: &mut Findings,
) -> io::Result<(Packed, Header)> {
    file.seek(SeekFrom::Start(HEAD as u64))?;
    let body =
        Hashing { inner: io::BufWriter::with_capacity(1 << 20, Guarded::new(file)), hash: Sha256::new(), size: 0 };
    let mut zstd = zstd::Encoder::new(body, level)?;
    zstd.multithread(std::thread::available_parallelism().map_or(1, |count| count.get() as u32))?;
    let (zstd, packed) = write(sources, zstd, findings)?;
    let mut body = zstd.finish()?;
    body.flush()?;
    let header = Header {
        facts: Content { digest: packed.digest, files: packed.files, bytes: packed.bytes, created: now },
        size: body.size,
        digest: Sha(body.hash.finalize().into()),
    };
    drop(body.inner);
    Ok((packed, header))
}

fn write<W: Write>(sources: &Sources<'_>, inner: W, findings: &mut Findings) -> io::Result<(W, Packed)> {
    let mut packing = Packing {
        writer: Writer::new(inner),
        hash: Sha256::new(),
        packed: Packed { digest: Sha([0; 32]), files: 0, bytes: 0 },
    };
    let mut skipped = Gaps::default();
    sources.visit(findings, &mut |item| packing.add(item, &mut skipped))?;
    findings.unreadable.join(skipped);
    packing.packed.digest = Sha(packing.hash.finalize().into());
    Ok((packing.writer.finish()?, packing.packed))
}

struct Packing<W: Write> {
    writer: Writer<W>,
    /// Covers the members: name, kind, mode, and the target or size and SHA-256 of the bytes. A text is its length in 8 bytes,
    /// little-endian, followed by its bytes.
    hash: Sha256,
    packed: Packed,
}

impl<W: Write> Packing<W> {
    fn add(&mut self, item: &Item, skipped: &mut Gaps) -> io::Result<()> {
        let metadata = &item.metadata;
        let attributes = Attributes::new(metadata.permissions().mode(), metadata.modified()?);
        if metadata.is_dir() {
            self.note(item, 0, attributes.mode, b"");
            return self.writer.directory(&item.member, attributes);
        }
        if metadata.is_symlink() {
            return match fs::read_link(&item.at) {
                Ok(target) => {
                    self.packed.files += 1;
                    // Links have no mode.
                    self.note(item, 1, 0, target.as_os_str().as_bytes());
                    self.writer.link(&item.member, &target, Attributes { mode: 0o777, ..attributes })
                }
                Err(error) => {
                    skip(item, &error, skipped);
                    Ok(())
                }
            };
        }
        // The file may have been replaced since the walk, for example by a link: only the original one is read.
        let opened = open(item).and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((now, file)) if now.is_file() => self.file(item, &file, now.len(), attributes, skipped),
            Ok(_) => {
                skip(item, &io::Error::other("it became something else"), skipped);
                Ok(())
            }
            Err(error) => {
                skip(item, &error, skipped);
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        item: &Item,
        file: &File,
        size: u64,
        attributes: Attributes,
        skipped: &mut Gaps,
    ) -> io::Result<()> {
        let (size, digest) = if size <= SMALL {
            let mut bytes = Vec::with_capacity(size as usize + 1);
            if let Err(error) = file.take(2 * SMALL).read_to_end(&mut bytes) {
                skip(item, &error, skipped);
                return Ok(());
            }
            self.writer.file(&item.member, bytes.len() as u64, bytes.as_slice(), attributes)?;
            (bytes.len() as u64, Sha::of(&bytes))
        } else {
            let mut content = Hashing { inner: file.take(size), hash: Sha256::new(), size: 0 };
            let written = self.writer.file(&item.member, size, &mut content, attributes);
            if written.is_ok() && content.size != size {
                let message = format!("{} changed while it was being saved", item.at.display());
                return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
            }
            written?;
            (size, Sha(content.hash.finalize().into()))
        };
        self.packed.files += 1;
        self.packed.bytes += size;
        self.note(item, 2, attributes.mode, &digest.0);
        Ok(())
    }

    fn note(&mut self, item: &Item, kind: u64, mode: u32, content: &[u8]) {
        let name = item.member.name();
        self.hash.update((name.len() as u64).to_le_bytes());
        self.hash.update(&name);
        self.hash.update(kind.to_le_bytes());
        self.hash.update(u64::from(mode).to_le_bytes());
        self.hash.update((content.len() as u64).to_le_bytes());
        self.hash.update(content);
    }
}

fn open(item: &Item) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(open(&item.at, flags, Mode::empty())?))
}

/// Leaves out unreadable files; files that no longer exist are ignored.
fn skip(item: &Item, error: &io::Error, skipped: &mut Gaps) {
    if error.kind() != ErrorKind::NotFound {
        skipped.add(&item.at, error);
    }
}

/// A writer that counts bytes and computes their digest.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
    size: u64,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}
