//! How a job compares with the last runs of its lane. "Worse" is said only where the spread of these runs does not explain it.

use super::{History, Run, Without};
use crate::base::human;
use crate::report::{Trend, text};

/// Runs that are compared with.
const RUNS: usize = 20;
/// With fewer than these, nothing is called worse.
const LEAST: usize = 5;
/// What turns the median of the absolute deviations into a standard deviation, for values that are spread normally.
const MAD_TO_DEVIATION: f64 = 1.4826;
/// A value is unusual when it is this many deviations from the median.
const DEVIATIONS: f64 = 3.0;
/// The least difference that is worth a sentence: of hit rates, and of times as a share of the median and in milliseconds.
const LEAST_RATE: f64 = 0.03;
const LEAST_TIME: f64 = 0.1;
const LEAST_MS: f64 = 2_000.0;
/// The time in which savings are added up, in seconds.
const WEEK: u64 = 7 * 86_400;
/// What a sparkline is made of.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Compares `run` with the last runs of its lane before it; None where there are none.
pub(crate) fn trend(history: &History, run: &Run) -> Option<Trend> {
    let before: Vec<&Run> = history.by_time().into_iter().filter(|other| is_before(other, run)).collect();
    // A job that fails builds less and ends early, so a success after many failures would be called slow.
    let last: Vec<&Run> = before.iter().copied().filter(|run| run.status != "failure").collect();
    let last = &last[last.len().saturating_sub(RUNS)..];
    if last.is_empty() {
        return None;
    }
    let values = |of: fn(&Run) -> Option<f64>| last.iter().filter_map(|run| of(run)).collect::<Vec<f64>>();
    let (rates, times) = (values(Run::hit_rate), values(job_time));
    let mut remarks = Vec::new();
    if let (Some(rate), Some(unusual)) = (run.hit_rate(), spread(&rates, |_| LEAST_RATE))
        && rate < unusual.0 - unusual.1
    {
        remarks.push(format!(
            "The hit rate is lower than usual: {}, where the median of the last {} was {}.",
            text::percent(rate),
            human::count(rates.len() as u64, "run"),
            text::percent(unusual.0)
        ));
    }
    if let (Some(time), Some(unusual)) = (job_time(run), spread(&times, |median| (LEAST_TIME * median).max(LEAST_MS)))
        && time > unusual.0 + unusual.1
    {
        remarks.push(format!(
            "The job took longer than usual: {}, where the median of the last {} was {}.",
            text::time(time as u64),
            human::count(times.len() as u64, "run"),
            text::time(unusual.0 as u64)
        ));
    }
    let compared = || last.iter().copied().chain([run]);
    let without = Without::of(before.iter().copied());
    let saved_ms = without.saved(run);
    let week = before.iter().copied().filter(|other| other.time.saturating_add(WEEK) > run.time);
    let week = week.chain([run]).filter_map(|run| without.saved(run)).fold(0, i64::saturating_add);
    Some(Trend {
        runs: last.len() as u64,
        hit_rate_median: median(&rates),
        job_median_ms: median(&times).map(|time| time as u64),
        sparkline: compared().filter_map(Run::hit_rate).map(bar).collect(),
        hit_rates: compared().filter_map(Run::hit_rate).collect(),
        job_times_ms: compared().filter_map(|run| run.job_ms).collect(),
        saved_ms,
        saved_week_ms: saved_ms.map(|_| week),
        remarks,
    })
}

/// Whether `other` is an earlier run of the same lane and system in this repository that was not cancelled.
fn is_before(other: &Run, run: &Run) -> bool {
    let is_same = other.lane == run.lane && other.system == run.system && other.kind == run.kind;
    is_same && !other.is_foreign && other.time <= run.time && other.id() != run.id() && other.status != "cancelled"
}

fn job_time(run: &Run) -> Option<f64> {
    run.job_ms.map(|ms| ms as f64)
}

fn bar(rate: f64) -> char {
    BARS[((rate * BARS.len() as f64) as usize).min(BARS.len() - 1)]
}

pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length.is_multiple_of(2) => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// The median of `values`, and how far from it is unusual, at least `least` of the median. None for too few values.
fn spread(values: &[f64], least: impl Fn(f64) -> f64) -> Option<(f64, f64)> {
    let middle = median(values).filter(|_| values.len() >= LEAST)?;
    let deviations: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let deviation = MAD_TO_DEVIATION * median(&deviations)?;
    Some((middle, (DEVIATIONS * deviation).max(least(middle))))
}
