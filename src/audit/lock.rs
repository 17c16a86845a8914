//! The lock file as a subject of the audit, with what it is compared with.

use chrono::{DateTime, NaiveDate};

use crate::flake::{LockInput, LockInputs};

/// A lock file.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockSubject {
    /// Its name, from the top of the repository.
    pub file: String,
    pub inputs: LockInputs,
    /// Those of the base, where there is one.
    pub base: Option<LockInputs>,
}

impl LockSubject {
    /// The inputs of Nixpkgs that the flake itself names: those in `keys`, or where none is given, all that are Nixpkgs.
    pub(crate) fn nixpkgs<'a>(&'a self, keys: &'a [String]) -> impl Iterator<Item = (usize, &'a LockInput)> {
        self.direct().filter(
            move |(_, input)| {
                if keys.is_empty() { input.is_nixpkgs() } else { keys.contains(&input.name) }
            },
        )
    }

    /// The inputs of the flake itself, each node once.
    pub(crate) fn direct(&self) -> impl Iterator<Item = (usize, &LockInput)> {
        self.inputs.inputs.iter().enumerate().filter(|(_, input)| input.parent.is_none())
    }

    /// An input in messages.
    pub(crate) fn subject(&self, number: usize) -> String {
        format!("input {}", self.inputs.show(number))
    }
}

/// The day that an input was last changed upstream; none where the lock file has none, or an invalid one.
pub(crate) fn last_modified(input: &LockInput) -> Option<NaiveDate> {
    let seconds: i64 = input.locked("lastModified")?.parse().ok()?;
    DateTime::from_timestamp(seconds, 0).map(|time| time.date_naive())
}
