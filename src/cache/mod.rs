//! The two main operations: restore attaches the paths of a snapshot to the store, save writes paths of the store to a snapshot.
//!
//! A problem with the cache is never an error of these functions: it makes the hit smaller or the save incomplete, and is reported
//! in the outcome as a [`Note`](crate::base::note::Note). An error means that the operation cannot run at all, for example because
//! the store cannot be read.

mod attaching;
mod base;
mod checkpoint;
mod coarse;
mod commit;
mod dead;
mod drvs;
mod effort;
mod fetch;
mod held;
mod last;
mod layers;
mod ledger;
mod mode;
mod older;
mod others;
mod outcome;
mod parts;
mod progress;
mod proof;
mod publish;
mod record;
mod repack;
#[cfg(test)]
mod replay;
mod restore;
mod room;
mod said;
mod save;
mod save_error;
mod search;
mod select;
mod sending;
mod settle;
mod stream;
mod streamed;
mod substitute;
mod survey;
mod system;
mod tidy;
mod to_pack;
mod trust;
mod used;
mod verify;
mod vouch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::layer::pack::Options;
use crate::remote::Remote;
use crate::series::sign::Keyring;
use crate::store::StoreDirs;

pub(crate) use checkpoint::{Checkpoints, begin as begin_checkpoints, checkpoint, load as checkpoints, pending};
pub(crate) use drvs::{restore_drvs, save_drvs};
pub(crate) use held::held;
pub(crate) use mode::ModeRequest;
pub(crate) use outcome::{LayerFetch, LayerState, Phase, RestoreOutcome, SaveOutcome, SaveReason};

pub(crate) use publish::{Publishable, publishable};
pub use record::load as load_record;
pub(crate) use restore::{detach, look_up, restore, stream_status};
pub(crate) use save::{save, save_after};
pub(crate) use search::{SnapshotFound, find_snapshot, snapshot_names};
pub(crate) use streamed::{Finished, finish as finish_stream};
pub(crate) use substitute::Include;
pub(crate) use survey::{OutputClosure, Survey, survey};
pub(crate) use to_pack::LIKELY_RATIO;
pub(crate) use trust::{Objection, note_unverified, objection};
pub(crate) use verify::verify;
pub(crate) use vouch::place as ledger_place;

/// The context of both operations.
#[derive(Clone)]
pub(crate) struct Context {
    pub identity: Identity,
    pub packing: Packing,
    pub place: Place,
}

/// The job, and the snapshot that it wants.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The primary key, escaped.
    pub key: String,
    /// The restore prefixes from near to far, escaped.
    pub prefixes: Vec<String>,
    /// The system of this machine, as Nix names it.
    pub system: String,
    /// The lane of the job.
    pub lane: String,
    /// Identifies this run of this job; empty outside a runner. A second restore in the same run keeps the baseline of the first.
    pub run: String,
}

/// What is saved, and how.
#[derive(Clone, Debug)]
pub(crate) struct Packing {
    pub include: Include,
    /// Largest size of the layers of one snapshot in bytes; None for no limit.
    pub max_size: Option<u64>,
    /// Number of saves of its lane after which an unused, replaced path is dropped; 0 keeps everything. See
    /// [`Snapshot::expire`](crate::snapshot::Snapshot::expire).
    pub keep_saves: u32,
    /// zstd level of new layers.
    pub level: i32,
    /// Number of threads that pack and unpack.
    pub threads: usize,
}

/// The store, the remote, and the settings for both.
#[derive(Clone)]
pub(crate) struct Place {
    pub dirs: StoreDirs,
    /// Where layers and snapshots are stored.
    pub remote: Arc<dyn Remote>,
    /// The keys that sign what is saved, and those that must have signed what is restored.
    pub keys: Keyring,
    /// How layers get into the store.
    pub mode: ModeRequest,
    /// A folder for temporary files if our folder beside the store cannot be written.
    pub temporary: PathBuf,
    /// When a restore stops; it uses what is complete by then. None for no limit.
    pub deadline: Option<Instant>,
    /// The largest download that a restore begins, which may become known while it looks for a snapshot. None for no limit.
    pub limit: Option<Limit>,
}

/// Bytes that a restore may download; None until it is known. A sender that is gone sets no limit.
pub(crate) type Limit = tokio::sync::watch::Receiver<Option<u64>>;

impl Default for Packing {
    fn default() -> Self {
        let Options { level, threads, .. } = Options::new();
        Self { include: Include::All, max_size: None, keep_saves: DEFAULT_KEEP_SAVES, level, threads }
    }
}

/// The default number of saves of its lane after which an unused, replaced path is dropped.
pub(crate) const DEFAULT_KEEP_SAVES: u32 = 5;
