//! What failed most, and how long it took until the same job on the same branch succeeded again.

use std::collections::BTreeMap;

use super::figures::median;
use crate::history::{Failed, Run};

/// A failure that occurred, and how often.
pub(super) struct Frequent {
    pub name: String,
    pub category: String,
    pub times: u64,
    /// When it occurred last, in seconds since 1970.
    pub last: u64,
}

/// How failures passed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recovery {
    /// Failures that were retried within a job.
    pub retried: u64,
    /// Jobs that succeeded after such a retry.
    pub rescued: u64,
    /// Jobs that failed for a reason that may pass.
    pub failed: u64,
    /// Of those, jobs that were followed by one that succeeded, and the median time until it ended, in milliseconds.
    pub recovered: u64,
    pub median_ms: Option<u64>,
}

/// The failures, the most frequent first.
pub(super) fn frequent(runs: &[Run]) -> Vec<Frequent> {
    let mut all: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for run in runs {
        let listed = run.failed.iter().map(|failed| (&*failed.name, &*failed.category));
        // Records of before failures were listed have a category alone.
        let alone = (run.failed.is_empty() && !run.category.is_empty()).then_some(("", &*run.category));
        for failure in listed.chain(alone) {
            let (times, last) = all.entry(failure).or_default();
            *times += 1;
            *last = run.time.max(*last);
        }
    }
    let mut all: Vec<Frequent> = all
        .into_iter()
        .map(|((name, category), (times, last))| Frequent {
            name: name.to_owned(),
            category: category.to_owned(),
            times,
            last,
        })
        .collect();
    all.sort_by_key(|frequent| std::cmp::Reverse((frequent.times, frequent.last)));
    all
}

/// How temporary failures passed. `runs` are sorted by time.
pub(super) fn recovery(runs: &[Run]) -> Recovery {
    let mut recovery = Recovery::default();
    // Since when a job on a branch has been failing for a reason that may pass.
    let mut failing: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    let mut times = Vec::new();
    for run in runs {
        recovery.retried = recovery.retried.saturating_add(run.retries);
        let place = (&*run.lane, &*run.git_ref);
        match &*run.status {
            "success" => {
                recovery.rescued += u64::from(run.retries > 0);
                for since in failing.remove(&place).unwrap_or_default() {
                    times.push((run.time - since).saturating_mul(1000));
                }
            }
            "failure" if is_transient(run) => {
                recovery.failed += 1;
                failing.entry(place).or_default().push(run.time);
            }
            _ => {}
        }
    }
    recovery.recovered = times.len() as u64;
    recovery.median_ms = median(times);
    recovery
}

/// Whether a run failed for reasons that all may pass.
fn is_transient(run: &Run) -> bool {
    if run.failed.is_empty() {
        return ["network", "substituter"].contains(&&*run.category);
    }
    run.failed.iter().all(|failed: &Failed| failed.transient)
}
