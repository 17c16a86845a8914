//! How long a job would take without the cache: the median of the runs of its lane in which nothing came from the cache, less the
//! restore and the save. Unknown with too few of them.

use std::collections::BTreeMap;

use super::Run;

/// With fewer runs that missed, a lane's time without the cache is unknown.
const LEAST: usize = 3;

/// Times without the cache, by lane, in milliseconds.
pub(crate) struct Without(BTreeMap<String, u64>);

impl Without {
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for run in runs.into_iter().filter(|run| run.hit == "miss" && run.status == "success") {
            let Some(job) = run.job_ms else { continue };
            let ours = run.restore_ms.unwrap_or(0).saturating_add(run.save_ms.unwrap_or(0));
            times.entry(&run.lane).or_default().push(job.saturating_sub(ours));
        }
        let middle = |times: Vec<u64>| {
            let mut sorted = times;
            sorted.sort_unstable();
            sorted.get(sorted.len().saturating_sub(1) / 2).copied()
        };
        let known = times.into_iter().filter(|(_, times)| times.len() >= LEAST);
        Self(known.filter_map(|(lane, times)| Some((lane.to_owned(), middle(times)?))).collect())
    }

    /// How long `run` would have taken without the cache.
    pub(crate) fn time(&self, run: &Run) -> Option<u64> {
        run.job_ms.and_then(|_| self.0.get(&run.lane).copied())
    }

    /// How much longer it would have taken: negative where the cache cost more than it saved. Only runs that succeeded are
    /// comparable.
    pub(crate) fn saved(&self, run: &Run) -> Option<i64> {
        let is_comparable = run.status == "success";
        let (without, with) = (self.time(run).filter(|_| is_comparable)?, run.job_ms?);
        Some(i64::try_from(without).unwrap_or(i64::MAX).saturating_sub_unsigned(with))
    }
}
