//! Where layers and snapshots are stored. There is one trait, [`Remote`]; the backends are a directory, GitHub's cache service,
//! and a bucket of an object store.
//!
//! An entry is a name and bytes that never change. A name can be taken only once: a second writer is told so and reads what the
//! first one wrote. There is no list, rename or delete, because GitHub's cache has none of them.

mod blob;
mod directory;
mod fallbacks;
pub mod github;
mod handover;
mod limits;
mod listing;
mod location;
pub(crate) mod objects;
mod redact;
pub(crate) mod s3;
pub(crate) mod transfer;
mod tuning;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use directory::DirectoryRemote;
pub(crate) use fallbacks::{Fallback, Fallbacks, Purpose, Unopened};
pub use handover::Handover;
pub(crate) use limits::{Limited, Limits};
pub(crate) use listing::{ListError, Listed, RefState, Shelf};
pub(crate) use location::{Location, shown};

/// The kind of an entry. Each kind is a separate namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One generation of a snapshot.
    Snapshot,
    /// A layer, or the new bytes of one.
    Layer,
    /// An archive of the user's further files and folders, or of Nix's own caches.
    Files,
    /// A job's addition to a record that many jobs write at once; see [`crate::series`].
    Offer,
    /// The memory of plans.
    Plan,
    /// The history of jobs.
    History,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 6] =
        [Self::Snapshot, Self::Layer, Self::Files, Self::Offer, Self::Plan, Self::History];

    /// A short word for messages and names.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Layer => "layer",
            Self::Files => "files",
            Self::Offer => "offer",
            Self::Plan => "plan",
            Self::History => "history",
        }
    }
}

/// An entry that a lookup found.
#[derive(Clone)]
pub struct Entry {
    /// Its kind, as requested.
    pub kind: Kind,
    /// Its full name, which may differ from the requested one.
    pub name: String,
    /// Its size in bytes, if the backend knows it without another request.
    pub size: Option<u64>,
    /// Its location for the backend (a path, a signed address). Secret: never printed.
    pub(crate) location: String,
}

/// Omits the location, which may contain a signature.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// The result of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// The entry was written.
    Stored,
    /// The name was already taken. Its entry may not be readable yet, or ever: look it up before relying on it.
    Taken,
}

/// Why an operation failed. Every error is a miss or a skipped save, never a failed job.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The workflow or the event does not allow this operation (`cache-mode`, a read-only token). Do not retry.
    #[error("{0}")]
    Denied(String),
    /// No cache is configured for this job. Do not retry.
    #[error("{0}")]
    Unavailable(String),
    /// The service refuses this job, or the server is not a cache service. Do not retry. Unlike [`RemoteError::Denied`], this is
    /// not intended, so the user is warned.
    #[error("{0}")]
    Refused(String),
    /// The time limit of the step is reached.
    #[error("{0}")]
    OutOfTime(String),
    /// Like [`RemoteError::OutOfTime`], for all callers except the first, which warns for all.
    #[error("{0}")]
    StillOutOfTime(String),
    /// Throttled for longer than is worth waiting.
    #[error("{0}")]
    Throttled(String),
    /// The storage quota is used up, or blocked by billing.
    #[error("{0}")]
    Quota(String),
    /// A lookup found the entry, but a later one says that it does not exist.
    #[error("{0}")]
    Gone(String),
    /// The remote says that the entry has fewer bytes than it should.
    #[error("{0}")]
    Short(String),
    /// A local disk or file is full or unreadable.
    #[error("{0}")]
    Local(String),
    /// Everything else, retries included.
    #[error("{0}")]
    Failed(String),
}

/// A store of entries. All methods may be called concurrently.
#[async_trait]
pub trait Remote: Send + Sync {
    /// A description for log lines, without secrets.
    fn describe(&self) -> String;

