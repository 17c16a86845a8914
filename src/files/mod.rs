//! The second and third level of the cache: the user's further files and folders, and Nix's own caches. Each is one entry of
//! [`Kind::Files`]: an archive with a header that describes its content and contains its digest.
//!
//! A level is written in generations under `files/<level>/<key>#g<number>`, which never change; a new one is written only if the
//! content differs. No file is restored before all bytes of the entry are verified.

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

/// The name of the level for the user's files and folders.
pub const PATHS: &str = "paths";
/// The name of the level for Nix's caches.
pub const EVAL_CACHE: &str = "eval-cache";
/// A placeholder digest for an entry that may exist but could not be read: the local files may be less than its content and must not
/// replace it.
pub const UNREAD: &str = "unread";
/// What all entries of these levels are.
const KIND: Kind = Kind::Files;

/// One level: which files, under which key.
#[derive(Clone, Debug)]
pub struct FilesLevel {
    /// Its name: [`PATHS`] or [`EVAL_CACHE`].
    pub name: &'static str,
    /// The primary key, escaped.
    pub key: String,
    /// The restore prefixes from near to far, escaped.
    pub prefixes: Vec<String>,
    /// The files that belong to it, which are the only places that a restore writes to.
    pub roots: Roots,
    /// zstd level of a new entry.
    pub level: i32,
    /// The keys that sign a new entry, and those that must have signed a restored one.
    pub keys: Keyring,
}

fn warn(code: Code, message: impl Into<String>) -> Note {
    Note::silent(Severity::Warning, code, message)
}

fn info(code: Code, message: impl Into<String>) -> Note {
    Note::silent(Severity::Notice, code, message)
}

/// A note about a problem with the remote; only informative if the user or the machine intends it.
fn of_remote(refused: Code, failed: Code, error: &RemoteError, message: String) -> Note {
    match error {
        RemoteError::Denied(_) | RemoteError::Unavailable(_) => info(refused, message),
        RemoteError::Refused(_) => warn(refused, message),
        RemoteError::StillOutOfTime(_) => info(failed, message),
        _ => warn(failed, message),
    }
}

/// Returns whether a note is about the remote as a whole, so that one warning for all levels is enough.
pub(crate) fn is_of_remote(code: Code) -> bool {
    let codes = [Code::FilesLookupFailed, Code::FilesLookupRefused, Code::FilesSaveFailed, Code::FilesSaveRefused];
    codes.contains(&code)
}

/// The outcome of a restore of a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilesRestored {
    /// The kind of hit.
    pub hit: Hit,
    /// The key of the entry that was used, escaped.
    pub matched: Option<String>,
    /// Number of restored files and symbolic links.
    pub files: u64,
    /// Their size in bytes, unpacked.
    pub bytes: u64,
    /// Bytes downloaded from the remote.
    pub downloaded: u64,
    /// The digest of the entry's content if all of it was restored; [`UNREAD`] if it could not be read. For [`save()`].
    pub digest: Option<String>,
    /// Notes for the user.
    pub notes: Vec<Note>,
}

/// The result of saving a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilesOutcome {
    /// A new generation was written.
    Saved,
    /// The cache already has the same content.
    Unchanged,
    /// There is no file to save.
    Nothing,
    /// The save failed; the notes say why.
    Failed,
}

impl FilesOutcome {
    /// The word for outputs.
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

/// The outcome of a save of a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilesSaved {
    /// The result.
    pub outcome: FilesOutcome,
    /// Files and symbolic links of the level.
    pub files: u64,
    /// Their size in bytes, unpacked.
    pub bytes: u64,
    /// Bytes uploaded to the remote.
    pub uploaded: u64,
    /// Number of entries created in the remote.
    pub entries: u64,
    /// Notes for the user.
    pub notes: Vec<Note>,
}

/// The prefix of all entries of the level `level` whose key starts with `prefix`.
fn entry_prefix(level: &str, prefix: &str) -> String {
    format!("files/{level}/{prefix}")
}

/// The prefix of all generations of the escaped key `key`, and of no other key's.
fn generation_prefix(level: &str, key: &str) -> String {
    format!("{}#g", entry_prefix(level, key))
}

fn generation_name(level: &str, key: &str, number: u64) -> String {
    format!("{}{number}", generation_prefix(level, key))
}

/// Splits the name of an entry of `level` into the escaped key and the number.
fn parse_name<'a>(level: &str, name: &'a str) -> Option<(&'a str, u64)> {
    let generation = name.strip_prefix("files/")?.strip_prefix(level)?.strip_prefix('/')?;
    generation_of(generation).filter(|_| crate::series::names::is_name(name))
}
