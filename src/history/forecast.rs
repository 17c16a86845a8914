//! What the next run of a lane may save if it uses the cache as usual, from what its last runs measured.
//!
//! 1. **Need**: what a run without the cache would spend on its paths. A run that fetches and builds everything itself measures it; otherwise
//!    it is what the cache saved plus what the run fetched and built.
//! 2. **Cost**: the size of the last restore at the speed of restores, and the usual save. Until restores are measured, one is expected to take at
//!    least a quarter of the time of the save, and to be in **doubt** where the need is much less than all of it.
//!
//! Of several measurements the one that speaks for the cache counts, and all of the need counts as saved: only what cannot pay is forecast as
//! a loss.

use super::saving::Costs;
use super::{Run, RunKind, lower_median};

/// The last runs, restores and saves that are looked at.
const MEASURED: usize = 5;
/// Fewer restores may have been slow by chance.
const LEAST_RESTORES: usize = 2;
/// By how much then.
const SLOW: f64 = 2.0;
/// What a restore takes at least, as a share of the save of the same, which packs as well.
const LEAST_OF_SAVE: f64 = 0.25;
/// Milliseconds of a possible loss from which on there is a doubt.
const DOUBTED: f64 = 10_000.0;
/// Much is so many times what a test costs.
const MUCH: f64 = 10.0;

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Forecast {
    /// The greatest need of the last runs.
    need: f64,
    restore: f64,
    save: f64,
    /// The longest save that is known: one of everything.
    whole_save: f64,
    /// Whether the speed of restores is known.
    is_measured: bool,
}

impl Forecast {
    /// The forecast for a lane with these successful runs, newest first; `all` are those of all lanes, oldest first. None as long as something about it
    /// is unknown.
    pub(super) fn of(all: &[&Run], costs: &Costs, runs: &[&Run]) -> Option<Self> {
        let restores: Vec<&Run> = runs.iter().copied().filter(|run| is_restore(run)).take(MEASURED).collect();
        let needs = runs.iter().take(MEASURED).filter_map(|run| need(costs, run));
        let saves = |runs: &[&Run]| -> Vec<f64> { runs.iter().filter_map(|run| Some(run.save_ms? as f64)).collect() };
        let whole_save = saves(runs).into_iter().fold(0.0, f64::max);
        let measured = size(runs).zip(per_byte(all, runs.first()?, &restores));
        Some(Self {
            need: needs.reduce(f64::max)?,
            restore: measured.map_or(LEAST_OF_SAVE * whole_save, |(size, per_byte)| size as f64 * per_byte),
            save: lower_median(saves(&restores), f64::total_cmp).unwrap_or(0.0),
            whole_save,
            is_measured: measured.is_some(),
        })
    }

    /// What the next run loses, as a negative number, if a restore takes as long as the save. None where that is little, and once restores are
    /// measured.
    pub(super) fn doubt(&self) -> Option<i64> {
        let saving = self.need - self.whole_save;
        (!self.is_measured && saving < -DOUBTED).then_some(saving as i64)
    }

    /// The most that a run with this need can save: negative if the cache costs more.
    pub(super) fn saving(&self, need: f64) -> i64 {
        (need - self.restore - self.save) as i64
    }

    /// The most that the next run can save.
    pub(super) fn next(&self) -> i64 {
        self.saving(self.need)
    }

    /// What a usual run spends on its save.
    pub(super) fn save(&self) -> f64 {
        self.save
    }

    /// Whether so much can be saved that a few runs are worth a try.
    pub(super) fn is_much(&self) -> bool {
        self.need > MUCH * self.test()
    }

    /// What a test costs if nothing that it restores is of use, and everything has to be saved again.
    pub(super) fn test(&self) -> f64 {
        self.restore + self.whole_save
    }
}

/// What `run` would have spent on its paths without the cache.
pub(super) fn need(costs: &Costs, run: &Run) -> Option<f64> {
    let own = run.built_ms?.saturating_add(run.fetched_ms?);
    Some(costs.gross(run)? + own as f64)
}

/// Whether the run restored as without a guard, and found something.
pub(super) fn is_restore(run: &Run) -> bool {
    !super::guard::is_sparing(run) && run.downloaded > 0 && run.hit != "miss" && run.restore_ms.is_some()
}

/// Bytes that a restore downloads: as in the last run that restored, or what the last save without a restore uploaded.
fn size(runs: &[&Run]) -> Option<u64> {
    let of = |run: &&Run| if is_restore(run) { Some(run.downloaded) } else { Some(run.uploaded).filter(|up| *up > 0) };
    runs.iter().find_map(of)
}

/// Milliseconds a byte that is restored, in the fastest of the last restores of the lane, or else of the system. None without any.
fn per_byte(all: &[&Run], lane: &Run, restores: &[&Run]) -> Option<f64> {
    let fastest = |runs: &[&Run]| {
        runs.iter().filter_map(|run| Some(run.restore_ms? as f64 / run.downloaded as f64)).reduce(f64::min)
    };
    if restores.len() >= LEAST_RESTORES {
        return fastest(restores);
    }
    let is_wanted = |run: &&Run| run.system == lane.system && run.kind == RunKind::Job && is_restore(run);
    let anywhere: Vec<&Run> = all.iter().copied().rev().filter(is_wanted).take(MEASURED).collect();
    if anywhere.len() >= LEAST_RESTORES {
        return fastest(&anywhere);
    }
    fastest(restores).map(|per_byte| per_byte / SLOW)
}
