//! The ways of attaching.

use serde::{Deserialize, Serialize};

/// How layers get into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Mounted below the store directory.
    Mount,
    /// Mounted likewise, before their bytes are here.
    Stream,
    /// Written into the store directory.
    Unpack,
}

impl Mode {
    /// The word for logs and reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Stream => "stream",
            Self::Unpack => "unpack",
        }
    }
}
