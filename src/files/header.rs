//! What the envelope of an entry says of the archive in it.

use serde::{Deserialize, Serialize};

use super::KIND;
use crate::base::digest::Sha;
use crate::series::{Format, Head};

/// The body is a tar archive in zstd.
pub(super) const FORMAT: Format = Format { kind: KIND, number: 2 };

/// The head of an entry.
pub(super) type Header = Head<Content>;

/// What an entry says of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Content {
    /// Its digest: names, modes, sizes and bytes, whatever the archive looks like.
    pub digest: Sha,
    /// Files and symbolic links in it.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// When it was written, in seconds since 1970.
    pub created: u64,
}
