//! The errors that end a save early.

use crate::remote::RemoteError;

/// An error that ends a save early, without harm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the new layer could not be written: {0}. Is the disk full?")]
    Pack(#[from] std::io::Error),
    #[error("a task failed: {0}.")]
    Task(#[from] tokio::task::JoinError),
}
