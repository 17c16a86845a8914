//! Errors of reading and writing records.

use super::sign::Untrusted;

/// Why a record cannot be used. The text is the end of a sentence about the entry, followed by a sentence on what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are damaged, with a description.
    #[error("it is damaged: {0}. The next save replaces it.")]
    Damaged(String),
    /// Another version of the program wrote it.
    #[error(
        "it has format {found}, but this program reads format {known}. Use the version that wrote it, or a newer one."
    )]
    Format {
        /// The format number of the entry.
        found: u64,
        /// The supported format number.
        known: u64,
    },
    /// It is not signed by a trusted key.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// It would be unreadable for all jobs, with the reason and the remedy.
    #[error("{0}")]
    TooLarge(String),
    /// It could not be written.
    #[error("it could not be written: {0}.")]
    Write(String),
}

impl RecordError {
    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged(why.into())
    }
}
