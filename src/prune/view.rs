//! What a plan is made from: the entries, what is known about them, and the rules.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::names::{OwnName, own_name};
use crate::remote::{Kind, Listed, RefState};

pub(crate) const HOUR: u64 = 3600;
/// Layers are stored before the snapshot that names them. A layer that is younger than the longest hosted job may belong to a
/// job that is still running.
pub(crate) const GRACE: u64 = 6 * HOUR;
/// The branches of merge queues.
pub(crate) const QUEUE: &str = "refs/heads/gh-readonly-queue/";

/// What to keep.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Rules {
    /// Number of newest generations of each key and reference that are kept.
    pub keep_generations: usize,
    /// Number of days after which an unused key is dropped.
    pub keep_days: u64,
    /// Largest size of all entries in bytes, those of other tools included; None for no limit.
    pub max_total: Option<u64>,
}

/// The content of a snapshot, as far as a plan needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Known {
        /// The names of the entries of its layers.
        layers: BTreeSet<String>,
        /// Older generations whose content belongs to it.
        unread: BTreeSet<u64>,
        /// The names of the layers that each lane of a system uses.
        lanes: BTreeMap<String, BTreeSet<String>>,
    },
    /// It could not be read, and why: it may name any layer that existed when it was written.
    Unknown(String),
}

/// Everything that a plan is made from.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub entries: &'a [Listed],
    /// What is known about references; those that are missing are live.
    pub refs: &'a BTreeMap<String, RefState>,
    /// The reference that all others can read, if it is known.
    pub default_scope: Option<&'a str>,
    /// The snapshots that were read, by the ids of their entries.
    pub contents: &'a BTreeMap<String, Content>,
    /// Whether a lookup of an entry counts as reading it.
    pub records_lookups: bool,
    pub rules: &'a Rules,
    /// Seconds since 1970.
    pub now: u64,
}

impl<'a> View<'a> {
    /// The name of an entry if it is ours.
    pub(super) fn own(&self, index: usize) -> Option<OwnName<'a>> {
        let entry = &self.entries[index];
        own_name(entry.kind?, &entry.name)
    }

    pub(super) fn age(&self, index: usize) -> u64 {
        self.now.saturating_sub(self.entries[index].created)
    }

    /// When an entry was stored or last read.
    pub(super) fn used(&self, index: usize) -> u64 {
        let entry = &self.entries[index];
        entry.accessed.unwrap_or(0).max(entry.created)
    }

    pub(super) fn ref_state(&self, scope: &str) -> &'a RefState {
        self.refs.get(scope).unwrap_or(&RefState::Live)
    }

    /// Whether a job of `reader` finds entries of `scope`: its own, those of the default branch, and for a pull request or a merge
    /// queue those of the base, which is not known.
    fn sees(&self, reader: &str, scope: &str) -> bool {
        let has_base = reader.starts_with("refs/pull/") || reader.starts_with(QUEUE);
        let is_base = has_base && scope.starts_with("refs/heads/");
        reader == scope || is_base || self.default_scope.is_none_or(|default| default == scope)
    }

    /// Whether the layer `layer` may belong to the snapshot `snapshot`.
    ///
    /// A snapshot that could not be read may name every layer that was there when it was written. If the remote records
    /// lookups: a save looks up every layer that it names, unless the same job downloaded or stored it. So a layer that nobody
    /// asked for since a day before the snapshot was written is not one of its layers.
    pub(super) fn may_name(&self, snapshot: usize, layer: usize) -> bool {
        const SLACK: u64 = 600;
        const LONGEST_JOB: u64 = 24 * HOUR;
        let (generation, entry) = (&self.entries[snapshot], &self.entries[layer]);
        if !self.sees(&generation.scope, &entry.scope) {
            return false;
        }
        match self.contents.get(&generation.id) {
            Some(Content::Known { layers, .. }) => layers.contains(&entry.name),
            Some(Content::Unknown(_)) | None => {
                let was_there = entry.created <= generation.created + SLACK;
                let was_asked_for = self.used(layer) + LONGEST_JOB >= generation.created;
                was_there && (was_asked_for || !self.records_lookups)
            }
        }
    }
}

/// A series in one reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeriesId<'a> {
    pub scope: &'a str,
    pub kind: Kind,
    pub name: &'a str,
}

/// The generations of each series as indexes of entries, the newest first.
pub(super) fn all_series<'a>(view: &View<'a>) -> BTreeMap<SeriesId<'a>, Vec<(u64, usize)>> {
    let mut all: BTreeMap<SeriesId<'a>, Vec<(u64, usize)>> = BTreeMap::new();
    for (index, entry) in view.entries.iter().enumerate() {
        if let (Some(kind), Some(OwnName::Generation { series, number })) = (entry.kind, view.own(index)) {
            all.entry(SeriesId { scope: &entry.scope, kind, name: series }).or_default().push((number, index));
        }
    }
    for generations in all.values_mut() {
        generations.sort_unstable_by(|one, other| other.cmp(one));
    }
    all
}

/// The keys of the snapshots in `scope`, each with the time when its newest generation was stored. An empty scope takes all.
pub(crate) fn newest_snapshots<'a>(entries: &'a [Listed], scope: &str) -> BTreeMap<&'a str, u64> {
    let mut newest: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| scope.is_empty() || entry.scope.is_empty() || entry.scope == scope) {
        let Some(kind) = entry.kind.filter(|kind| *kind == Kind::Snapshot) else { continue };
        if let Some(OwnName::Generation { series, number }) = own_name(kind, &entry.name) {
            let known = newest.entry(series).or_default();
            *known = (*known).max((number, entry.created));
        }
    }
    newest.into_iter().map(|(series, (_, created))| (series, created)).collect()
}
