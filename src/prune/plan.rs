//! The plan: which entries are deleted, and why. A pure function of the entries, their content and the rules.
//!
//! 1. Entries of references that nobody reads any more go: closed pull requests, finished merge queues, deleted branches.
//! 2. Of each series, the newest generations stay, and so do generations that a running job may be reading. Older ones go, and whole
//!    series that nobody used for `keep-days`.
//! 3. All layers that a remaining snapshot names, or may name, stay. Other layers go once they are older than any running job.
//! 4. While everything together is larger than `max-total`, the least recently used series goes, with the layers that are only its own.
//!
//! The layers that lanes of the default branch need are to be looked up, which counts as reading them: GitHub evicts others first then,
//! however rarely these jobs run.
//!
//! Snapshots that remain have to be read to know their layers; until then, [`decide`] returns which ones.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::names::OwnName;
use super::view::{Content, GRACE, HOUR, SeriesId, View, all_series};
use crate::remote::{Kind, RefState};

/// Number of generations that a search tries when the newest ones cannot be read.
const SEARCHED: usize = 4;
/// Age after which a generation that a newer one could not read counts as lost.
const UNREAD_AGE: u64 = 24 * HOUR;

/// Why an entry is deleted. In the order of deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// It belongs to a pull request that is closed.
    ClosedPullRequest,
    /// It belongs to a merge queue's branch that is deleted.
    MergeQueue,
    /// It belongs to a branch or tag that is deleted.
    DeletedRef,
    /// Newer generations have replaced it.
    Superseded,
    /// Its key was not used for `keep-days`.
    Unused,
    /// It is an addition for jobs of the same minute.
    Leftover,
    /// No snapshot names it.
    Orphaned,
    /// It was least recently used, and everything together is larger than `max-total`.
    LeastRecentlyUsed,
}

impl Reason {
    /// All reasons.
    pub(crate) const ALL: [Self; 8] = [
        Self::ClosedPullRequest,
        Self::MergeQueue,
        Self::DeletedRef,
        Self::Superseded,
        Self::Unused,
        Self::Leftover,
        Self::Orphaned,
        Self::LeastRecentlyUsed,
    ];

    /// Describes the entries that are deleted for it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::ClosedPullRequest => "of closed pull requests",
            Self::MergeQueue => "of finished merge queues",
            Self::DeletedRef => "of deleted branches and tags",
            Self::Superseded => "replaced by newer generations",
            Self::Unused => "of keys that nobody uses any more",
            Self::Leftover => "left by jobs that saved at the same time",
            Self::Orphaned => "named by no snapshot",
            Self::LeastRecentlyUsed => "least recently used",
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The entries to delete, as indexes, in order: a snapshot goes before the layers that it names.
    pub deletions: Vec<(usize, Reason)>,
    /// Sizes in bytes: of all entries, of those of other tools, and of ours that remain.
    pub total: u64,
    pub foreign: u64,
    pub remaining: u64,
    /// The greatest size that our own entries may have; None for no limit.
    pub target: Option<u64>,
    /// Remaining snapshots that could not be read.
    pub unknown: Vec<usize>,
    /// Layers to look up.
    pub refresh: Vec<usize>,
}

/// Returns the plan, or the snapshots that have to be read before there can be one.
pub(crate) fn decide(view: &View<'_>) -> Result<Plan, Vec<usize>> {
    let mut state = State::begin(view);
    state.drop_dead_refs();
    state.drop_leftovers();
    state.drop_superseded();
    let to_read = state.to_read();
    if !to_read.is_empty() {
        return Err(to_read);
    }
    state.drop_unused();
    state.drop_orphans();
    let target = state.shrink();
    Ok(state.plan(target))
}

struct State<'v, 'a> {
    view: &'v View<'a>,
    series: BTreeMap<SeriesId<'a>, Vec<(u64, usize)>>,
    layers: Vec<usize>,
    gone: BTreeMap<usize, Reason>,
}

impl<'v, 'a> State<'v, 'a> {
    fn begin(view: &'v View<'a>) -> Self {
        let layers = (0..view.entries.len()).filter(|index| view.own(*index) == Some(OwnName::Layer)).collect();
        Self { view, series: all_series(view), layers, gone: BTreeMap::new() }
    }

    fn id(&self, index: usize) -> &str {
        &self.view.entries[index].id
    }

    fn remains(&self, index: usize) -> bool {
        !self.gone.contains_key(&index)
    }

    fn drop(&mut self, index: usize, reason: Reason) {
        self.gone.entry(index).or_insert(reason);
    }

    /// The remaining snapshots.
    fn snapshots(&self) -> impl Iterator<Item = usize> {
        let snapshots = self.series.iter().filter(|(id, _)| id.kind == Kind::Snapshot);
        snapshots.flat_map(|(_, all)| all).map(|(_, index)| *index).filter(|index| self.remains(*index))
    }

