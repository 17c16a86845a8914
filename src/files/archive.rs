//! The archive: a tar file of files, folders and symbolic links, written and read member by member.
//!
//! Names are those of [`Member::name`]. A name or target of more than 99 bytes is in a GNU member `L` or `K` before its own (tar(5),
//! "GNU tar archives"); fractions of a second of the time are in a PAX record `mtime` (pax(1)).

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tar::{Builder, EntryType, Header};

use super::member::Member;

/// Longest name, target or PAX record in bytes.
const MAX_EXTENSION: u64 = 64 * 1024;
/// Bytes of a name that fit into the header itself.
const SHORT: usize = 99;
/// Bits of a mode that are kept: read, write and execute permissions.
const MODE: u32 = 0o777;

/// Attributes of all kinds of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Its permissions.
    pub mode: u32,
    /// Its modification time.
    pub modified: Duration,
}

impl Attributes {
    pub(super) fn new(mode: u32, modified: SystemTime) -> Self {
        Self { mode: mode & MODE, modified: modified.duration_since(UNIX_EPOCH).unwrap_or_default() }
    }
}

/// Writes an archive.
pub(super) struct Writer<W: Write> {
    tar: Builder<W>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { tar: Builder::new(inner) }
    }

    pub(super) fn directory(&mut self, member: &Member, attributes: Attributes) -> io::Result<()> {
        self.append(EntryType::Directory, member, b"", attributes, 0, io::empty())
    }

    pub(super) fn link(&mut self, member: &Member, target: &Path, attributes: Attributes) -> io::Result<()> {
        self.append(EntryType::Symlink, member, target.as_os_str().as_bytes(), attributes, 0, io::empty())
    }

    /// Adds a file of exactly `size` bytes from `content`.
    pub(super) fn file(
        &mut self,
        member: &Member,
        size: u64,
        content: impl Read,
        attributes: Attributes,
    ) -> io::Result<()> {
        self.append(EntryType::Regular, member, b"", attributes, size, content)
    }

    pub(super) fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }

    fn append(
        &mut self,
        kind: EntryType,
        member: &Member,
        target: &[u8],
        attributes: Attributes,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let name = member.name();
        let nanoseconds = attributes.modified.subsec_nanos();
        if nanoseconds > 0 {
            let time = format!("{}.{nanoseconds:09}", attributes.modified.as_secs());
            self.tar.append_pax_extensions([("mtime", time.as_bytes())])?;
        }
        for (kind, text) in [(EntryType::GNULongName, name.as_slice()), (EntryType::GNULongLink, target)] {
            if text.len() > SHORT {
                let mut header = Header::new_gnu();
                header.set_entry_type(kind);
                header.set_size(text.len() as u64);
                header.set_cksum();
                self.tar.append(&header, text)?;
            }
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode);
        header.set_mtime(attributes.modified.as_secs());
        header.set_size(size);
        if let Some(header) = header.as_gnu_mut() {
            header.name[..name.len().min(SHORT)].copy_from_slice(&name[..name.len().min(SHORT)]);
            header.linkname[..target.len().min(SHORT)].copy_from_slice(&target[..target.len().min(SHORT)]);
        }
        header.set_cksum();
        self.tar.append(&header, content)
    }
}

/// The kind of a member.
pub(super) enum Content<'a> {
    /// A folder.
    Directory,
    /// A symbolic link with its target.
    Link(OsString),
    /// A file with its size in bytes.
    File(u64, &'a mut dyn Read),
}

/// Passes every member of an archive to `visit`, in order.
///
/// # Errors
/// Those of `visit`; of kind `InvalidData` for members that [`Writer`] never writes; and when the archive cannot be read.
pub(super) fn read(
    archive: impl Read,
    visit: &mut impl FnMut(Member, Attributes, Content<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut tar = tar::Archive::new(archive);
    let mut extensions = Extensions::default();
    // Raw, because the sizes of extensions are not limited otherwise.
    for entry in tar.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if extensions.take(kind, &mut entry)? {
            continue;
        }
        let extensions = std::mem::take(&mut extensions);
        let name = extensions.name.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let member = Member::parse(&name).ok_or_else(|| refused(&format!("of the name {}", shown(&name))))?;
        let header = entry.header();
        let seconds = Duration::from_secs(header.mtime()?);
        let modified = extensions.modified.unwrap_or(seconds);
        let attributes = Attributes { mode: header.mode()? & MODE, modified };
        let content = match kind {
            EntryType::Directory => Content::Directory,
            EntryType::Symlink => {
                let target = extensions.target.or_else(|| Some(header.link_name_bytes()?.into_owned()));
                let target = target.filter(|target| !target.is_empty() && !target.contains(&0));
                let target = target.ok_or_else(|| refused(&format!("{member}, a link to nowhere")))?;
                Content::Link(OsString::from_vec(target))
            }
            EntryType::Regular => Content::File(entry.size(), &mut entry),
            kind => return Err(refused(&format!("{member} of the kind {:?}", char::from(kind.as_byte())))),
        };
        visit(member, attributes, content)?;
    }
    Ok(())
}

/// The extensions that precede a member.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    modified: Option<Duration>,
}

impl Extensions {
    /// Reads a member of the kind `kind` if it is an extension; returns whether it was one.
    fn take(&mut self, kind: EntryType, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<bool> {
        if !matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader) {
            return Ok(false);
        }
        if entry.size() > MAX_EXTENSION {
            return Err(refused("whose name or target is too long"));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        match kind {
            EntryType::GNULongName => self.name = Some(bytes),
            EntryType::GNULongLink => self.target = Some(bytes),
            _ => {
                let records = tar::PaxExtensions::new(&bytes).flatten();
                let time = records.filter(|record| record.key_bytes() == b"mtime").last();
                self.modified = time.and_then(|record| time_of(record.value().ok()?));
            }
        }
        Ok(true)
    }
}

/// Parses seconds with nine decimal places.
fn time_of(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.split_once('.')?;
    let nanoseconds: u32 = fraction.parse().ok().filter(|_| fraction.len() == 9)?;
    Some(Duration::new(seconds.parse().ok()?, nanoseconds))
}

/// The error for a member that this program would not write.
pub(super) fn refused(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("it holds a member {what}, which no archive of this program has"),
    )
}

fn shown(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&name[..name.len().min(200)]))
}
