//! Reads the archive of an entry twice: first to be sure that there is nothing in it that should not be, then to put its
//! members in their places.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::admission::Admission;
use super::archive::{self, Attributes, Content, refused};
use super::gaps::Gaps;
use super::gitstore;
use super::header::Header;
use super::member::Member;
use super::place::Placer;
use super::roots::Roots;
use crate::base::disk;
use crate::base::note::{Code, Note};
use crate::layer::index::{ContentHash, content_hash};

/// More members than this are not taken: a folder of a million files is no longer a cache.
const MAX_MEMBERS: u64 = 2_000_000;
/// What all that stands around the bytes of files may take: an archive of ours has less than 2 KiB a member, and 14 KiB where its
/// name and target are as long as they can be.
const MAX_AROUND: u64 = 16 << 10;
/// Folders are not counted in a header. So many are taken besides as many as there are files.
const SPARE_FOLDERS: u64 = 100_000;

/// What was put in its place.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Files and symbolic links.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Members that belong to no root of this job.
    outside: Gaps,
    /// Members that could not be put in their places.
    failed: Gaps,
}

impl Placed {
    /// Whether every member is in its place.
    pub(super) fn is_complete(&self) -> bool {
        self.outside.count() + self.failed.count() == 0
    }

    /// Says what the user should know.
    pub(super) fn note(&self, notes: &mut Vec<Note>) {
        if let Some(what) = self.outside.sentence() {
            let message = format!("The cache has files that this job does not name, and they are left out: {what}.");
            notes.push(super::info(Code::FilesOutside, message));
        }
        if let Some(what) = self.failed.sentence() {
            let message = format!("Files of the cache could not be put in their places: {what}.");
            notes.push(super::warn(Code::FilesNotPlaced, message));
        }
    }
}

/// Looks through the archive in `file`, whose bytes are those that `header` tells, before anything is written.
///
/// # Errors
/// With the reason when it is not an archive of this program, or holds something else than the header says.
pub(super) fn check(file: &File, header: &Header, roots: &Roots) -> io::Result<()> {
    let mut admission = roots.nix().map(|_| Admission::default());
    let (mut files, mut folders, mut bytes) = (0_u64, 0_u64, 0_u64);
    // Names can be long, and packed they take nothing: their hashes are kept.
    let mut links: HashSet<ContentHash> = HashSet::new();
    let body = body(file, header)?;
    archive::read(body, &mut |member, _, mut content| {
        if let Some(admission) = &mut admission {
            bytes = bytes.saturating_add(admission.admit(&member, &mut content)?);
        }
        // Whoever puts a link there and then a file behind it means to write elsewhere.
        if !links.is_empty() && around(&member.name()).any(|name| links.contains(&content_hash(name))) {
            return Err(refused(&format!("{member}, which is behind a link in the same archive")));
        }
        match content {
            Content::Directory => folders += 1,
            Content::Link(_) => {
                files += 1;
                links.insert(content_hash(&member.name()));
            }
            Content::File(size, reader) => {
                files += 1;
                bytes = bytes.saturating_add(size);
                // Before it is unpacked: a file of any size packs to nothing.
                if bytes <= header.facts.bytes {
                    io::copy(&mut reader.take(size), &mut io::sink())?;
                }
            }
        }
        if files > header.facts.files || bytes > header.facts.bytes || folders > most_folders(header) {
            return Err(other_content());
        }
        Ok(())
    })?;
    admission.map_or(Ok(()), Admission::finish)?;
    if (files, bytes) == (header.facts.files, header.facts.bytes) { Ok(()) } else { Err(other_content()) }
}

fn other_content() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "it does not hold what its header says")
}

fn most_folders(header: &Header) -> u64 {
    header.facts.files.saturating_add(SPARE_FOLDERS)
}

/// Makes sure, before anything is fetched, that an entry with this header can be unpacked into the folders of `roots`, and that
/// `scratch` takes its body.
///
/// # Errors
/// When there is no room, of the kind [`ErrorKind::StorageFull`]; or when no entry of ours has so much in it.
pub(super) fn ensure_room(header: &Header, roots: &Roots, scratch: &Path) -> io::Result<()> {
    if header.facts.files > MAX_MEMBERS {
        let message = format!("it says that it has {} files, more than {MAX_MEMBERS}", header.facts.files);
        return Err(io::Error::new(ErrorKind::InvalidData, message));
    }
    let scratch_room = disk::room(scratch);
    let mut fetched = false;
    for place in roots.places() {
        let Ok(location) = roots.location(place) else { continue };
        let Ok(room) = disk::room(&location.base) else { continue };
        // Where both are on one disk, the body is there while its files are put in their places.
        let shares = scratch_room.as_ref().is_ok_and(|scratch| scratch.device == room.device);
        fetched |= shares;
        let needed = header.facts.bytes.saturating_add(if shares { header.size } else { 0 });
        if needed > room.usable() {
            return Err(disk::no_room(&location.base, needed));
        }
        if header.facts.files > room.files {
            let message = format!("it has {} files, and the disk takes {} more", header.facts.files, room.files);
            return Err(io::Error::new(ErrorKind::StorageFull, message));
        }
    }
    if fetched { Ok(()) } else { disk::ensure(scratch, header.size) }
}

