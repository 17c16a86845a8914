//! A cache under GitHub's rules, and what jobs with this program do to it: scopes of branches, seven days without a read, and every hour
//! the least recently read entries go until 10 GB are left.

use std::collections::{BTreeMap, BTreeSet};

use super::{Job, Unit, mixed};
use crate::prune::names::own_name;
use crate::prune::plan::decide;
use crate::prune::view::{Content, HOUR, Rules, View};
use crate::remote::github::FREE_QUOTA;
use crate::remote::{Kind, Listed, RefState};

pub(super) const MAIN: &str = "refs/heads/main";
const MIB: u64 = 1 << 20;
const IDLE: u64 = 7 * 24 * HOUR;
/// Layers that a snapshot keeps, and the share of dead bytes in percent from which one is packed again.
const MAX_LAYERS: usize = 8;
const MOST_DEAD: u64 = 15;

/// The bytes of a unit in a layer: 5 to 60 MiB.
pub(super) fn size(unit: Unit) -> u64 {
    (5 + mixed(unit) % 56) * MIB
}

fn bytes<'a>(units: impl IntoIterator<Item = &'a Unit>) -> u64 {
    units.into_iter().map(|unit| size(*unit)).sum()
}

#[derive(Clone, Default)]
struct Snapshot {
    layers: Vec<String>,
    /// What each lane needed last.
    lanes: BTreeMap<String, BTreeSet<Unit>>,
}

#[derive(Default)]
pub(super) struct World {
    entries: Vec<Listed>,
    /// What snapshots contain, by the ids of their entries, and the units of each layer.
    snapshots: BTreeMap<String, Snapshot>,
    layers: BTreeMap<String, BTreeSet<Unit>>,
    next: u64,
    /// Bytes that jobs needed and those that they found: before and after the quota was first exceeded.
    needed: [u64; 2],
    found: [u64; 2],
    pub(super) evicted: u64,
    pub(super) pruned: u64,
    /// The most that there was after a prune.
    pub(super) most: u64,
}

impl World {
    pub(super) fn total(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    /// Bytes that jobs needed and those of them that they found; only since the quota was exceeded, if it was.
    pub(super) fn hits(&self, is_full: bool) -> [u64; 2] {
        let after = usize::from(is_full);
        [self.needed[after], self.found[after]]
    }

    fn store(&mut self, kind: Kind, name: &str, scope: &str, size: u64, now: u64) -> String {
        assert!(own_name(kind, name).is_some(), "{name}");
        self.next += 1;
        let id = self.next.to_string();
        let (kind, name, scope) = (Some(kind), name.to_owned(), scope.to_owned());
        self.entries.push(Listed { id: id.clone(), kind, name, scope, size, created: now, accessed: Some(now) });
        id
    }

    /// GitHub's own eviction, once an hour. Returns whether the quota was exceeded.
    pub(super) fn evict(&mut self, now: u64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| now - entry.accessed.unwrap() < IDLE);
        let mut total = self.total();
        let is_full = total > FREE_QUOTA;
        while total > FREE_QUOTA {
            let oldest = (0..self.entries.len()).min_by_key(|index| self.entries[*index].accessed).unwrap();
            total -= self.entries.remove(oldest).size;
        }
        self.evicted += (before - self.entries.len()) as u64;
        is_full
    }

    /// The index of the newest entry that matches, in the job's scope or else in the default branch's.
    fn lookup(&self, kind: Kind, scope: &str, matches: impl Fn(&str) -> bool) -> Option<usize> {
        [scope, MAIN].into_iter().find_map(|scope| {
            let of = |index: &usize| {
                let entry = &self.entries[*index];
                entry.kind == Some(kind) && entry.scope == scope && matches(&entry.name)
            };
            (0..self.entries.len()).filter(of).max_by_key(|index| (self.entries[*index].created, *index))
        })
    }

    /// The restored snapshot with the layers of it that are still there. All of them are read or looked up.
    fn restore(&mut self, job: &Job, now: u64) -> (Snapshot, Vec<String>) {
        let of = |key: &String| {
            let prefix = format!("{key}#g");
            self.lookup(Kind::Snapshot, &job.scope, |name| name.starts_with(&prefix))
        };
        let Some(index) = job.keys.iter().find_map(of) else { return Default::default() };
        self.entries[index].accessed = Some(now);
        let mut snapshot = self.snapshots[&self.entries[index].id].clone();
        if !self.entries[index].name.starts_with(&format!("{}#g", job.keys[0])) {
            // After a change of the lock, only what this job needs is kept.
            snapshot.lanes.clear();
        }
        let mut held = Vec::new();
        for layer in snapshot.layers.clone() {
            if let Some(index) = self.lookup(Kind::Layer, &job.scope, |name| name == layer) {
                self.entries[index].accessed = Some(now);
                held.push(layer);
            }
        }
        (snapshot, held)
    }

