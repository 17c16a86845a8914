//! What a level leaves out.

use std::fmt::Display;
use std::path::Path;

/// Things that had to be left out: how many, and the first of them.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    count: u64,
    first: String,
}

impl Gaps {
    /// Counts one more.
    pub(crate) fn add(&mut self, path: &Path, why: &dyn Display) {
        if self.count == 0 {
            self.first = format!("{} ({why})", path.display());
        }
        self.count += 1;
    }

    /// Counts those of another, too.
    pub(crate) fn join(&mut self, other: Self) {
        if self.count == 0 {
            self.first = other.first;
        }
        self.count += other.count;
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Says how many there are and which is the first. None where there is none.
    pub(crate) fn sentence(&self) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some(self.first.clone()),
            count => Some(format!("{} and {} more", self.first, count - 1)),
        }
    }
}
