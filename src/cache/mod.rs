//! The two verbs: restore attaches what a snapshot has to the store here, save writes what the store here has to a snapshot.
//!
//! Trouble with the cache is never an error of these functions: it makes the hit smaller or the save incomplete, and stands in
//! the outcome as a [`Note`](crate::base::note::Note). An error is what keeps the verb from running at all, such as a store that cannot be read.

mod base;
mod commit;
mod dead;
mod fetch;
mod held;
mod layers;
mod ledger;
mod mode;
mod outcome;
mod parts;
mod progress;
mod proof;
mod record;
mod repack;
mod restore;
mod room;
mod said;
mod save;
mod save_error;
mod search;
mod select;
mod settle;
mod substitute;
mod survey;
mod system;
mod tidy;
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

pub(crate) use held::held;
pub(crate) use mode::ModeRequest;
pub(crate) use outcome::{LayerFetch, LayerState, Phase, RestoreOutcome, SaveOutcome, SaveReason};

pub use record::load as load_record;
pub(crate) use restore::{detach, look_up, restore};
pub(crate) use save::save;
pub(crate) use search::{SnapshotFound, find_snapshot};
pub(crate) use substitute::Include;
pub(crate) use survey::{Survey, survey};
pub(crate) use trust::{Objection, note_unverified, objection};
pub(crate) use verify::verify;

/// What both verbs need to know.
#[derive(Clone)]
pub(crate) struct Context {
    pub identity: Identity,
    pub packing: Packing,
    pub place: Place,
}

/// Which job this is, and which snapshot it wants.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The primary key, escaped.
    pub key: String,
    /// The restore prefixes from near to far, escaped.
    pub prefixes: Vec<String>,
    /// The system of this machine, as Nix names it.
    pub system: String,
    /// The job's name among those that share the key.
    pub lane: String,
    /// Tells this run of this job from all others; empty outside of a runner. A second restore in the same run keeps the baseline of
    /// the first.
    pub run: String,
}

/// What is saved, and how.
#[derive(Clone, Debug)]
pub(crate) struct Packing {
    pub include: Include,
    /// Most bytes that the layers of one snapshot may take; None for no limit.
    pub max_size: Option<u64>,
    /// How many saves of its lane a path outlives that a newer one replaced; 0 to keep everything. See
    /// [`Snapshot::expire`](crate::snapshot::Snapshot::expire).
    pub keep_saves: u32,
    /// Level of zstd for new layers.
    pub level: i32,
    /// Threads that pack and unpack.
    pub threads: usize,
}

/// The store here, the cache, and what lies between them.
#[derive(Clone)]
pub(crate) struct Place {
    pub dirs: StoreDirs,
    /// Where layers and snapshots live.
    pub remote: Arc<dyn Remote>,
    /// With which keys to sign what is saved, and by which what is restored must be signed.
    pub keys: Keyring,
    /// How layers get into the store.
    pub mode: ModeRequest,
    /// A folder for temporary files when the store's own folder cannot be written.
    pub temporary: PathBuf,
    /// When a restore stops, and uses what is complete by then. None for no limit.
    pub deadline: Option<Instant>,
}

impl Default for Packing {
    fn default() -> Self {
        let Options { level, threads, .. } = Options::new();
        Self { include: Include::All, max_size: None, keep_saves: DEFAULT_KEEP_SAVES, level, threads }
    }
}

/// How many saves of its lane a path outlives that a newer one replaced, unless the user asks for another number.
pub(crate) const DEFAULT_KEEP_SAVES: u32 = 5;
