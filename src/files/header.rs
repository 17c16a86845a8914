//! The facts about an archive in the envelope of its entry.

use serde::{Deserialize, Serialize};

use super::KIND;
use crate::base::digest::Sha;
use crate::series::{Format, Head};

/// The body is a tar archive in zstd.
pub(super) const FORMAT: Format = Format { kind: KIND, number: 2 };

/// The head of an entry.
pub(super) type Header = Head<Content>;

/// The facts about the content of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Content {
    /// The digest of names, modes, sizes and bytes, independent of the archive's encoding.
    pub digest: Sha,
    /// Number of files and symbolic links.
    pub files: u64,
    /// Total bytes of the files.
    pub bytes: u64,
    /// When it was written, in seconds since 1970.
    pub created: u64,
}