    /// The remaining snapshots that have to be read: the newest of each series first, because they say whether older ones stay.
    fn to_read(&self) -> Vec<usize> {
        let is_open = |index: &usize| !self.view.contents.contains_key(self.id(*index));
        let newest = self.series.iter().filter(|(id, _)| id.kind == Kind::Snapshot);
        let newest = newest.filter_map(|(_, all)| all.first()).map(|(_, index)| *index);
        let newest: Vec<usize> = newest.filter(|index| self.remains(*index)).filter(is_open).collect();
        if newest.is_empty() { self.snapshots().filter(is_open).collect() } else { newest }
    }

    fn drop_dead_refs(&mut self) {
        for index in (0..self.view.entries.len()).filter(|index| self.view.own(*index).is_some()) {
            let reason = match self.view.ref_state(&self.view.entries[index].scope) {
                RefState::Live => continue,
                RefState::Closed => Reason::ClosedPullRequest,
                RefState::QueueDone => Reason::MergeQueue,
                RefState::Deleted => Reason::DeletedRef,
            };
            self.drop(index, reason);
        }
    }

    fn drop_leftovers(&mut self) {
        for index in 0..self.view.entries.len() {
            if self.view.own(index) == Some(OwnName::Offer) && self.view.age(index) > GRACE {
                self.drop(index, Reason::Leftover);
            }
        }
    }

    /// Drops what newer generations replaced. A generation stays if it was stored or read within the time of a job: the job may need
    /// it again for its save. It also stays if its content belongs to a newer one that could not read it.
    fn drop_superseded(&mut self) {
        let keep = self.view.rules.keep_generations.max(1);
        let mut dropped = Vec::new();
        for (id, generations) in &self.series {
            let content = |index: usize| self.view.contents.get(self.id(index));
            let newest = generations.first().and_then(|(_, index)| content(*index));
            // Each generation of files is complete in itself.
            let is_known = id.kind == Kind::Files || matches!(newest, Some(Content::Known { .. }));
            let mut needed: BTreeSet<u64> = BTreeSet::new();
            for (rank, (number, index)) in generations.iter().enumerate() {
                let may_be_needed = !is_known && (rank < SEARCHED || self.view.age(*index) < UNREAD_AGE);
                let is_in_use = self.view.now.saturating_sub(self.view.used(*index)) < GRACE;
                if rank >= keep && !is_in_use && !may_be_needed && !needed.contains(number) {
                    dropped.push(*index);
                } else if let Some(Content::Known { unread, .. }) = content(*index) {
                    needed.extend(unread);
                }
            }
        }
        for index in dropped {
            self.drop(index, Reason::Superseded);
        }
    }

    /// The remaining layers that each remaining snapshot names or may name.
    fn named(&self) -> BTreeMap<usize, Vec<usize>> {
        let layers: Vec<usize> = self.layers.iter().copied().filter(|index| self.remains(*index)).collect();
        let of = |snapshot: usize| layers.iter().copied().filter(move |layer| self.view.may_name(snapshot, *layer));
        self.snapshots().map(|snapshot| (snapshot, of(snapshot).collect())).collect()
    }

    /// When each remaining series was last used: when a layer that only it names was last read, or when it was last written. The
    /// snapshot itself does not count, because plans read it too.
    fn last_used(&self) -> Vec<(u64, SeriesId<'a>)> {
        let named = self.named();
        let mut users: BTreeMap<usize, BTreeSet<&SeriesId<'a>>> = BTreeMap::new();
        for (id, generations) in &self.series {
            for layer in generations.iter().filter_map(|(_, index)| named.get(index)).flatten() {
                users.entry(*layer).or_default().insert(id);
            }
        }
        let mut all = Vec::new();
        for (id, generations) in &self.series {
            let remaining = || generations.iter().map(|(_, index)| *index).filter(|index| self.remains(*index));
            let Some(newest) = remaining().next() else { continue };
            let own = named.get(&newest).into_iter().flatten().filter(|layer| users[layer].len() == 1);
            let own = own.map(|layer| self.view.used(*layer)).max();
            let written = remaining().map(|index| self.view.entries[index].created).max().unwrap_or(0);
            // If all its layers are those of others as well, nothing tells who read them; if it has none left, nobody did.
            let used = match (own, named.get(&newest)) {
                (Some(own), _) => own.max(written),
                (None, Some(none)) if none.is_empty() => written,
                (None, _) => remaining().map(|index| self.view.used(index)).max().unwrap_or(0),
            };
            all.push((used, id.clone()));
        }
        all
    }

    /// Drops series that nobody used for `keep-days`, if the remote knows.
    fn drop_unused(&mut self) {
        let limit = self.view.rules.keep_days.saturating_mul(24 * HOUR).max(GRACE);
        for (used, id) in self.last_used() {
            let knows = self.series[&id].iter().all(|(_, index)| self.view.entries[*index].accessed.is_some());
            if knows && self.view.now.saturating_sub(used) > limit {
                self.drop_series(&id, Reason::Unused);
            }
        }
    }

    fn drop_series(&mut self, id: &SeriesId<'a>, reason: Reason) {
        for (_, index) in self.series[id].clone() {
            self.drop(index, reason);
        }
    }

