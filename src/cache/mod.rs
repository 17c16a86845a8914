//! The two verbs: restore attaches what a snapshot has to the store here, save writes what the store here has to a snapshot.
//!
//! Trouble with the cache is never an error of these functions: it makes the hit smaller or the save incomplete, and stands in
//! the outcome as a [`Note`]. An error is what keeps the verb from running at all, such as a store that cannot be read.

mod attach;
mod base;
mod commit;
mod consumer;
mod dead;
mod detach;
mod facts;
mod fetch;
mod hold;
mod inspect;
mod layers;
mod ledger;
mod mode;
mod mounted;
mod mounting;
mod outcome;
mod parts;
mod planned;
mod privileged;
mod progress;
mod proof;
mod raw_path;
mod readonly;
mod record;
mod register;
mod repack;
mod restore;
mod room;
mod said;
mod save;
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
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::remote::Remote;
use crate::series::sign::Keyring;
use crate::store::StoreDirs;

pub use attach::{AttachLayer, AttachRequest, Attached};
pub use detach::Detached;
pub use inspect::RefusedLayer;
pub use mode::{Mode, ModeRequest};
pub use outcome::{Hit, LayerFetch, LayerState, Note, Phase, RestoreOutcome, SaveOutcome, SaveReason, Saved};
pub use planned::{held, load_planned, save_planned};
pub use privileged::{Answer, Request, perform};
pub use record::{RestoreRecord, load as load_record};
pub use restore::{detach, look_up, restore};
pub use save::save;
pub use search::{Search, SnapshotFound, find_snapshot};
pub use substitute::Upstream;
pub use survey::{Survey, survey};
pub use trust::{Objection, note_unverified, objection};
pub use verify::{Verified, verify};

/// What both verbs need to know.
#[derive(Clone)]
pub struct Context {
    /// The store here.
    pub dirs: StoreDirs,
    /// Where layers and snapshots live.
    pub remote: Arc<dyn Remote>,
    /// The primary key, escaped.
    pub key: String,
    /// The restore prefixes from near to far, escaped.
    pub prefixes: Vec<String>,
    /// The system of this machine, as Nix names it.
    pub system: String,
    /// Which job this is, for the snapshot's lanes.
    pub lane: String,
    /// What tells this run of this job from all others; empty outside of a runner. A second restore in the same run keeps the
    /// baseline of the first.
    pub run: String,
    /// How layers get into the store.
    pub mode: ModeRequest,
    /// With which keys to sign what is saved, and by which what is restored must be signed.
    pub keys: Keyring,
    /// Who knows what a substituter has: what it has is then not saved. None to save everything.
    pub upstream: Option<Arc<dyn Upstream>>,
    /// Most bytes that the layers of one snapshot may take; None for no limit.
    pub max_size: Option<u64>,
    /// How many saves of its lane a path outlives that a newer one replaced; 0 to keep everything. See
    /// [`Snapshot::expire`](crate::snapshot::Snapshot::expire).
    pub keep_saves: u32,
    /// Level of zstd for new layers.
    pub level: i32,
    /// Threads that pack and unpack.
    pub threads: usize,
    /// A folder for temporary files when the store's own folder cannot be written.
    pub temporary: PathBuf,
    /// When a restore stops, and uses what is complete by then. None for no limit.
    pub deadline: Option<Instant>,
}

/// How many saves of its lane a path outlives that a newer one replaced, unless the user asks for another number.
pub const DEFAULT_KEEP_SAVES: u32 = 5;

/// Why a verb could not run.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The Nix store here.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A file of ours.
    #[error("{what} {path}: {error}.")]
    File {
        /// What was to be done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// A store directory that is mounted read-only.
    #[error(
        "{store} is mounted read-only and cannot be made writable for a restore: {error}. Run as root, with the right to \
         mount (CAP_SYS_ADMIN), or mount it writable before the restore."
    )]
    ReadOnly {
        /// The store directory.
        store: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// Layers that cannot be unmounted.
    #[error("The layers stay mounted: {0}.")]
    Mount(#[from] crate::layer::mount::MountError),
    /// A mount that nothing is valid of and that somebody uses already.
    #[error(
        "Layers are mounted on {store}, cannot be used, and cannot be unmounted: {why}. Nothing of them is valid; `nix-cache \
         detach` unmounts them when nobody uses the store."
    )]
    Stuck {
        /// The store directory.
        store: PathBuf,
        /// Why it cannot be unmounted.
        why: String,
    },
    /// More rights were needed.
    #[error(
        "Root's rights are needed to change the store here, and `sudo` without a password did not give them: {0}. Run as \
         root, or allow the user to use sudo."
    )]
    Privilege(String),
    /// A step that had root's rights could not be done. The text is its own.
    #[error("{0}")]
    Step(String),
    /// The rights of the store's owner could not be taken.
    #[error("Cannot work for the owner of {path}: {error}.")]
    Owner {
        /// The store.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// A part of the work ended without a result.
    #[error("A part of the work broke off: {0}.")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs `work` on a store with the rights of its owner: see [`crate::store::rights::as_owner`].
fn as_owner<T: Send, E: Into<CacheError> + Send>(
    dirs: &StoreDirs,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, CacheError> {
    let done = crate::store::rights::as_owner(dirs, work);
    done.map_err(|error| CacheError::Owner { path: dirs.real_store(), error })?.map_err(Into::into)
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
