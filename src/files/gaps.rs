//! Files that a level leaves out.

use std::fmt::Display;
use std::path::Path;

/// Files that had to be left out: their number, and the first of them.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    count: u64,
    first: String,
}

impl Gaps {
    /// Adds one.
    pub(crate) fn add(&mut self, path: &Path, why: &dyn Display) {
        if self.count == 0 {
            self.first = format!("{} ({why})", path.display());
        }
        self.count += 1;
    }

    /// Adds those of another.
    pub(crate) fn join(&mut self, other: Self) {
        if self.count == 0 {
            self.first = other.first;
        }
        self.count += other.count;
    }

    /// The number of them.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Describes the number and the first of them. None if there are none.
    pub(crate) fn sentence(&self) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some(self.first.clone()),
            count => Some(format!("{} and {} more", self.first, count - 1)),
        }
    }
}
