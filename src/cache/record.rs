//! What a restore leaves for the save: a file in our folder beside the store, so that it goes when the store goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::CacheError;
use crate::bounds::{MAX_RECORD, read_json};
use crate::layer::digest::Sha;
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

/// Where the record of this store is.
#[must_use]
pub(super) fn place(dirs: &StoreDirs) -> PathBuf {
    dirs.own_dir().join("restore.json")
}

/// The record of the last restore into this store. None when there was none, or it cannot be understood.
///
/// # Errors
/// When there is one that cannot be read.
pub fn load(dirs: &StoreDirs) -> Result<Option<RestoreRecord>, CacheError> {
    let path = place(dirs);
    match read_json::<RestoreRecord>(&path, MAX_RECORD) {
        Ok(record) => Ok(Some(record).filter(|record| record.format == FORMAT)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if cannot_be_ours(error.kind()) => {
            tracing::debug!("{} is not a record of ours: {error}", path.display());
            Ok(None)
        }
        Err(error) => Err(CacheError::File { what: "Cannot read", path, error }),
    }
}

/// Whether what was read is something else than we write, or more than we write.
fn cannot_be_ours(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::FileTooLarge)
}

/// Writes the record, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(super) fn store(dirs: &StoreDirs, record: &RestoreRecord) -> Result<(), CacheError> {
    let path = place(dirs);
    let written = (|| {
        fs::create_dir_all(dirs.own_dir())?;
        let mut file = tempfile::NamedTempFile::new_in(dirs.own_dir())?;
        let mut writer = std::io::BufWriter::new(file.as_file_mut());
        serde_json::to_writer(&mut writer, record)?;
        writer.flush()?;
        drop(writer);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    })();
    written.map_err(|error| CacheError::File { what: "Cannot write", path, error })
}
