//! Why something could not be attached or detached.

use crate::store::StoreDirs;
use std::path::PathBuf;

/// Why attaching or detaching failed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// An error of the Nix store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// An error of a file.
    #[error("{what} {path}: {error}.")]
    File {
        /// The operation.
        what: &'static str,
        /// The file.
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
    /// A mount without valid paths that is already in use.
    #[error(
        "Layers are mounted on {store} but can neither be used nor unmounted: {why}. None of their paths is valid; `nix-cache \
         detach` unmounts them when nobody uses the store."
    )]
    Stuck {
        /// The store directory.
        store: PathBuf,
        /// Why it cannot be unmounted.
        why: String,
    },
    /// Root's rights are needed.
    #[error(
        "Root's rights are needed to change the store here, but `sudo` without a password failed: {0}. Run as \
         root, or allow the user to use sudo."
    )]
    Privilege(String),
    /// A step with root's rights failed. The text is the step's own message.
    #[error("{0}")]
    Step(String),
    /// Switching to the rights of the store's owner failed.
    #[error("Cannot work for the owner of {path}: {error}.")]
    Owner {
        /// The store.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// A task ended without a result.
    #[error("A task failed: {0}.")]
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
