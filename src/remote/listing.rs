//! Listing and deleting entries, for pruning. The trait [`Remote`](super::Remote) has neither, because no job needs them.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Kind, Remote};

/// An entry in a list, of any tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Identifies the entry in its remote. No two entries ever have the same one.
    pub id: String,
    /// Its kind, if it was stored as one of ours; None for an entry of another tool.
    pub kind: Option<Kind>,
    pub name: String,
    /// The Git reference that it belongs to; empty if the remote has none.
    pub scope: String,
    pub size: u64,
    /// When it was stored, in seconds since 1970.
    pub created: u64,
    /// When it was last read, in seconds since 1970; None if the remote does not know.
    pub accessed: Option<u64>,
}

/// Why a list or a deletion failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The token or the user may not do this. The message names the permission.
    #[error("{0}")]
    Permission(String),
    /// The server limits requests for longer than this step waits.
    #[error("{0}")]
    Limited(String),
    /// Everything else, retries included.
    #[error("{0}")]
    Failed(String),
}

/// What is known about a Git reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RefState {
    /// It exists, or nothing else is known.
    Live,
    /// A pull request that is closed.
    Closed,
    /// A branch of a merge queue that is deleted.
    QueueDone,
    /// Another branch or a tag that is deleted.
    Deleted,
}

/// A remote whose entries can be listed and deleted.
#[async_trait]
pub(crate) trait Shelf: Send + Sync {
    /// A description for messages, without secrets.
    fn describe(&self) -> String;

    /// Lists all entries, those of other tools included.
    ///
    /// # Errors
    /// When the list is not complete.
    async fn list(&self) -> Result<Vec<Listed>, ListError>;

    /// Deletes one entry. An entry that does not exist is not an error.
    ///
    /// # Errors
    /// When it may still exist.
    async fn delete(&self, entry: &Listed) -> Result<(), ListError>;

    /// What reads the entries of a scope, if each has a place of its own.
    fn remote_of(&self, _scope: &str) -> Option<Arc<dyn Remote>> {
        None
    }

    /// Whether a lookup of an entry counts as reading it.
    fn records_lookups(&self) -> bool {
        false
    }

    /// The reference that all others can read, if there are references and it is known.
    async fn default_scope(&self) -> Option<String> {
        None
    }

    /// What is known about a reference. A failed request says nothing, so the reference counts as live.
    async fn ref_state(&self, _scope: &str) -> RefState {
        RefState::Live
    }
}