    /// Drops the layers that no remaining snapshot names.
    fn drop_orphans(&mut self) {
        let named: BTreeSet<usize> = self.named().into_values().flatten().collect();
        for index in self.layers.clone() {
            if !named.contains(&index) && self.is_old(index) {
                self.drop(index, Reason::Orphaned);
            }
        }
    }

    /// Whether no running job can have stored or read the layer.
    fn is_old(&self, layer: usize) -> bool {
        self.view.now.saturating_sub(self.view.used(layer)) >= GRACE
    }

    /// The remaining bytes of our own entries.
    fn remaining(&self) -> u64 {
        let own = (0..self.view.entries.len()).filter(|index| self.view.own(*index).is_some() && self.remains(*index));
        own.map(|index| self.view.entries[index].size).sum()
    }

    fn foreign(&self) -> u64 {
        let foreign = (0..self.view.entries.len()).filter(|index| self.view.own(*index).is_none());
        foreign.map(|index| self.view.entries[index].size).sum()
    }

    /// Drops the least recently used series until our entries fit. The series that was used last in the default branch stays. Other
    /// tools' entries count, but our own are not reduced to less than half of `max-total` for them. Returns the size to reach.
    fn shrink(&mut self) -> Option<u64> {
        let max = self.view.rules.max_total?;
        let target = max.saturating_sub(self.foreign()).max(max / 2);
        let mut order = self.last_used();
        order.sort();
        let is_default = |id: &SeriesId<'_>| self.view.default_scope.is_none_or(|scope| scope == id.scope);
        let is_root = |id: &SeriesId<'_>| id.kind == Kind::Snapshot && is_default(id);
        if let Some(last) = order.iter().rposition(|(_, id)| is_root(id)) {
            order.remove(last);
        }
        // Plans and histories are small, and lost for good.
        let order = order.into_iter().filter(|(_, id)| matches!(id.kind, Kind::Snapshot | Kind::Files));
        let named = self.named();
        let mut users: BTreeMap<usize, usize> = BTreeMap::new();
        for layer in named.values().flatten() {
            *users.entry(*layer).or_default() += 1;
        }
        let mut remaining = self.remaining();
        for (used, id) in order {
            if remaining <= target || self.view.now.saturating_sub(used) < GRACE {
                break;
            }
            for (_, index) in self.series[&id].clone() {
                if !self.remains(index) {
                    continue;
                }
                remaining -= self.view.entries[index].size;
                self.drop(index, Reason::LeastRecentlyUsed);
                for layer in named.get(&index).into_iter().flatten() {
                    let left = users.entry(*layer).or_insert(1);
                    *left -= 1;
                    if *left == 0 && self.is_old(*layer) && self.remains(*layer) {
                        remaining -= self.view.entries[*layer].size;
                        self.drop(*layer, Reason::LeastRecentlyUsed);
                    }
                }
            }
        }
        Some(target)
    }

    /// The layers that each lane of the default branch uses, in the newest key that has the lane. Those that only an older key has, such as
    /// those of an older lock file, are left to their age.
    fn refresh(&self) -> Vec<usize> {
        let is_main = |id: &SeriesId<'_>| id.kind == Kind::Snapshot && self.view.default_scope == Some(id.scope);
        let newest = self.series.iter().filter(|(id, _)| is_main(id)).filter_map(|(_, all)| Some(all.first()?.1));
        let mut newest: Vec<usize> = newest.filter(|index| self.remains(*index)).collect();
        newest.sort_by_key(|index| Reverse((self.view.entries[*index].created, *index)));
        let (mut seen, mut names): (BTreeSet<&String>, BTreeSet<&String>) = Default::default();
        for index in newest {
            let Some(Content::Known { lanes, .. }) = self.view.contents.get(self.id(index)) else { continue };
            for (_, layers) in lanes.iter().filter(|(lane, _)| seen.insert(lane)) {
                names.extend(layers);
            }
        }
        let is_named = |index: &usize| names.contains(&self.view.entries[*index].name) && self.remains(*index);
        self.layers.iter().copied().filter(is_named).collect()
    }

    fn plan(self, target: Option<u64>) -> Plan {
        let is_layer = |index: usize| self.view.own(index) == Some(OwnName::Layer);
        // The oldest generation of a series goes first: as long as there is any, the newest one is complete.
        let mut deletions: Vec<_> = self.gone.iter().map(|(index, reason)| (*index, *reason)).collect();
        deletions.sort_by_key(|(index, reason)| (is_layer(*index), *reason, self.view.entries[*index].created, *index));
        let is_unknown = |index: &usize| matches!(self.view.contents.get(self.id(*index)), Some(Content::Unknown(_)));
        Plan {
            deletions,
            total: self.view.entries.iter().map(|entry| entry.size).sum(),
            foreign: self.foreign(),
            remaining: self.remaining(),
            target,
            unknown: self.snapshots().filter(is_unknown).collect(),
            refresh: if self.view.records_lookups { self.refresh() } else { Vec::new() },
        }
    }
}
