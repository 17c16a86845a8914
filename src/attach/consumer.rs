//! Checks that every process that serves the store sees the mount over it.
//!
//! A mount belongs to a mount namespace. A nix-daemon in another one (in a container, or started as root where mounts do not
//! propagate, because Nix then enters a separate namespace) continues with the directory below, and every build would fail on
//! paths that are valid but missing. So, after mounting and before more than one path of it is registered:
//!
//! 1. Each process in another namespace that has files of the database or the daemon's socket open, or is a nix-daemon on the
//!    same database, is found, and the path is accessed through its root.
//! 2. The daemon behind each socket is asked to read the path. This covers a daemon whose process is not visible from here, and
//!    starts one that systemd starts on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::derivations::Known;
use super::register::{InPlace, register_closed};
use super::{Admit, CacheError, as_owner, facts};
use crate::attach::elsewhere::{Elsewhere, elsewhere, is_one};
use crate::store::daemon::{View, look_through};
use crate::store::{self, PathInfo, Paths, STORE_DIR, StoreDirs, StorePath};

/// Longest time for a daemon's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Process names of Nix's daemon, which may be idle without open files.
const DAEMONS: [&str; 2] = ["nix-daemon", "lix-daemon"];

/// Whether a mount is visible.
#[derive(Debug)]
pub(crate) enum Sight {
    /// To every process that was found. The path that a daemon was asked for is valid.
    Seen(Option<StorePath>),
    /// Not to some process, with a description. Nothing of it is valid.
    NotSeen(String),
}

/// Checks whether every process that serves the store sees the mounted paths in `placed`.
///
/// # Errors
/// When the store cannot be written. [`CacheError::Stuck`] means that a path is valid nevertheless.
pub(crate) fn look(
    dirs: &StoreDirs,
    placed: &BTreeMap<StorePath, InPlace>,
    (sockets, proof): (&[PathBuf], (usize, Admit)),
    valid: &Paths,
) -> Result<Sight, CacheError> {
    let Some(any) = placed.keys().next() else { return Ok(Sight::Seen(None)) };
    if let Some(process) = blind_process(dirs, any, sockets) {
        let store = dirs.real_store();
        return Ok(Sight::NotSeen(format!(
            "{process}, which uses the store, is in another mount namespace and does not see what is mounted on {}",
            store.display()
        )));
    }
    if sockets.is_empty() {
        return Ok(Sight::Seen(None));
    }
    // Unproven paths are never registered, not even for a moment.
    let mut proven = placed.clone();
    facts::prove(dirs, &mut proven, (Known::new(), valid), proof);
    look_through_daemons(dirs, &proven, sockets, valid)
}

/// The path of the database in a daemon's view.
const DATABASE: &str = "/nix/var/nix/db/db.sqlite";

/// Files that users of the database have open.
const FILES: [&str; 6] = ["db.sqlite", "db.sqlite-wal", "db.sqlite-shm", "big-lock", "reserved", "gc.lock"];

/// Returns a process that uses the store and does not see `path`.
fn blind_process(dirs: &StoreDirs, path: &StorePath, sockets: &[PathBuf]) -> Option<Elsewhere> {
    let places = [dirs.real(path), PathBuf::from(path.full(STORE_DIR))];
    let used = Used::of(dirs, sockets);
    let is_blind = |process: &Elsewhere| {
        let is_seen = |place: &PathBuf| fs::symlink_metadata(process.view(place)).is_ok();
        // A process that has ended meanwhile sees nothing and needs nothing.
        !places.iter().any(is_seen) && used.is_user(process)
    };
    elsewhere().into_iter().find(is_blind)
}

/// The files by which a process that uses the store is recognised.
struct Used<'a> {
    database: PathBuf,
    /// Device and inode of files of the database.
    files: BTreeSet<(u64, u64)>,
    /// The descriptor names of the sockets, and their paths.
    sockets: BTreeMap<PathBuf, &'a Path>,
}

