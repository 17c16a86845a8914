//! Where layers and snapshots live. One trait, [`Remote`]; the backends are a directory and GitHub's cache service.
//!
//! An entry is a name and bytes that never change. Names are taken once: who comes second is told so and reads what
//! the first one wrote. There is no list, no rename and no delete here, because GitHub's cache has none of them.

mod directory;
pub mod github;
mod limits;
pub(crate) mod transfer;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use directory::DirectoryRemote;
pub(crate) use limits::{Limited, Limits};

/// What an entry is. Each kind is a namespace of its own: names of two kinds never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One generation of a snapshot.
    Snapshot,
    /// A layer, or the new bytes of one.
    Layer,
    /// Further files and folders of the user's, and Nix's own caches: an archive.
    Files,
    /// What a job has to add to a record that many write at once; see [`crate::series`].
    Offer,
    /// What plans remember.
    Plan,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 5] = [Self::Snapshot, Self::Layer, Self::Files, Self::Offer, Self::Plan];

    /// A short word for messages and names.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Layer => "layer",
            Self::Files => "files",
            Self::Offer => "offer",
            Self::Plan => "plan",
        }
    }
}

/// An entry that a lookup found.
#[derive(Clone)]
pub struct Entry {
    /// Its kind, as asked for.
    pub kind: Kind,
    /// Its full name, which need not be the name that was asked for.
    pub name: String,
    /// Its size in bytes, where the backend knows it without another request.
    pub size: Option<u64>,
    /// How the backend reaches it (a path, a signed address). Secret: never printed.
    pub(crate) location: String,
}

/// Without the location, which may carry a signature.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What became of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there, and we wrote it.
    Stored,
    /// The name was taken before. What it holds may not be readable yet, or ever: look it up before relying on it.
    Taken,
}

/// Why a remote could not do what it was asked. Every one of them is a miss or a save that is skipped, never a failed job.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The workflow or the event does not let this job do this (`cache-mode`, a token that only reads). Do not try again.
    #[error("{0}")]
    Denied(String),
    /// No cache is configured for this job. Do not try again.
    #[error("{0}")]
    Unavailable(String),
    /// The service refuses this job, or what answers in its place is not a cache service. Do not try again. Unlike
    /// [`RemoteError::Denied`] nobody asked for it: the user is warned.
    #[error("{0}")]
    Refused(String),
    /// The time that the step has for it is used up.
    #[error("{0}")]
    OutOfTime(String),
    /// Like [`RemoteError::OutOfTime`], to all but the first who met with it: that one warns for all.
    #[error("{0}")]
    StillOutOfTime(String),
    /// Throttled for longer than is worth waiting.
    #[error("{0}")]
    Throttled(String),
    /// The storage quota is used up, or billing stopped it.
    #[error("{0}")]
    Quota(String),
    /// A lookup found the entry, and a later one says that it does not exist.
    #[error("{0}")]
    Gone(String),
    /// The place says that the entry has fewer bytes than it should.
    #[error("{0}")]
    Short(String),
    /// Our own disk or file, not the remote: full, or not readable.
    #[error("{0}")]
    Local(String),
    /// Everything else, retries included.
    #[error("{0}")]
    Failed(String),
}

/// A place that keeps entries. All methods may be called at the same time.
#[async_trait]
pub trait Remote: Send + Sync {
    /// What to call this place in a log line, without secrets.
    fn describe(&self) -> String;

    /// The entry of this kind whose name equals, or else the newest whose name starts with, the first of `prefixes`
    /// for which there is one. None is a miss. Compare [`Entry::name`] where only an exact match will do.
    ///
    /// # Errors
    /// [`RemoteError`] when the place could not be asked.
    async fn find(&self, kind: Kind, prefixes: &[String]) -> Result<Option<Entry>, RemoteError>;

    /// The bytes `range` of an entry; exactly as many as asked for.
    ///
    /// # Errors
    /// [`RemoteError::Gone`] when the entry vanished, [`RemoteError::Short`] when it is shorter, others when it could not be
    /// read. Only the first two are facts about the entry.
    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Bytes, RemoteError>;

    /// The whole entry from its start, in pieces, for a reader that wants everything in order.
    ///
    /// # Errors
    /// Like [`Remote::read`], also inside the stream.
    async fn stream(&self, entry: &Entry) -> Result<BoxStream<'static, Result<Bytes, RemoteError>>, RemoteError>;

    /// Stores the bytes of the file `body` under `name`, unless the name is taken. A reader never sees a part of it.
    ///
    /// # Errors
    /// [`RemoteError`] when it could not be stored.
    async fn put_file(&self, kind: Kind, name: &str, body: &Path) -> Result<Put, RemoteError>;

    /// Stores `body` under `name`, unless the name is taken. As [`Remote::put_file`] otherwise.
    ///
    /// # Errors
    /// [`RemoteError`] when it could not be stored.
    async fn put_bytes(&self, kind: Kind, name: &str, body: Bytes) -> Result<Put, RemoteError>;

    /// How many reads at the same time make the best of this place. Each may hold some megabytes.
    fn parallel_reads(&self) -> usize {
        8
    }

    /// Whether this job may look up and read entries. One that may only write makes what is not there yet, and adds to nothing.
    fn is_readable(&self) -> bool {
        true
    }

    /// Whether [`Remote::read`] costs about as much as its range is long. False once the place was seen to answer with
    /// whole entries: then [`Remote::stream`] is the better way to most of one. It may change while reads are under way.
    fn ranges_work(&self) -> bool {
        true
    }
}

/// The error of a writer who may not read, for `what` it finds taken: it cannot add to what is there.
#[must_use]
pub fn taken_unseen(what: &str) -> RemoteError {
    RemoteError::Denied(format!(
        "{what} is in the cache already, or was begun by another job. This job may only write to the cache, so it cannot \
         look what is there and add to it. Set `cache-mode: write` for it if it should."
    ))
}

/// How often [`confirmed`] looks, and how long it waits in between: lookups lag behind reservations by a second or two.
const CONFIRM_TRIES: u32 = 3;
const CONFIRM_DELAY: Duration = Duration::from_secs(1);

/// Whether an entry of exactly this name can be read, for a name that a put found [`Put::Taken`]. A name can be taken
/// without being readable: its writer may be busy still, or may have died. Trouble while looking counts as no.
pub async fn confirmed(remote: &dyn Remote, kind: Kind, name: &str) -> bool {
    confirmed_within(remote, kind, name, CONFIRM_TRIES, CONFIRM_DELAY).await
}

/// Like [`confirmed`], with so many lookups and a pause of `delay` between two of them.
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
