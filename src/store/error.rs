//! What can go wrong with a store, in whole sentences.

use std::io;
use std::path::{Path, PathBuf};

use super::{StoreDirs, StorePath};

/// How many names an error lists before it only counts.
const LISTED: usize = 5;

/// Why the store could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database, so Nix was never set up here.
    #[error("There is no Nix store at {place}: {remedy}.")]
    NoStore {
        /// The database that was looked for.
        place: String,
        /// What the user can do.
        remedy: String,
    },
    /// Nix could not make a new store.
    #[error("Nix could not make a store under {root} (`nix-store --store {root} --init`): {why}.")]
    Init {
        /// The root of the store.
        root: String,
        /// What Nix said.
        why: String,
    },
    /// The database is of another layout than the one we know.
    #[error(
        "The Nix database of {place} has {found}, and only {supported} is supported: use a Nix of version 2.x, or a newer \
         nix-cache."
    )]
    Schema {
        /// The state directory or the database.
        place: String,
        /// What is there.
        found: String,
        /// What we can work with.
        supported: String,
    },
    /// `SQLite` gave an error.
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
    /// This user cannot take part in the locking of the database, and there are changes that only the log holds.
    #[error(
        "The Nix database {place} is being written, and this user may not write to its folder, so it cannot be read \
         safely: wait for the other Nix commands, or run as the owner of the store."
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
    /// A batch has paths that refer to each other in a circle.
    #[error("Could not register {list} in {place}: they refer to each other in a circle, which no store can hold.")]
    Cycle {
        /// The database.
        place: String,
        /// Some of the paths on or behind the circle.
        list: String,
    },
    /// A value that the database has no way to hold.
    #[error("Could not register {path} in {place}: {why}.")]
    Unstorable {
        /// The database.
        place: String,
        /// The path it belongs to.
        path: StorePath,
        /// What is wrong with the value.
        why: String,
    },
    /// Paths cannot be taken out because others need them.
    #[error("Could not take paths out of {place}: {list} still refers to them. Take those out as well, or keep both.")]
    StillReferred {
        /// The database.
        place: String,
        /// Some of the paths that refer to them.
        list: String,
    },
    /// Another process holds a lock for longer than we wait.
    #[error("{place} was locked for {seconds} s by {holder}: try again when it has ended.")]
    Locked {
        /// The lock file.
        place: String,
        /// What holds it.
        holder: String,
        /// How long we waited.
        seconds: u64,
    },
    /// The file system gave an error.
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
            Some(root) => format!("make one with `nix-store --store {} --init`", root.display()),
        };
        Self::NoStore { place: show(&dirs.db_path()), remedy }
    }

    pub(super) fn io(action: &'static str, place: &Path, source: io::Error) -> Self {
        Self::Io { action, place: show(place), source }
    }

    /// For `map_err`: an error of `SQLite` while doing `action` to the database of `dirs`.
    pub(super) fn database(action: &'static str, dirs: &StoreDirs) -> impl Fn(rusqlite::Error) -> Self + use<> {
        let place: PathBuf = dirs.db_path();
        move |source| Self::Database { action, place: show(&place), source }
    }
}

pub(super) fn show(path: &Path) -> String {
    path.display().to_string()
}

/// The first few of `paths` by name, and how many more there are.
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
