//! Why something could not be attached or detached.

use crate::store::StoreDirs;
use std::path::PathBuf;

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
    Mount(#[from] crate::attach::mount::MountError),
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
pub(crate) fn as_owner<T: Send, E: Into<CacheError> + Send>(
    dirs: &StoreDirs,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, CacheError> {
    let done = crate::store::rights::as_owner(dirs, work);
    done.map_err(|error| CacheError::Owner { path: dirs.real_store(), error })?.map_err(Into::into)
}
