//! Runs by workflow, lane or branch, and derivations by the time that they take.

use std::collections::BTreeMap;

use super::Figures;
use super::figures::median;
use crate::history::{Run, Without};

/// The runs that have one thing in common.
pub(super) struct Group<'a> {
    pub name: &'a str,
    pub runs: Vec<&'a Run>,
    pub figures: Figures,
}

/// A derivation that was built in some runs.
pub(super) struct Slow {
    pub name: String,
    pub runs: u64,
    pub median_ms: u64,
    pub longest_ms: u64,
    /// The time of all its builds.
    pub total_ms: u64,
}

/// The groups of runs for which `by` returns the same, those with most runs first.
pub(super) fn groups<'a>(runs: &'a [Run], without: &Without, by: fn(&Run) -> &str) -> Vec<Group<'a>> {
    let mut all: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        all.entry(by(run)).or_default().push(run);
    }
    let mut all: Vec<Group<'_>> = all
        .into_iter()
        .map(|(name, runs)| Group { name, figures: Figures::of(runs.iter().copied(), without), runs })
        .collect();
    all.sort_by_key(|group| std::cmp::Reverse(group.runs.len()));
    all
}

/// A branch, tag or pull request for people: `main`, `v1`, `pull/17/merge`.
pub(super) fn branch(run: &Run) -> &str {
    let name = &*run.git_ref;
    let short = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/"));
    short.or_else(|| name.strip_prefix("refs/")).unwrap_or(name)
}

/// The derivations that took most time in all runs.
pub(super) fn slowest(runs: &[Run]) -> Vec<Slow> {
    let mut all: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for built in runs.iter().flat_map(|run| &run.slowest) {
        all.entry(&built.name).or_default().push(built.ms);
    }
    let slow = |(name, times): (&str, Vec<u64>)| {
        Some(Slow {
            name: name.to_owned(),
            runs: times.len() as u64,
            longest_ms: times.iter().copied().max()?,
            total_ms: times.iter().copied().fold(0, u64::saturating_add),
            median_ms: median(times)?,
        })
    };
    let mut all: Vec<Slow> = all.into_iter().filter_map(slow).collect();
    all.sort_by_key(|slow| std::cmp::Reverse(slow.total_ms));
    all
}
