//! The state that a restore passes to the save: a file in our folder beside the store, so that it is deleted with the store.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

use crate::attach::CacheError;
use crate::base::digest::Sha;
use crate::store::own::{self, OwnFolder, RECORD};
use crate::store::{StoreDirs, StorePath};

/// The current format of the record. A record of another format counts as missing.
const FORMAT: u32 = 1;

/// The state of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RestoreRecord {
    format: u32,
    /// The run that restored; see [`super::Context::run`].
    pub run: String,
    /// Paths that were valid before: the Nix installation itself.
    pub baseline: BTreeSet<StorePath>,
    /// The name of the generation that was restored, if one was.
    pub matched: Option<String>,
    /// Paths that the restore made valid.
    pub restored: BTreeSet<StorePath>,
    /// Stored bytes of the snapshot that no lookup found.
    pub lost_layers: BTreeSet<Sha>,
    /// Stored bytes that were downloaded correctly.
    #[serde(default)]
    pub fetched: BTreeSet<Sha>,
    /// Damaged stored bytes, with the numbers of the chunks. Without chunks, the bytes are correct, but layers cannot be assembled
    /// from them.
    #[serde(default)]
    pub damaged: BTreeMap<Sha, Vec<usize>>,
}

impl RestoreRecord {
    /// The record of a restore that has just begun. A second restore in the same run keeps the baseline of the first.
    #[must_use]
    pub fn begin(run: &str, valid: BTreeSet<StorePath>, earlier: Option<RestoreRecord>) -> Self {
        let baseline = match earlier {
            Some(earlier) if earlier.run == run => earlier.baseline.intersection(&valid).cloned().collect(),
            _ => valid,
        };
        Self {
            format: FORMAT,
            run: run.to_owned(),
            baseline,
            matched: None,
            restored: BTreeSet::new(),
            lost_layers: BTreeSet::new(),
            fetched: BTreeSet::new(),
            damaged: BTreeMap::new(),
        }
    }
}

/// The folder with the newest record: that of the store's owner, or of a user who restored through `sudo`.
fn newest(dirs: &StoreDirs) -> io::Result<Option<OwnFolder>> {
    let Some(folder) = OwnFolder::open(dirs)? else { return Ok(None) };
    let mut folders = folder.users();
    folders.push(folder);
    Ok(folders
        .into_iter()
        .filter(|folder| folder.modified(RECORD).is_some())
        .max_by_key(|folder| folder.modified(RECORD)))
}

/// Reads the record of the last restore into this store. None if there is none, or if it cannot be read or parsed; the next restore
/// writes another.
///
/// # Errors
/// When our folder cannot be opened.
pub fn load(dirs: &StoreDirs) -> Result<Option<RestoreRecord>, CacheError> {
    let failed = |error| CacheError::File { what: "Cannot open", path: dirs.own_dir(), error };
    let Some(folder) = newest(dirs).map_err(failed)? else { return Ok(None) };
    match folder.read_json::<RestoreRecord>(RECORD) {
        Ok(record) => Ok(record.filter(|record| record.format == FORMAT)),
        Err(error) => {
            let place = folder.path().join(RECORD);
            tracing::warn!("Cannot use {}: {error}. It is ignored.", place.display());
            Ok(None)
        }
    }
}

/// As [`load`], without blocking other tasks.
pub(super) async fn read(dirs: &StoreDirs) -> Result<Option<RestoreRecord>, CacheError> {
    let dirs = dirs.clone();
    tokio::task::spawn_blocking(move || load(&dirs)).await?
}

/// Writes the record atomically.
///
/// # Errors
/// When it cannot be written.
pub(super) fn store(dirs: &StoreDirs, record: &RestoreRecord) -> Result<(), CacheError> {
    let written = OwnFolder::work(dirs).and_then(|folder| folder.write_json(RECORD, record));
    written.map_err(|error| CacheError::File { what: "Cannot write", path: own::work_dir(dirs).join(RECORD), error })
}