impl<'a> Used<'a> {
    fn of(dirs: &StoreDirs, sockets: &'a [PathBuf]) -> Self {
        let identity = |path: PathBuf| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let folders = [dirs.state_dir().join("db"), dirs.state_dir()];
        let places = folders.iter().flat_map(|folder| FILES.map(|name| folder.join(name)));
        let files = places.filter_map(identity).collect();
        // The inode of a socket is not that of its file: the kernel lists it with the path it was bound to.
        let listed = fs::read("/proc/net/unix").unwrap_or_default();
        let number = |line: &str| {
            let mut fields = line.split_ascii_whitespace().skip(6);
            let (inode, bound) = (fields.next()?, Path::new(fields.next()?));
            let socket = sockets.iter().find(|socket| *socket == bound)?;
            Some((PathBuf::from(format!("socket:[{inode}]")), socket.as_path()))
        };
        let sockets = String::from_utf8_lossy(&listed).lines().filter_map(number).collect();
        Self { database: dirs.db_path(), files, sockets }
    }

    /// Returns whether a process uses the store, as far as it is visible.
    fn is_user(&self, process: &Elsewhere) -> bool {
        let is_daemon = DAEMONS.iter().any(|name| process.program.starts_with(name));
        (is_daemon && is_one(&self.database, &process.view(Path::new(DATABASE))))
            || descriptors(process).any(|descriptor| self.has(process, &descriptor))
    }

    fn has(&self, process: &Elsewhere, descriptor: &Path) -> bool {
        let Ok(name) = fs::read_link(descriptor) else { return false };
        // Check the name first: accessing an unrelated file may block forever.
        let is_named = name.file_name().is_some_and(|name| FILES.iter().any(|file| name == *file));
        let is_used = |metadata: fs::Metadata| self.files.contains(&(metadata.dev(), metadata.ino()));
        // A container may have bound a socket of the same name.
        let is_ours = |socket: &&Path| is_one(socket, &process.view(socket));
        (is_named && fs::metadata(descriptor).is_ok_and(is_used)) || self.sockets.get(&name).is_some_and(is_ours)
    }
}

fn descriptors(process: &Elsewhere) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(process.folder().join("fd")).into_iter().flatten().flatten().map(|descriptor| descriptor.path())
}

/// Registers one small path and lets the daemon behind each socket read it. If one cannot, the path is unregistered again.
fn look_through_daemons(
    dirs: &StoreDirs,
    placed: &BTreeMap<StorePath, InPlace>,
    sockets: &[PathBuf],
    valid: &Paths,
) -> Result<Sight, CacheError> {
    let Some(info) = probe(dirs, placed, valid)? else {
        return Ok(Sight::NotSeen("no path could be registered for the nix-daemon to read".into()));
    };
    for socket in sockets {
        if let View::NotSeen(error) = look_through(socket, &info, PATIENCE) {
            if let Err(error) = as_owner(dirs, || store::unregister(dirs, std::slice::from_ref(&info.path))) {
                return Err(CacheError::Stuck { store: dirs.real_store(), why: error.to_string() });
            }
            return Ok(Sight::NotSeen(format!(
                "the nix-daemon behind {} does not see what is mounted on {} ({error})",
                socket.display(),
                dirs.real_store().display()
            )));
        }
    }
    Ok(Sight::Seen(Some(info.path)))
}

/// Registers the smallest path whose references are all valid.
fn probe(
    dirs: &StoreDirs,
    placed: &BTreeMap<StorePath, InPlace>,
    valid: &Paths,
) -> Result<Option<PathInfo>, CacheError> {
    let is_free = |info: &&PathInfo| info.references.iter().all(|path| *path == info.path || valid.contains_key(path));
    let mut free: Vec<&PathInfo> = placed.values().map(|place| &*place.info).filter(is_free).collect();
    // Outputs of one derivation should become valid together, so prefer a derivation with a single output.
    let mut outputs: BTreeMap<&StorePath, u32> = BTreeMap::new();
    for deriver in placed.values().filter_map(|place| place.info.deriver.as_ref()) {
        *outputs.entry(deriver).or_default() += 1;
    }
    let is_one_of_many = |info: &PathInfo| info.deriver.as_ref().is_some_and(|deriver| outputs[deriver] > 1);
    free.sort_by_key(|info| (is_one_of_many(info), info.nar_size));
    // Skip a path that another process is building right now.
    for info in free.into_iter().take(8) {
        let one = BTreeMap::from([(info.path.clone(), placed[&info.path].clone())]);
        if as_owner(dirs, || register_closed(dirs, &one, Vec::new(), |path| valid.contains_key(path)))?
            .contains(&info.path)
        {
            return Ok(Some(info.clone()));
        }
    }
    Ok(None)
}
