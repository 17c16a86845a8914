//! The second and third level of the cache: further files and folders of the user's, and Nix's own caches. Each is one entry
//! of [`Kind::Files`]: an archive with a header that says what is in it and what its bytes must be.
//!
//! A level is written in generations under `files/<level>/<key>#g<number>`; none is ever changed, and a new one is written only
//! when the content is another. Nothing of an entry is put in its place before all of its bytes are known to be right.

mod admission;
mod archive;
mod fetch;
mod gaps;
mod gitstore;
mod header;
mod key;
mod member;
mod nix;
mod pack;
mod pattern;
mod place;
mod restore;
mod roots;
mod save;
mod sqlite;
#[cfg(test)]
mod tests;
mod unpack;
mod walk;

use serde::Serialize;

use crate::base::note::{Code, Note, Severity};
use crate::remote::{Kind, RemoteError};
use crate::series::Hit;
use crate::series::generation_of;
use crate::series::sign::Keyring;

pub(crate) use key::eval_cache_key;
pub(crate) use nix::nix_cache_dir;
pub use restore::restore;
pub use roots::Roots;
pub use save::save;

/// The name of the level that keeps the user's own files and folders.
pub const PATHS: &str = "paths";
/// The name of the level that keeps Nix's caches.
pub const EVAL_CACHE: &str = "eval-cache";
/// Stands for a digest where an entry may exist and could not be read: then what is here may be less than it holds, and must not
/// take its place.
pub const UNREAD: &str = "unread";
/// What all entries of these levels are.
const KIND: Kind = Kind::Files;

/// One level: which files, under which key.
#[derive(Clone, Debug)]
pub struct FilesLevel {
    /// What it is called: [`PATHS`] or [`EVAL_CACHE`].
    pub name: &'static str,
    /// The primary key, escaped.
    pub key: String,
    /// The restore prefixes from near to far, escaped.
    pub prefixes: Vec<String>,
    /// Which files belong to it, and the only places that a restore writes to.
    pub roots: Roots,
    /// Level of zstd for a new entry.
    pub level: i32,
    /// With which keys to sign a new entry, and by which one that is used must be signed.
    pub keys: Keyring,
}

fn warn(code: Code, message: impl Into<String>) -> Note {
    Note::silent(Severity::Warning, code, message)
}

fn info(code: Code, message: impl Into<String>) -> Note {
    Note::silent(Severity::Notice, code, message)
}

/// A note of trouble with the remote: where the user or the machine wants it so, it is for information only.
fn of_remote(refused: Code, failed: Code, error: &RemoteError, message: String) -> Note {
    match error {
        RemoteError::Denied(_) | RemoteError::Unavailable(_) => info(refused, message),
        RemoteError::Refused(_) => warn(refused, message),
        RemoteError::StillOutOfTime(_) => info(failed, message),
        _ => warn(failed, message),
    }
}

/// Whether a note is about the remote as a whole, so that one warning for all levels is enough.
pub(crate) fn is_of_remote(code: Code) -> bool {
    let codes = [Code::FilesLookupFailed, Code::FilesLookupRefused, Code::FilesSaveFailed, Code::FilesSaveRefused];
    codes.contains(&code)
}

/// What a restore of a level came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilesRestored {
    /// How well the entry fitted.
    pub hit: Hit,
    /// The key of the entry that was used, escaped.
    pub matched: Option<String>,
    /// Files and symbolic links that were put in their places.
    pub files: u64,
    /// Their size in bytes, unpacked.
    pub bytes: u64,
    /// Bytes fetched from the remote.
    pub downloaded: u64,
    /// The digest of the entry's content, when all of it is in its place; [`UNREAD`] when it could not be read. For [`save()`].
    pub digest: Option<String>,
    /// What the user should know.
    pub notes: Vec<Note>,
}

/// What became of a level at a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilesOutcome {
    /// A new generation was written.
    Saved,
    /// The cache has this very content.
    Unchanged,
    /// There is no file to save.
    Nothing,
    /// It was tried and failed; the notes say why.
    Failed,
}

impl FilesOutcome {
    /// The word for it in outputs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Unchanged => "unchanged",
            Self::Nothing => "nothing",
            Self::Failed => "failed",
        }
    }
}

/// What a save of a level came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilesSaved {
    /// What became of it.
    pub outcome: FilesOutcome,
    /// Files and symbolic links of the level.
    pub files: u64,
    /// Their size in bytes, unpacked.
    pub bytes: u64,
    /// Bytes sent to the remote.
    pub uploaded: u64,
    /// Entries created in the remote.
    pub entries: u64,
    /// What the user should know.
    pub notes: Vec<Note>,
}

/// What all entries of the level `level` whose key starts with `prefix` are called first.
fn entry_prefix(level: &str, prefix: &str) -> String {
    format!("files/{level}/{prefix}")
}

/// What all generations of the escaped key `key` are called first, and no other key's.
fn generation_prefix(level: &str, key: &str) -> String {
    format!("{}#g", entry_prefix(level, key))
}

/// The name of generation `number`.
fn generation_name(level: &str, key: &str, number: u64) -> String {
    format!("{}{number}", generation_prefix(level, key))
}

/// The escaped key and the number that the name of an entry of `level` has, if it is one.
fn parse_name<'a>(level: &str, name: &'a str) -> Option<(&'a str, u64)> {
    let generation = name.strip_prefix("files/")?.strip_prefix(level)?.strip_prefix('/')?;
    generation_of(generation).filter(|_| crate::series::names::is_name(name))
}
