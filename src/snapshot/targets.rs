//! What a plan found out about the targets of a flake at a commit: a part of the snapshot that only plans write and read.
//!
//! A snapshot without this part is one in which nothing was planned, so the format keeps its number: a reader that does not know
//! the part passes over it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::store::{SharedMap, StorePath};

/// Plans by commit: its full name, `:`, and what tells plans of the same commit apart: the flake's folder and the filter.
pub(crate) type Planned = BTreeMap<String, PlannedCommit>;

/// The targets at one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCommit {
    /// When they were looked at last, in seconds since 1970.
    pub time: u64,
    /// The targets by attribute path.
    pub targets: BTreeMap<String, PlannedTarget>,
}

/// A target at a commit. The order of the fields is that in which one of two is preferred.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlannedTarget {
    /// Its derivation; None when it could not be, or was not, evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drv: Option<StorePath>,
    /// What `nix build` builds of it, as far as that was known.
    #[serde(default, skip_serializing_if = "SharedMap::is_empty")]
    pub outputs: SharedMap<String, StorePath>,
    /// Its system; empty when not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// Whether it was to be built, and so may not have been: nobody writes down how that went.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}

/// A writer keeps the plans of 20 commits, and writers that meet add one each. The targets of each are a B-tree, which takes much more
/// memory than JSON of one target.
const MOST: usize = 512;

/// Reads plans of no more commits than there can be.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Planned, D::Error> {
    struct Commits;

    impl<'de> Visitor<'de> for Commits {
        type Value = Planned;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the plans of some commits")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Planned, A::Error> {
            let mut planned = Planned::new();
            while let Some((commit, plan)) = map.next_entry()? {
                planned.insert(commit, plan);
                if planned.len() > MOST {
                    return Err(A::Error::custom(format!("it has plans of more than {MOST} commits")));
                }
            }
            Ok(planned)
        }
    }

    deserializer.deserialize_map(Commits)
}

/// Takes in what another snapshot has.
pub(super) fn merge(into: &mut Planned, from: Planned) {
    for (commit, other) in from {
        let known = into.entry(commit).or_default();
        known.time = known.time.max(other.time);
        for (attr, target) in other.targets {
            match known.targets.entry(attr) {
                Entry::Vacant(slot) => drop(slot.insert(target)),
                Entry::Occupied(mut slot) if target > *slot.get() => drop(slot.insert(target)),
                Entry::Occupied(_) => {}
            }
        }
    }
}

/// Keeps the `most` commits that were planned last. For whoever writes: a merge forgets nothing, or it would matter what is merged
/// first.
pub(crate) fn keep_newest(planned: &mut Planned, most: usize) {
    let mut order: Vec<(u64, String)> = planned.iter().map(|(commit, at)| (at.time, commit.clone())).collect();
    order.sort();
    for (_, commit) in order.iter().rev().skip(most) {
        planned.remove(commit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let at = |time| PlannedCommit { time, ..PlannedCommit::default() };
        let mut planned: Planned =
            [("a", 3), ("b", 1), ("c", 2), ("d", 2)].map(|(name, time)| (name.into(), at(time))).into();
        keep_newest(&mut planned, 2);
        assert_eq!(planned.keys().collect::<Vec<_>>(), ["a", "d"]);
        keep_newest(&mut planned, 9);
        assert_eq!(planned.len(), 2);
    }
}
