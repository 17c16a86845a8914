//! What a restore leaves for the save: a file in our folder beside the store, so that it goes when the store goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

use crate::attach::CacheError;
use crate::base::digest::Sha;
use crate::store::own::{self, OwnFolder, RECORD};
use crate::store::{StoreDirs, StorePath};

/// The newest form of the record. Another is as good as none.
const FORMAT: u32 = 1;

/// What a restore knew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RestoreRecord {
    format: u32,
    /// Which run of which job restored; see [`super::Context::run`].
    pub run: String,
    /// Paths that were valid before: the Nix installation itself.
    pub baseline: BTreeSet<StorePath>,
    /// The name of the generation that was restored, if one was.
    pub matched: Option<String>,
    /// Paths that the restore made valid.
    pub restored: BTreeSet<StorePath>,
    /// Stored bytes that the snapshot names and that no lookup found.
    pub lost_layers: BTreeSet<Sha>,
    /// Stored bytes that were fetched and are good.
    #[serde(default)]
    pub fetched: BTreeSet<Sha>,
    /// Stored bytes that came otherwise than they were stored, with the numbers of the chunks. Without any, they are good, and
    /// what was to be made of them is not.
    #[serde(default)]
    pub damaged: BTreeMap<Sha, Vec<usize>>,
}

impl RestoreRecord {
    /// The record of a restore that has only begun. A second one in the same run keeps the baseline of the first.
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

/// The folder with the newest record: that of the store's owner, or of a user who restored with the help of `sudo`.
fn newest(dirs: &StoreDirs) -> io::Result<Option<OwnFolder>> {
    let Some(folder) = OwnFolder::open(dirs)? else { return Ok(None) };
    let mut folders = folder.users();
    folders.push(folder);
    Ok(folders
        .into_iter()
        .filter(|folder| folder.modified(RECORD).is_some())
        .max_by_key(|folder| folder.modified(RECORD)))
}

/// The record of the last restore into this store. None when there was none, or it cannot be read or understood: that is as good
/// as none, and the next restore writes another.
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
            tracing::warn!("{} cannot be used: {error}. It is taken for none.", place.display());
            Ok(None)
        }
    }
}

/// Writes the record, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(super) fn store(dirs: &StoreDirs, record: &RestoreRecord) -> Result<(), CacheError> {
    let written = OwnFolder::work(dirs).and_then(|folder| folder.write_json(RECORD, record));
    written.map_err(|error| CacheError::File { what: "Cannot write", path: own::work_dir(dirs).join(RECORD), error })
}
