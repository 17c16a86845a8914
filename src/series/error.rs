//! Why a record is not read or written.

use super::sign::Untrusted;

/// Why a record cannot be used. The text is the end of a sentence about the entry, and a sentence of its own on what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// These are not the bytes that were written: what is wrong with them.
    #[error("it is damaged: {0}. The next save replaces it.")]
    Damaged(String),
    /// Another version of the program wrote it.
    #[error(
        "it has format {found}, and this program reads format {known}. Use the version that wrote it, or a newer one."
    )]
    Format {
        /// The number in it.
        found: u64,
        /// The number that is read.
        known: u64,
    },
    /// It is not signed by a trusted key.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// No job could read it: why, and the remedy.
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
