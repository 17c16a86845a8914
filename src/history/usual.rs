//! What is usual on a branch: the medians of the last successful runs of a lane there.

use super::trend::median;
use super::{History, Run, RunKind};

/// Runs that are looked at.
const RUNS: usize = 20;

/// Medians of the runs of a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usual {
    pub runs: u64,
    /// From 0 to 1; None if unknown.
    pub hit_rate: Option<f64>,
    /// From the start of the restore to the end of the save; None if unknown.
    pub job_ms: Option<u64>,
}

/// What is usual for `lane` on `system` and the full reference `git_ref`. None without such a run.
pub(crate) fn usual(history: &History, (lane, system, git_ref): (&str, &str, &str)) -> Option<Usual> {
    let is_wanted = |run: &&Run| {
        !run.is_foreign
            && run.lane == lane
            && run.system == system
            && run.git_ref == git_ref
            && run.status == "success"
            && run.kind == RunKind::Job
    };
    let runs: Vec<&Run> = history.by_time().into_iter().filter(is_wanted).collect();
    let last = &runs[runs.len().saturating_sub(RUNS)..];
    if last.is_empty() {
        return None;
    }
    let rates: Vec<f64> = last.iter().filter_map(|run| run.hit_rate()).collect();
    let times: Vec<f64> = last.iter().filter_map(|run| run.job_ms).map(|ms| ms as f64).collect();
    Some(Usual { runs: last.len() as u64, hit_rate: median(&rates), job_ms: median(&times).map(|time| time as u64) })
}
