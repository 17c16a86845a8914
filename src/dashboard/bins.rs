//! Runs by time: as many equal spans as a chart has room for.

use super::DAY;
use crate::history::Run;

/// Most spans in a chart.
const MOST: u64 = 31;
const HOUR: u64 = 3_600;
const STEPS: [u64; 11] =
    [HOUR, 2 * HOUR, 4 * HOUR, 12 * HOUR, DAY, 2 * DAY, 4 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY];

/// The runs in one span.
pub(super) struct Bin<'a> {
    /// The span for people.
    pub label: String,
    pub runs: Vec<&'a Run>,
}

/// All spans from the first to the last run, also those without a run, and how long one is, for people: `by day`.
pub(super) fn bins(runs: &[Run]) -> (Vec<Bin<'_>>, String) {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return (Vec::new(), "by day".to_owned()) };
    let count = |step: u64| last.time / step - first.time / step + 1;
    // The times are between 2020 and today, so that the longest step is long enough for 7 years; beyond, it is doubled.
    let mut step = STEPS.into_iter().find(|step| count(*step) <= MOST).unwrap_or(STEPS[STEPS.len() - 1]);
    while count(step) > MOST {
        step *= 2;
    }
    let start = first.time / step;
    let mut bins: Vec<Bin<'_>> =
        (0..count(step)).map(|at| Bin { label: label((start + at) * step, step), runs: Vec::new() }).collect();
    for run in runs {
        // In range, because the runs are sorted.
        if let Some(bin) = usize::try_from(run.time / step - start).ok().and_then(|at| bins.get_mut(at)) {
            bin.runs.push(run);
        }
    }
    let span = match step {
        HOUR => "by hour".to_owned(),
        DAY => "by day".to_owned(),
        _ if step == 7 * DAY => "by week".to_owned(),
        _ if step < DAY => format!("in spans of {} hours", step / HOUR),
        _ => format!("in spans of {} days", step / DAY),
    };
    (bins, span)
}

fn label(start: u64, step: u64) -> String {
    if step < DAY {
        return format!("{}–{}", moment(start, "%-d %b %H:%M"), moment(start + step, "%H:%M"));
    }
    if step == DAY {
        moment(start, "%-d %b")
    } else {
        format!("{} to {}", moment(start, "%-d %b"), moment(start + step - 1, "%-d %b"))
    }
}

/// A moment in UTC.
pub(super) fn moment(seconds: u64, format: &str) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    moment.unwrap_or_default().format(format).to_string()
}
