//! The cost guard: where the cache costs a lane more than it saves, it is used less.
//!
//! 1. A lane whose last [`JUDGED`] runs each lost time **stops**: nothing is saved, and only what is small is restored, which is what arrives in
//!    less than half of the time that restores of the lane saved.
//! 2. Every [`EVERY`]th run is a **test**, which restores and saves as usual. If it loses time, the next run **follows**: it restores what the
//!    test saved. If both together lost time, the lane stays stopped; otherwise the cache is used as usual again.
//! 3. A saving that is unknown never stops anything. Runs that failed or were cancelled are not judged.

use super::saving::Costs;
use super::{History, Run, RunKind, lower_median};
use crate::report::Guard;

/// Runs in a row that must lose time.
const JUDGED: usize = 5;
/// Of the runs of a stopped lane, one in so many is a test.
const EVERY: usize = 10;
/// Restored runs by which the expected saving of a restore is measured.
const MEASURED: usize = 5;
/// What a restore may take, as a share of what it is expected to save.
const SHARE: f64 = 0.5;

pub(crate) const STOPPED: &str = "stopped";
pub(crate) const TEST: &str = "test";
pub(crate) const FOLLOW: &str = "follow";

/// Whether a job adds a record of its own to the history; only such a job can be a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    Yes,
    No,
}

/// Decides how the next run of a lane uses the cache. None as usual.
pub(crate) fn decide(history: &History, (lane, system): (&str, &str), recorded: Recorded) -> Option<Guard> {
    let costs = Costs::of(history.runs.values(), lane, system);
    let is_of_lane = |run: &&Run| run.lane == lane && run.system == system && run.kind == RunKind::Job;
    let of_lane = history.by_time().into_iter().rev().filter(is_of_lane);
    // A stopped run counts however it ended; the others are judged by their success.
    let runs: Vec<&Run> = of_lane.filter(|run| run.guard == STOPPED || run.status == "success").collect();
    let last = runs.first()?;
    let saved = |run: &Run| costs.saved(run);
    match &*last.guard {
        FOLLOW => {
            let test = runs.iter().skip(1).find(|run| run.guard == TEST).and_then(|run| saved(run));
            let both = [saved(last)?, test?];
            (both[0].saturating_add(both[1]) < 0).then(|| stopped(&costs, &runs, both.to_vec()))
        }
        TEST => {
            let loss = saved(last).filter(|saved| *saved < 0)?;
            let guard = Guard { state: FOLLOW.to_owned(), most_bytes: None, judged_ms: vec![loss] };
            Some(if recorded == Recorded::Yes { guard } else { stopped(&costs, &runs, vec![loss]) })
        }
        STOPPED => {
            let since = runs.iter().take_while(|run| run.guard == STOPPED).count();
            let judged: Vec<i64> = runs[since..].iter().take(JUDGED).filter_map(|run| saved(run)).collect();
            if since + 1 >= EVERY && recorded == Recorded::Yes {
                return Some(Guard { state: TEST.to_owned(), most_bytes: None, judged_ms: judged });
            }
            Some(stopped(&costs, &runs, judged))
        }
        _ => {
            let usual = runs.iter().take_while(|run| run.guard.is_empty());
            let judged: Vec<i64> =
                usual.take(JUDGED).map_while(|run| saved(run)).take_while(|saved| *saved < 0).collect();
            (judged.len() == JUDGED).then(|| stopped(&costs, &runs, judged))
        }
    }
}

fn stopped(costs: &Costs, runs: &[&Run], judged_ms: Vec<i64>) -> Guard {
    Guard { state: STOPPED.to_owned(), most_bytes: Some(most_bytes(costs, runs).unwrap_or(0)), judged_ms }
}

/// The largest download that is expected to pay, by the last runs that restored something.
fn most_bytes(costs: &Costs, runs: &[&Run]) -> Option<u64> {
    let restored: Vec<&Run> =
        runs.iter().copied().filter(|run| run.downloaded > 0 && run.hit != "miss").take(MEASURED).collect();
    let gross: Option<Vec<f64>> = restored.iter().map(|run| costs.gross(run)).collect();
    let per_byte: Vec<f64> =
        restored.iter().filter_map(|run| Some(run.restore_ms? as f64 / run.downloaded as f64)).collect();
    let (gross, per_byte) = (lower_median(gross?, f64::total_cmp)?, lower_median(per_byte, f64::total_cmp)?);
    Some((SHARE * gross / per_byte.max(f64::MIN_POSITIVE)) as u64)
}

#[cfg(test)]
#[path = "guard_test.rs"]
mod tests;