    /// Looks up an entry of this kind: for the first of `prefixes` that has one, the entry with exactly that name, or otherwise the
    /// newest whose name starts with it. None is a miss. Compare [`Entry::name`] if only an exact match counts.
    ///
    /// # Errors
    /// [`RemoteError`] when the lookup failed.
    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError>;

    /// Reads exactly the bytes `range` of an entry.
    ///
    /// # Errors
    /// [`RemoteError::Gone`] when the entry no longer exists, [`RemoteError::Short`] when it is shorter, others when it could not
    /// be read. Only the first two are facts about the entry.
    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError>;

    /// Streams the whole entry from its start, in pieces.
    ///
    /// # Errors
    /// As for [`Remote::read`], also inside the stream.
    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError>;

    /// Stores the bytes of the file `body` under `name`, unless the name is taken. A reader never sees a part of it.
    ///
    /// # Errors
    /// [`RemoteError`] when it could not be stored.
    async fn put_file(&self, kind: Kind, name: &str, body: &Path) -> Result<Put, RemoteError>;

    /// Stores `body` under `name`, like [`Remote::put_file`].
    ///
    /// # Errors
    /// [`RemoteError`] when it could not be stored.
    async fn put_bytes(&self, kind: Kind, name: &str, body: Bytes) -> Result<Put, RemoteError>;

    /// The best number of concurrent reads. Each may hold some megabytes.
    fn parallel_reads(&self) -> usize {
        8
    }

    /// Whether this job may look up and read entries. A job that may only write creates new entries, but adds to none.
    fn is_readable(&self) -> bool {
        true
    }

    /// Whether the cost of [`Remote::read`] is proportional to its range. False once the remote has answered with a whole entry:
    /// then [`Remote::stream`] is better for most of an entry. It may change while reads are running.
    fn ranges_work(&self) -> bool {
        true
    }

    /// Whether a read keeps an entry from being evicted for its age.
    fn records_reads(&self) -> bool {
        true
    }

    /// Whether an entry that was read a while ago is certainly still there for the rest of a job. Where anybody can delete files, or rules
    /// of a bucket do, it is not.
    fn keeps_what_was_read(&self) -> bool {
        true
    }

    /// What another process needs to read from this remote; None if it cannot.
    fn handover(&self) -> Option<Handover> {
        None
    }
}

/// The error of a job that may only write if `what` is already taken: it cannot add to an existing entry.
#[must_use]
pub fn taken_unseen(what: &str) -> RemoteError {
    RemoteError::Denied(format!(
        "{what} is already in the cache, or another job is writing it. This job may only write to the cache, so it cannot \
        read the existing entry and add to it. To allow this, set `cache-mode: write`."
    ))
}

/// Number of lookups of [`confirmed`], and the pause between them: lookups lag behind reservations by a second or two.
const CONFIRM_TRIES: u32 = 3;
const CONFIRM_DELAY: Duration = Duration::from_secs(1);

/// Returns whether an entry of exactly this name can be read, for a name that a put found [`Put::Taken`]. A name can be taken
/// without being readable: its writer may still be busy, or may have died. Failed lookups count as no.
pub async fn confirmed(remote: &dyn Remote, kind: Kind, name: &str) -> bool {
    confirmed_within(remote, kind, name, CONFIRM_TRIES, CONFIRM_DELAY).await
}

/// Like [`confirmed`], with a given number of lookups and a pause of `delay` between them.
pub(crate) async fn confirmed_within(remote: &dyn Remote, kind: Kind, name: &str, tries: u32, delay: Duration) -> bool {
    for attempt in 0..tries {
        if attempt > 0 {
            tokio::time::sleep(delay).await;
        }
        match remote.find(kind, &[name.to_owned()]).await {
            Ok(Some(entry)) if entry.name == name => return true,
            Ok(_) => {}
            Err(RemoteError::Failed(why)) => tracing::debug!("looking for {name} again: {why}"),
            Err(error) => {
                tracing::debug!("cannot confirm {name}: {error}");
                return false;
            }
        }
    }
    false
}
