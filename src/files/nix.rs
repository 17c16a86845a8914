//! Nix's own caches of evaluations and downloads: selects the parts to keep, and makes consistent copies of their databases even
//! while Nix writes to them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::gaps::Gaps;
use super::gitstore::{self, Part};
use super::sqlite;
use crate::base::bounds::open_file;
use crate::base::note::{Code, Note};
use crate::base::{env_vars, human};

/// Default age above which unused evaluation caches are left out.
pub(super) const DEFAULT_MAX_AGE: Duration = Duration::from_hours(14 * 24);
/// Default limit for the unpacked size of Nix's caches in bytes.
pub(super) const DEFAULT_MAX_BYTES: u64 = 500_000_000;

/// What is kept, from Nix's cache folder: evaluations (`src/libexpr/eval-cache.cc`), what fetchers found
/// (`src/libfetchers/cache.cc`), the Git stores of `tarball:`, `github:` and `git:` inputs (`git-utils.cc`, `git.cc`). Not
/// `binary-cache-v*.sqlite`, which says what substituters had a while ago, nor files that are being written.
pub(super) const PATTERNS: [&str; 8] = [
    "eval-cache-v*/*.sqlite",
    "fetcher-cache-v*.sqlite",
    "tarball-cache*",
    "gitv3",
    "!gitv3/*.lock",
    "!{gitv3/*,tarball-cache*}/**/*.lock",
    "!{gitv3/*,tarball-cache*}/**/tmp_*",
    "!{gitv3/*,tarball-cache*}/hooks",
];

/// The limits of Nix's caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NixLimits {
    /// Age above which unused evaluation caches are left out.
    pub max_age: Duration,
    /// Limit for the total unpacked size in bytes.
    pub max_bytes: u64,
}

impl Default for NixLimits {
    fn default() -> Self {
        Self { max_age: DEFAULT_MAX_AGE, max_bytes: DEFAULT_MAX_BYTES }
    }
}

/// The folder of Nix's caches in an environment that `lookup` answers for: `NIX_CACHE_HOME`, `nix` in `XDG_CACHE_HOME`, or
/// `.cache/nix` in `HOME`. Source: `getCacheDir` in Nix's `src/libutil/users.cc`. None when none of them is set.
#[must_use]
pub(crate) fn nix_cache_dir(lookup: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder(env_vars::NIX_CACHE_HOME)
        .or_else(|| folder(env_vars::XDG_CACHE_HOME).map(|folder| folder.join("nix")))
        .or_else(|| folder(env_vars::HOME).map(|folder| folder.join(".cache/nix")))
}

/// A part of the caches, which is kept as a whole or not at all.
#[derive(Default)]
struct Unit {
    /// Its class in order of value, then its age: the first ones are kept first.
    order: (u8, Duration),
    bytes: u64,
    is_database: bool,
    /// For a Git store: whether there is a valid `HEAD`, without which Git does not recognise the repository.
    has_head: bool,
    /// For a Git store: a file in it with which a restored store would not work, if any.
    odd: Option<PathBuf>,
}

impl Unit {
    /// Adds a file of a Git store.
    fn look(&mut self, path: &Path, at: &Path) {
        let text = || {
            open_file(at).and_then(|file| {
                let mut bytes = Vec::new();
                file.take(gitstore::MOST_TEXT).read_to_end(&mut bytes).map(|_| bytes)
            })
        };
        let inner = gitstore::store(path).and_then(|store| path.strip_prefix(store).ok());
        let is = |name: &str| inner == Some(Path::new(name));
        let sound = match gitstore::part(path, false) {
            Some(Part::Text(form)) => {
                let sound = text().is_ok_and(|text| gitstore::has_form(form, &text));
                self.has_head |= sound && is("HEAD");
                sound
            }
            _ if is("config") => text().is_ok_and(|text| gitstore::is_usual(&text)),
            _ => !is("objects/info/alternates"),
        };
        if !sound {
            self.odd.get_or_insert_with(|| at.to_owned());
        }
    }
}

/// The parts to keep, and copies of their databases.
#[derive(Default)]
pub(super) struct Staged {
    units: BTreeMap<PathBuf, Option<PathBuf>>,
}

impl Staged {
    /// Where to read the bytes of `path`, relative to Nix's cache folder. None if it is left out.
    pub(super) fn source(&self, path: &Path, original: &Path, metadata: &Metadata) -> Option<PathBuf> {
        gitstore::part(path, metadata.is_dir()).filter(|_| !metadata.is_symlink())?;
        match self.units.get(&unit_of(path)?)? {
            Some(copy) => Some(copy.clone()),
            None => Some(original.to_owned()),
        }
    }
}

