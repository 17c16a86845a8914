//! What a set of runs comes to, and the figures of the last days.

use serde::Serialize;

use super::DAY;
use crate::history::{Run, RunKind, Without, lower_median};

/// The days before the newest run that figures and goals are about.
pub(super) const DAYS: u64 = 30;

/// What some runs come to. Sizes are bytes, times milliseconds; None is unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Figures {
    pub runs: u64,
    /// Of all needed paths, the share that came from the cache.
    pub hit_rate: Option<f64>,
    /// Median time from restore to save.
    pub job_ms: Option<u64>,
    /// By what share jobs are shorter than without the cache.
    pub reduction: Option<f64>,
    /// Time that the cache saved, less what it cost.
    pub saved_ms: Option<i64>,
    /// Runs whose saved time is known.
    pub saved_runs: u64,
    /// Of runs that succeeded or failed, the share that succeeded.
    pub success_rate: Option<f64>,
    pub downloaded: u64,
    pub uploaded: u64,
}

impl Figures {
    pub(super) fn of<'a>(runs: impl IntoIterator<Item = &'a Run>, without: &Without) -> Self {
        let runs: Vec<&Run> = runs.into_iter().collect();
        let sum = |of: fn(&Run) -> u64| runs.iter().map(|run| of(run)).fold(0, u64::saturating_add);
        let of_status = |status: &str| runs.iter().filter(|run| run.status == status).count() as f64;
        let (succeeded, failed) = (of_status("success"), of_status("failure"));
        // Plans, and builds without the cache, are other work: they count only where there is nothing else.
        let has_jobs = runs.iter().any(|run| run.kind == RunKind::Job);
        let whole = runs.iter().filter(|run| !has_jobs || run.kind == RunKind::Job);
        let known = || runs.iter().filter_map(|run| Some((run.cached?, run.needed()?)));
        let needed = known().map(|(_, needed)| needed).fold(0, u64::saturating_add);
        let cached = known().map(|(cached, _)| cached).fold(0, u64::saturating_add);
        let saved: Vec<i64> = runs.iter().filter_map(|run| without.saved(run)).collect();
        let comparable = runs.iter().filter(|run| without.saved(run).is_some());
        let times = comparable.filter_map(|run| Some((run.job_ms? as f64, without.time(run)? as f64)));
        let (with, instead) = times.fold((0.0, 0.0), |sum, (with, instead)| (sum.0 + with, sum.1 + instead));
        Self {
            runs: runs.len() as u64,
            hit_rate: (needed > 0).then(|| cached as f64 / needed as f64),
            job_ms: median(whole.filter_map(|run| run.job_ms)),
            reduction: (instead > 0.0).then(|| 1.0 - with / instead),
            saved_ms: (!saved.is_empty()).then(|| saved.iter().copied().fold(0, i64::saturating_add)),
            saved_runs: saved.len() as u64,
            success_rate: (succeeded + failed > 0.0).then(|| succeeded / (succeeded + failed)),
            downloaded: sum(|run| run.downloaded),
            uploaded: sum(|run| run.uploaded),
        }
    }
}

/// The figures of the last days, and those of as many days before them.
pub(super) fn recent(runs: &[Run], without: &Without) -> (Figures, Figures) {
    let end = runs.last().map_or(0, |run| run.time);
    let (start, before) = (end.saturating_sub(DAYS * DAY), end.saturating_sub(2 * DAYS * DAY));
    let between = |run: &&Run, from: u64, to: u64| from < run.time && run.time <= to;
    (
        Figures::of(runs.iter().filter(|run| between(run, start, end)), without),
        Figures::of(runs.iter().filter(|run| between(run, before, start)), without),
    )
}

/// The median; of an even number of values, the lower one of the two in the middle.
pub(super) fn median(values: impl IntoIterator<Item = u64>) -> Option<u64> {
    lower_median(values, u64::cmp)
}
