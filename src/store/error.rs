//! Errors of the store, as whole sentences.

use std::io;
use std::path::{Path, PathBuf};

use super::{StoreDirs, StorePath};

/// Number of names that an error lists; the rest is only counted.
const LISTED: usize = 5;

/// Why the store could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database, so Nix was never installed here.
    #[error("There is no Nix store at {place}: {remedy}.")]
    NoStore {
        /// The expected database.
        place: String,
        /// What the user can do.
        remedy: String,
    },
    /// Nix could not create a new store.
    #[error("Nix could not create a store under {root} (`nix-store --store {root} --init`): {why}.")]
    Init {
        /// The root of the store.
        root: String,
        /// Nix's message.
        why: String,
    },
    /// The database has an unsupported schema.
    #[error(
        "The Nix database of {place} has {found}, but only {supported} is supported: use Nix 2.x, or a newer \
         nix-cache."
    )]
    Schema {
        /// The state directory or the database.
        place: String,
        /// The schema that was found.
        found: String,
        /// The supported schema.
        supported: String,
    },
    /// `SQLite` reported an error.
    #[error(
        "Could not {action} the Nix database {place}: {source}. Check that this user may use it, and run `nix-store --verify`."
    )]
    Database {
        /// What was being done, as a verb.
        action: &'static str,
        /// The database.
        place: String,
        /// The error of `SQLite`.
        source: rusqlite::Error,
    },
    /// This user cannot lock the database, and some changes are only in the log.
    #[error(
        "The Nix database {place} is being written, and this user may not write to its folder, so it cannot be read \
        safely. Wait for the other Nix commands, or run as the owner of the store."
    )]
    Unsettled {
        /// The database.
        place: String,
    },
    /// A batch names references that are neither valid nor part of it.
    #[error("Could not register in {place}: {list} would be referred to, but is neither valid nor in the batch.")]
    MissingReference {
        /// The database.
        place: String,
        /// Some of the paths.
        list: String,
    },
    /// A batch names paths that have no files.
    #[error("Could not register {list}: there is nothing in {place}. Put the files in place first.")]
    MissingFiles {
        /// The store directory.
        place: String,
        /// Some of the paths.
        list: String,
    },
    /// A batch has a cycle of references.
    #[error("Could not register {list} in {place}: their references form a cycle, which no store can contain.")]
    Cycle {
        /// The database.
        place: String,
        /// Some of the paths in the cycle, or with references to it.
        list: String,
    },
    /// A value that the database cannot represent.
    #[error("Could not register {path} in {place}: {why}.")]
    Unstorable {
        /// The database.
        place: String,
        /// The path it belongs to.
        path: StorePath,
        /// What is wrong with the value.
        why: String,
    },
    /// Paths cannot be removed because others need them.
    #[error("Could not remove paths from {place}: {list} still refers to them. Remove those as well, or keep both.")]
    StillReferred {
        /// The database.
        place: String,
        /// Some of the paths that refer to them.
        list: String,
    },
    /// Another process held a lock for longer than we wait.
    #[error("{place} was locked for {seconds} s by {holder}: try again when it has ended.")]
    Locked {
        /// The lock file.
        place: String,
        /// What holds it.
        holder: String,
        /// How long we waited.
        seconds: u64,
    },
    /// The file system reported an error.
    #[error("Could not {action} {place}: {source}.")]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder.
        place: String,
        /// The error of the system.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn no_store(dirs: &StoreDirs) -> Self {
        let remedy = match dirs.root() {
            None => "install Nix in a step before this one".to_owned(),
            Some(root) => format!("create one with `nix-store --store {} --init`", root.display()),
        };
        Self::NoStore { place: show(&dirs.db_path()), remedy }
    }

    pub(super) fn io(action: &'static str, place: &Path, source: io::Error) -> Self {
        Self::Io { action, place: show(place), source }
    }

    /// For `map_err`: converts an error of `SQLite` during `action` on the database of `dirs`.
    pub(super) fn database(action: &'static str, dirs: &StoreDirs) -> impl Fn(rusqlite::Error) -> Self + use<> {
        let place: PathBuf = dirs.db_path();
        move |source| Self::Database { action, place: show(&place), source }
    }
}

pub(super) fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Lists the first few of `paths`, and the number of the others.
pub(super) fn list<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> String {
    let names: Vec<_> = paths.into_iter().map(StorePath::as_str).collect();
    let shown = names[..names.len().min(LISTED)].join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let paths: Vec<StorePath> = (0..7).map(|n| format!("{}-{n}", "0".repeat(32)).parse().unwrap()).collect();
        assert!(list(&paths).ends_with("-4 and 2 more"), "{}", list(&paths));
        assert!(list(&paths[..5]).ends_with("-4"), "{}", list(&paths[..5]));
    }
}
