//! The memory of plans: the derivations of a flake's targets at each commit. It is a record in a separate series, which only plans
//! read and write.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::remote::{Kind, Remote, RemoteError};
use crate::series::sign::Keyring;
use crate::series::{
    self, Appended, Format, Record, RecordError, Target, greater, lesser, read_json, union, write_json,
};
use crate::store::{SharedMap, StorePath};

/// So many commits are kept.
const COMMITS: usize = 20;
/// What a record may weigh, in bytes of memory: see [`crate::base::bounds`].
const MAX_WEIGHT: u64 = 64 << 20;

/// The plans that are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// By commit.
    #[serde(deserialize_with = "read")]
    pub planned: Planned,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unread: BTreeMap<u64, u64>,
}

/// Plans by commit: its full name, `:`, and what tells plans of the same commit apart: the flake's folder and the filter.
pub(crate) type Planned = BTreeMap<String, PlannedCommit>;

/// The targets at one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedCommit {
    /// When they were looked at last, in seconds since 1970.
    pub time: u64,
    /// The targets by attribute path.
    pub targets: BTreeMap<String, PlannedTarget>,
}

/// A target at a commit. The order of the fields is that in which one of two is preferred.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PlannedTarget {
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
fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Planned, D::Error> {
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

/// Takes in what another plan of the same commit has.
fn merge(known: &mut PlannedCommit, other: PlannedCommit) {
    known.time = known.time.max(other.time);
    union(&mut known.targets, other.targets, greater);
}

/// Keeps the `most` commits that were planned last. For whoever writes: a merge forgets nothing, or it would matter what is merged
/// first.
fn keep_newest(planned: &mut Planned, most: usize) {
    let mut order: Vec<(u64, String)> = planned.iter().map(|(commit, at)| (at.time, commit.clone())).collect();
    order.sort();
    for (_, commit) in order.iter().rev().skip(most) {
        planned.remove(commit);
    }
}

impl Record for Memory {
    const FORMAT: Format = Format { kind: Kind::Plan, number: 1 };

    fn write(&self, out: &mut dyn Write) -> serde_json::Result<()> {
        serde_json::to_writer(out, self)
    }

    fn encode(&self, out: Vec<u8>) -> Result<Vec<u8>, RecordError> {
        let (bytes, weight) = write_json(out, |out| self.write(out))?;
        if weight > MAX_WEIGHT {
            let most = MAX_WEIGHT >> 20;
            return Err(RecordError::TooLarge(format!(
                "it would take more than {most} MiB of memory: there are too many targets."
            )));
        }
        Ok(bytes)
    }

    fn decode(body: &[u8]) -> Result<Self, RecordError> {
        read_json(body, MAX_WEIGHT)
    }

    fn merge(&mut self, other: Self) {
        union(&mut self.planned, other.planned, merge);
        union(&mut self.unread, other.unread, lesser);
    }

    fn covers(&self, other: &Self) -> bool {
        let oldest = self.planned.values().map(|plan| plan.time).min().unwrap_or(0);
        other.planned.iter().all(|(commit, plan)| {
            // What is older than all that is kept was not kept.
            let Some(mine) = self.planned.get(commit) else {
                return self.planned.len() >= COMMITS && plan.time <= oldest;
            };
            plan.targets.iter().all(|(attr, target)| mine.targets.get(attr).is_some_and(|mine| mine >= target))
        })
    }

    fn unread(&mut self) -> &mut BTreeMap<u64, u64> {
        &mut self.unread
    }
}

/// The plans that are remembered under `key`, as far as `keys` trusts them.
///
/// # Errors
/// When the remote cannot be asked.
pub(crate) async fn recall(remote: &dyn Remote, key: &str, keys: &Keyring) -> Result<Planned, RemoteError> {
    Ok(series::load::<Memory>(remote, key, keys, &mut Vec::new()).await?.record.planned)
}

/// Remembers the plan of one commit under `key`, beside the newest ones that are there.
///
/// # Errors
/// When the remote does not take it.
pub(crate) async fn remember(
    remote: &dyn Remote,
    key: &str,
    keys: &Keyring,
    (commit, plan): (String, PlannedCommit),
) -> Result<Appended, RemoteError> {
    let record = Memory { planned: Planned::from([(commit, plan)]), unread: BTreeMap::new() };
    let target = Target { remote, key, keys, prune: |memory: &mut Memory| keep_newest(&mut memory.planned, COMMITS) };
    series::add(&target, None, record, &mut Vec::new()).await
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::option;
    use proptest::prelude::*;

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

    fn path() -> impl Strategy<Value = StorePath> {
        (0..4u8).prop_map(|number| format!("{number:032}-p").parse().unwrap())
    }

    fn memory() -> impl Strategy<Value = Memory> {
        let target = (option::of(path()), btree_map("[ab]", path(), 0..2), "[a-c]?", any::<bool>()).prop_map(
            |(drv, outputs, system, pending)| PlannedTarget { drv, outputs: outputs.into(), system, pending },
        );
        let commit =
            (0..5u64, btree_map("[a-c]", target, 0..3)).prop_map(|(time, targets)| PlannedCommit { time, targets });
        (btree_map("[a-d]", commit, 0..4), btree_map(1..9u64, 0..5u64, 0..3))
            .prop_map(|(planned, unread)| Memory { planned, unread })
    }

    fn union(mut a: Memory, b: &Memory) -> Memory {
        a.merge(b.clone());
        a
    }

    proptest! {
        #[test]
        fn a_union_is_the_same_in_any_order_and_covers_its_parts(a in memory(), b in memory(), c in memory()) {
            let both = union(a.clone(), &b);
            prop_assert_eq!(&union(b.clone(), &a), &both);
            prop_assert_eq!(union(both.clone(), &c), union(a.clone(), &union(b.clone(), &c)));
            prop_assert_eq!(&union(both.clone(), &a), &both);
            prop_assert!(both.covers(&a) && both.covers(&b));
            for part in [&a, &b] {
                prop_assert!(part.unread.keys().all(|number| both.unread.contains_key(number)));
                for (commit, at) in &part.planned {
                    let both = &both.planned[commit];
                    prop_assert!(at.targets.iter().all(|(attr, target)| both.targets[attr] >= *target) && both.time >= at.time);
                }
            }
        }

        #[test]
        fn it_is_read_as_it_is_written(memory in memory()) {
            prop_assert_eq!(Memory::decode(&memory.encode(Vec::new()).unwrap()).unwrap(), memory);
        }
    }

    #[test]
    fn more_commits_than_any_writer_keeps_are_refused() {
        let at = |number: usize| (number.to_string(), PlannedCommit::default());
        let many = Memory { planned: (0..=MOST).map(at).collect(), ..Memory::default() };
        let error = Memory::decode(&many.encode(Vec::new()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("512"), "{error}");
    }
}