/// Collects the parts of Nix's caches; `walk` passes each file with its relative path and its location.
pub(super) struct Gathering {
    limits: NixLimits,
    units: BTreeMap<PathBuf, (PathBuf, Unit)>,
}

impl Gathering {
    pub(super) fn new(limits: NixLimits) -> Self {
        Self { limits, units: BTreeMap::new() }
    }

    /// Adds one file.
    pub(super) fn add(&mut self, path: &Path, at: &Path, metadata: &Metadata) {
        let Some(name) = unit_of(path) else { return };
        let is_database = name == path && path.extension().is_some_and(|end| end == "sqlite");
        let (_, unit) = self.units.entry(name).or_insert_with(|| {
            let unit = Unit { order: (class(path), Duration::MAX), is_database, ..Unit::default() };
            (at.to_owned(), unit)
        });
        if gitstore::store(path).is_some() {
            unit.look(path, at);
        }
        if gitstore::part(path, false).is_none() || metadata.is_symlink() {
            return;
        }
        unit.bytes += metadata.len();
        unit.order.1 = unit.order.1.min(age(metadata));
    }

    /// Decides which parts to keep, and copies their databases into the folder `scratch`.
    pub(super) fn stage(self, scratch: &Path, notes: &mut Vec<Note>) -> io::Result<Staged> {
        let copies = scratch.join("databases");
        fs::create_dir_all(&copies)?;
        let mut ordered: Vec<_> = self.units.into_iter().collect();
        ordered.sort_by_key(|(_, (_, unit))| unit.order);
        let (mut staged, mut total) = (Staged::default(), 0);
        let (mut large, mut unreadable) = ((0_u64, 0_u64), Gaps::default());
        for (number, (name, (at, mut unit))) in ordered.into_iter().enumerate() {
            if unit.order.0 == EVALUATIONS && unit.order.1 > self.limits.max_age {
                tracing::debug!("{} is left out: it was not used for a long time", name.display());
                continue;
            }
            if gitstore::store(&name).is_some() && (unit.odd.is_some() || !unit.has_head) {
                let odd = unit.odd.unwrap_or_else(|| at.clone());
                tracing::debug!("{} is left out: {} is not as Nix makes it", name.display(), odd.display());
                continue;
            }
            let mut copy = None;
            if unit.is_database {
                let to = copies.join(number.to_string());
                match sqlite::copy(&at, &to) {
                    Ok(bytes) => unit.bytes = bytes,
                    Err(error) => {
                        unreadable.add(&at, &error);
                        continue;
                    }
                }
                copy = Some(to);
            }
            if total + unit.bytes > self.limits.max_bytes {
                large = (large.0 + 1, large.1 + unit.bytes);
                if let Some(copy) = copy {
                    fs::remove_file(copy)?;
                }
                continue;
            }
            total += unit.bytes;
            staged.units.insert(name, copy);
        }
        note(large, self.limits.max_bytes, &unreadable, notes);
        Ok(staged)
    }
}

fn note(large: (u64, u64), limit: u64, unreadable: &Gaps, notes: &mut Vec<Note>) {
    if large.0 > 0 {
        let (count, bytes) = large;
        let message = format!(
            "{} of Nix's caches with {} {} not kept: the limit is {} in all. Evaluations are kept first, then what was fetched.",
            human::count(count, "part"),
            human::bytes(bytes),
            if count == 1 { "is" } else { "are" },
            human::bytes(limit)
        );
        notes.push(super::info(Code::EvalCacheTooLarge, message));
    }
    if let Some(what) = unreadable.sentence() {
        let message = format!("Databases of Nix's caches that could not be read are not kept: {what}.");
        notes.push(super::warn(Code::EvalCacheUnreadable, message));
    }
}

const EVALUATIONS: u8 = 0;

fn class(path: &Path) -> u8 {
    match first_name(path).as_deref() {
        Some(name) if name.starts_with("eval-cache-") => EVALUATIONS,
        Some(name) if name.starts_with("fetcher-cache-") => 1,
        Some("gitv3") => 2,
        _ => 3,
    }
}

/// The part of a file: a database or a Git store.
fn unit_of(path: &Path) -> Option<PathBuf> {
    let names = match first_name(path)?.as_str() {
        name if name.starts_with("tarball-cache") => 1,
        _ => 2,
    };
    Some(path.components().take(names).collect())
}

fn first_name(path: &Path) -> Option<String> {
    path.components().next().map(|name| name.as_os_str().to_string_lossy().into_owned())
}

/// The time since a file was last used: read, if the file system records it, or written.
fn age(metadata: &Metadata) -> Duration {
    let used = [metadata.modified(), metadata.accessed()].into_iter().flatten().max();
    used.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default()
}