    /// Restores, builds what is missing, and saves it. As the program does: eight layers at most, layers with dead bytes are packed again,
    /// and small ones together with what is new.
    pub(super) fn run(&mut self, job: &Job, was_full: bool, now: u64) {
        let (mut base, mut held) = self.restore(job, now);
        let have: BTreeSet<Unit> =
            held.iter().flat_map(|layer| self.layers[layer].intersection(&job.needs)).copied().collect();
        self.needed[usize::from(was_full)] += bytes(&job.needs);
        self.found[usize::from(was_full)] += bytes(&have);
        let mut new: BTreeSet<Unit> = job.needs.difference(&have).copied().collect();
        if new.is_empty() {
            return;
        }
        base.lanes.insert(job.lane.clone(), job.needs.clone());
        let wanted: BTreeSet<Unit> = base.lanes.values().flatten().copied().collect();
        let live = |layer: &String| self.layers[layer].intersection(&wanted).copied().collect::<BTreeSet<Unit>>();
        held.retain(|layer| !live(layer).is_empty());
        let is_again = |layer: &String| {
            let live = live(layer);
            let dead = bytes(&self.layers[layer]) - bytes(&live);
            dead * 100 > bytes(&live) * MOST_DEAD && live.is_subset(&job.needs)
        };
        let (again, mut held): (Vec<String>, Vec<String>) = held.into_iter().partition(is_again);
        new.extend(again.iter().flat_map(live));
        held.sort_by_key(|layer| bytes(&self.layers[layer]));
        while held.len() >= MAX_LAYERS {
            let smallest = held.remove(0);
            new.extend(live(&smallest));
        }
        self.next += 1;
        let name = format!("{:064x}", self.next);
        let size = bytes(&new);
        self.layers.insert(name.clone(), new);
        self.store(Kind::Layer, &name, &job.scope, size, now + 1);
        held.push(name);
        let prefix = format!("{}#g", job.keys[0]);
        let newest = self.lookup(Kind::Snapshot, &job.scope, |name| name.starts_with(&prefix));
        let newest = newest.map_or(0, |index| self.entries[index].name[prefix.len()..].parse::<u64>().unwrap());
        let id = self.store(Kind::Snapshot, &format!("{prefix}{}", newest + 1), &job.scope, MIB, now + 1);
        self.snapshots.insert(id, Snapshot { layers: held, lanes: base.lanes });
    }

    /// The layers that each lane uses.
    fn lanes(&self, snapshot: &Snapshot) -> BTreeMap<String, BTreeSet<String>> {
        let of = |needs: &BTreeSet<Unit>| {
            snapshot.layers.iter().filter(|layer| !self.layers[*layer].is_disjoint(needs)).cloned().collect()
        };
        snapshot.lanes.iter().map(|(lane, needs)| (lane.clone(), of(needs))).collect()
    }

    /// One run of `prune` by a job of the default branch, which reads only that branch's entries.
    pub(super) fn prune(&mut self, refs: &BTreeMap<String, RefState>, now: u64) {
        let rules = Rules { keep_generations: 2, keep_days: 14, max_total: Some(FREE_QUOTA / 10 * 8) };
        let mut contents = BTreeMap::new();
        let entries = self.entries.clone();
        let plan = loop {
            let view = View {
                entries: &entries,
                refs,
                default_scope: Some(MAIN),
                contents: &contents,
                records_lookups: true,
                rules: &rules,
                now,
            };
            match decide(&view) {
                Ok(plan) => break plan,
                Err(wanted) => {
                    for index in wanted {
                        let entry = &entries[index];
                        let content = if entry.scope == MAIN {
                            self.entries[index].accessed = Some(now);
                            let snapshot = &self.snapshots[&entry.id];
                            Content::Known {
                                layers: snapshot.layers.iter().cloned().collect(),
                                unread: BTreeSet::new(),
                                lanes: self.lanes(snapshot),
                            }
                        } else {
                            Content::Unknown("another branch".to_owned())
                        };
                        contents.insert(entry.id.clone(), content);
                    }
                }
            }
        };
        for index in &plan.refresh {
            self.entries[*index].accessed = Some(now);
        }
        let gone: BTreeSet<&String> = plan.deletions.iter().map(|(index, _)| &entries[*index].id).collect();
        self.pruned += gone.len() as u64;
        self.entries.retain(|entry| !gone.contains(&entry.id));
        self.most = self.most.max(self.total());
        self.check(&entries, refs);
        if plan.target.is_some_and(|target| plan.remaining <= target) {
            assert!(self.total() <= FREE_QUOTA / 10 * 8);
        }
    }

    /// Whatever remains is whole, except for what GitHub had evicted before, and what only closed pull requests had.
    fn check(&self, before: &[Listed], refs: &BTreeMap<String, RefState>) {
        let live = before.iter().filter(|entry| !refs.contains_key(&entry.scope));
        let before: BTreeSet<&String> = live.map(|entry| &entry.name).collect();
        let after: BTreeSet<&String> = self.entries.iter().map(|entry| &entry.name).collect();
        for layer in self.entries.iter().filter_map(|entry| self.snapshots.get(&entry.id)).flat_map(|of| &of.layers) {
            assert!(after.contains(layer) || !before.contains(layer), "{layer} was pruned and is named");
        }
    }
}
