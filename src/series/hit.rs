//! How well an entry fits the key that was asked for.

use serde::{Deserialize, Serialize};

/// What a restore found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hit {
    /// The key itself.
    Exact,
    /// One of its prefixes.
    Partial,
    /// Nothing.
    #[default]
    Miss,
}

impl Hit {
    /// The word in the report and in outputs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Partial => "partial",
            Self::Miss => "miss",
        }
    }
}
