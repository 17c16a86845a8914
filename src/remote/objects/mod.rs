//! Places for files of any name, such as a binary cache of Nix: a directory, a bucket, or an HTTP server that accepts `PUT`.
//!
//! Unlike a [`Remote`](super::Remote), a name can be written again. A reader sees the old bytes or the new ones, never a part.

mod bucket;
mod directory;
mod http;
#[cfg(test)]
mod http_test;

use async_trait::async_trait;

pub(crate) use self::bucket::BucketObjects;
pub(crate) use self::directory::DirectoryObjects;
pub(crate) use self::http::{HttpObjects, Login, http_address};
pub(crate) use super::blob::source::Source;

/// Why an object could not be read or written. Each is a sentence without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ObjectError {
    /// This object is too large for the place. Others may fit.
    #[error("{0}")]
    TooLarge(String),
    /// The place refuses, and a retry does not help.
    #[error("{0}")]
    Refused(String),
    /// The place cannot be reached or fails, retries included.
    #[error("{0}")]
    Failed(String),
}

/// A place for objects. Names are relative paths such as `nar/NAME`. All methods may be called concurrently.
#[async_trait]
pub(crate) trait Objects: Send + Sync {
    /// Where it is, for messages.
    fn place(&self) -> &str;

    /// Reads a small object; None if there is none.
    ///
    /// # Errors
    /// [`ObjectError`] when it could not be read, or has more than `most` bytes.
    async fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, ObjectError>;

    /// Writes an object, and replaces the one of this name if there is one.
    ///
    /// # Errors
    /// [`ObjectError`] when it could not be written.
    async fn write(&self, name: &str, source: &Source) -> Result<(), ObjectError>;
}
