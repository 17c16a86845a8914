//! Categories of failures, with what to do about each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Category {
    /// The Nix code has a mistake.
    Evaluation,
    /// A builder failed.
    Build,
    /// Tests failed.
    Test,
    /// A download does not match its hash.
    HashMismatch,
    /// A download failed.
    Network,
    /// A binary cache failed.
    Substituter,
    /// The disk is full.
    DiskFull,
    /// The build ran out of memory.
    OutOfMemory,
    /// It took too long.
    TimeOut,
    /// The store has lost files that it had registered.
    Cache,
    /// Something may not be read or written.
    Permission,
    /// It was stopped.
    Cancelled,
    /// None of the others.
    #[default]
    Unknown,
}

impl Category {
    /// The word in the report and in outputs.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Evaluation => "evaluation",
            Self::Build => "build",
            Self::Test => "test",
            Self::HashMismatch => "hash-mismatch",
            Self::Network => "network",
            Self::Substituter => "substituter",
            Self::DiskFull => "disk-full",
            Self::OutOfMemory => "out-of-memory",
            Self::TimeOut => "time-out",
            Self::Cache => "cache",
            Self::Permission => "permission",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// The name for people, as a heading.
    #[must_use]
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Evaluation => "Evaluation error",
            Self::Build => "Build failure",
            Self::Test => "Tests failed",
            Self::HashMismatch => "Hash mismatch",
            Self::Network => "Network failure",
            Self::Substituter => "Substituter failure",
            Self::DiskFull => "Disk full",
            Self::OutOfMemory => "Out of memory",
            Self::TimeOut => "Timed out",
            Self::Cache => "Damaged store path",
            Self::Permission => "Permission denied",
            Self::Cancelled => "Cancelled",
            Self::Unknown => "Failure",
        }
    }

    /// What to do about it, unless something more specific is known.
    #[must_use]
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Evaluation => "Correct the Nix code. `nix eval --show-trace` shows how Nix got there.",
            Self::Build => "The last lines of the log say why; `nix log` with the derivation shows all of it.",
            Self::Test => "Correct the code or the test; the same check runs anywhere with `nix build` of this target.",
            Self::HashMismatch => {
                "If the download was meant to change, put the hash that Nix got into the Nix code; if not, find out why \
                 the server sends something else."
            }
            Self::Network => {
                "Run the job again; if that does not help, check the address and whether its server is up."
            }
            Self::Substituter => {
                "Run the job again; if that does not help, remove the binary cache from `substituters`, or repair it."
            }
            Self::DiskFull => {
                "Make room before the build (on GitHub's machines by removing toolchains that are not needed), or build \
                 on a larger disk."
            }
            Self::OutOfMemory => "Lower `max-jobs` or `cores`, or build on a machine with more memory.",
            Self::TimeOut => "Increase the limit if the build needs the time; if not, the log shows where it stopped.",
            Self::Cache => {
                "A store path is registered but its files are missing or damaged. Run the job again; if that does not help, \
                 change the input `prefix-key` of the cache to start afresh."
            }
            Self::Permission => {
                "Check who owns the store, and whether this user may build: with a daemon, by `trusted-users` and \
                 `allowed-users` in nix.conf."
            }
            Self::Cancelled => "The build was stopped from outside; nothing is wrong with it.",
            Self::Unknown => {
                "The message is all that is known. Run again with `nix-args: --show-trace -vv` to see more."
            }
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Category; 13] = [
        Category::Evaluation,
        Category::Build,
        Category::Test,
        Category::HashMismatch,
        Category::Network,
        Category::Substituter,
        Category::DiskFull,
        Category::OutOfMemory,
        Category::TimeOut,
        Category::Cache,
        Category::Permission,
        Category::Cancelled,
        Category::Unknown,
    ];

    #[test]
    fn words_are_those_of_the_report_and_remedies_are_sentences() {
        for category in ALL {
            assert_eq!(serde_json::to_value(category).unwrap(), category.word());
            assert!(category.remedy().ends_with('.') && !category.title().is_empty());
        }
        let mut all = ALL.to_vec();
        all.dedup();
        assert_eq!(all.len(), 13);
    }
}