/// Puts the members of the archive in `file` where `roots` wants them.
///
/// # Errors
/// When the archive cannot be read, or the disk is full. All else is in the result.
pub(super) fn place(file: &File, header: &Header, roots: &Roots) -> io::Result<Placed> {
    let mut placing = Placing { roots, open: BTreeMap::new(), stores: BTreeMap::new(), placed: Placed::default() };
    let body = body(file, header)?;
    let read = archive::read(body, &mut |member, attributes, content| placing.add(&member, attributes, content));
    let read = read.and_then(|()| placing.complete_stores());
    for opened in std::mem::take(&mut placing.open).into_values().flatten() {
        if let Err(error) = opened.placer.close() {
            placing.placed.failed.add(&opened.name, &error);
        }
    }
    read.map(|()| placing.placed)
}

/// The archive, which ends where no archive with this header goes on.
fn body(mut file: &File, header: &Header) -> io::Result<impl Read> {
    file.seek(SeekFrom::Start(0))?;
    let members = header.facts.files.saturating_add(most_folders(header)).min(2 * MAX_MEMBERS);
    let most = header.facts.bytes.saturating_add(members.saturating_mul(MAX_AROUND));
    Ok(zstd::Decoder::new(file)?.take(most))
}

/// The name of a member and those of all folders that it is in.
fn around(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    ends.chain([name.len()]).map(|end| &name[..end])
}

struct Placing<'a> {
    roots: &'a Roots,
    /// By the number of the place; none where it cannot be opened.
    open: BTreeMap<usize, Option<Opened>>,
    /// Git stores of Nix's that something was put into, and the number of their place.
    stores: BTreeMap<PathBuf, usize>,
    placed: Placed,
}

/// A place that files are being put in.
struct Opened {
    placer: Placer,
    /// What the place is called.
    name: PathBuf,
    /// Where it is, from the placer's folder.
    rest: PathBuf,
}

impl Placing<'_> {
    fn add(&mut self, member: &Member, attributes: Attributes, content: Content<'_>) -> io::Result<()> {
        let Some((number, path)) = self.roots.locate(member) else {
            self.placed.outside.add(Path::new(&member.to_string()), &"no pattern of this job names it");
            return Ok(());
        };
        if self.roots.nix().is_some()
            && let Some(inner) = gitstore::store(&member.path)
        {
            let depth = member.path.iter().count() - inner.iter().count();
            self.stores.extend(path.ancestors().nth(depth).map(|store| (store.to_owned(), number)));
        }
        match self.put(number, &path, attributes, content) {
            Ok(()) => Ok(()),
            // A full disk, and what the archive cannot give, are no trouble of this file alone.
            Err(error) if ends_all(error.kind()) => Err(error),
            Err(error) => {
                self.placed.failed.add(&path, &error);
                Ok(())
            }
        }
    }

    /// Completes each Git store with what no archive contains: the required folders, and our own config.
    fn complete_stores(&mut self) -> io::Result<()> {
        let attributes = Attributes::new(0o755, SystemTime::now());
        for (store, number) in std::mem::take(&mut self.stores) {
            let mut made = Ok(());
            for folder in ["objects", "refs"] {
                made = made.and_then(|()| self.put(number, &store.join(folder), attributes, Content::Directory));
            }
            let config = store.join("config");
            if made.is_ok() && config.symlink_metadata().is_err() {
                let (size, mut text) = (gitstore::CONFIG.len() as u64, gitstore::CONFIG.as_bytes());
                let attributes = Attributes { mode: 0o644, ..attributes };
                made = self.write(number, &config, attributes, Content::File(size, &mut text)).map(drop);
            }
            match made {
                Err(error) if ends_all(error.kind()) => return Err(error),
                Err(error) => self.placed.failed.add(&store, &error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, number: usize, path: &Path, attributes: Attributes, content: Content<'_>) -> io::Result<()> {
        let is_file = !matches!(content, Content::Directory);
        self.placed.bytes += self.write(number, path, attributes, content)?;
        self.placed.files += u64::from(is_file);
        Ok(())
    }

    /// Returns the bytes of the file.
    fn write(&mut self, number: usize, path: &Path, attributes: Attributes, content: Content<'_>) -> io::Result<u64> {
        let opened = match self.open.entry(number) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let opened = open(self.roots, number);
                if let Err(error) = &opened {
                    tracing::debug!("the place of {} cannot be opened: {error}", path.display());
                }
                entry.insert(opened.ok())
            }
        };
        let Some(opened) = opened else {
            return Err(io::Error::other(
                "the folder that it belongs to cannot be opened, or leads out of the workspace",
            ));
        };
        let inner = path.strip_prefix(&opened.name).unwrap_or(path);
        let inner: PathBuf = opened.rest.components().chain(inner.components()).collect();
        match content {
            Content::Directory => opened.placer.directory(&inner, attributes).map(|()| 0),
            Content::Link(target) => opened.placer.link(&inner, &target, attributes.modified).map(|()| 0),
            Content::File(size, reader) => {
                // Others write to this disk, too.
                disk::ensure(opened.placer.base(), size)?;
                opened.placer.file(&inner, size, reader, attributes).map(|()| size)
            }
        }
    }
}

fn open(roots: &Roots, number: usize) -> io::Result<Opened> {
    let place = roots.places().get(number).ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
    let location = roots.location(place)?;
    let placer = Placer::new(&location.base, roots.nix().is_some())?;
    Ok(Opened { placer, name: place.path.clone(), rest: location.rest })
}

fn ends_all(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidData, QuotaExceeded, StorageFull, UnexpectedEof};
    matches!(kind, StorageFull | QuotaExceeded | UnexpectedEof | InvalidData)
}
