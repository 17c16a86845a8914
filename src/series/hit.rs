//! The kind of hit of a lookup.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hit {
    /// The key itself was found.
    Exact,
    /// One of its prefixes was found.
    Partial,
    /// Nothing was found.
    #[default]
    Miss,
}

impl Hit {
    /// The word for the report and for outputs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Partial => "partial",
            Self::Miss => "miss",
        }
    }
}
