//! How long a job would take without the cache: by what its paths would have cost ([`Costs`]), or else the median of the runs of its lane in
//! which nothing came from the cache, less the restore and the save. Unknown with too few of them.

use std::collections::BTreeMap;

use super::saving::Costs;
use super::{Run, lower_median};

/// With fewer runs that missed, a lane's time without the cache is unknown.
const LEAST: usize = 3;

/// Times without the cache, by lane, in milliseconds, and the costs of paths, by lane and system.
pub(crate) struct Without {
    times: BTreeMap<String, u64>,
    costs: BTreeMap<(String, String), Costs>,
}

impl Without {
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let all: Vec<&Run> = runs.into_iter().collect();
        // What a job of another repository says of its times measures nothing here.
        let own: Vec<&Run> = all.iter().copied().filter(|run| !run.is_foreign).collect();
        let mut costs = BTreeMap::new();
        for run in &all {
            let lane = (run.lane.clone(), run.system.clone());
            costs.entry(lane).or_insert_with(|| Costs::of(own.iter().copied(), &run.lane, &run.system));
        }
        let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for run in own.into_iter().filter(|run| run.hit == "miss" && run.status == "success") {
            let Some(job) = run.job_ms else { continue };
            let ours = run.restore_ms.unwrap_or(0).saturating_add(run.save_ms.unwrap_or(0));
            times.entry(&run.lane).or_default().push(job.saturating_sub(ours));
        }
        let known = times.into_iter().filter(|(_, times)| times.len() >= LEAST);
        let times = known.filter_map(|(lane, times)| Some((lane.to_owned(), lower_median(times, u64::cmp)?))).collect();
        Self { times, costs }
    }

    /// How long `run` would have taken without the cache.
    pub(crate) fn time(&self, run: &Run) -> Option<u64> {
        Some(run.job_ms?.saturating_add_signed(self.saved(run)?))
    }

    /// How much longer it would have taken: negative where the cache cost more than it saved. Only runs that succeeded are
    /// comparable.
    pub(crate) fn saved(&self, run: &Run) -> Option<i64> {
        if run.status != "success" {
            return None;
        }
        let costs = self.costs.get(&(run.lane.clone(), run.system.clone()));
        if let Some(saved) = costs.and_then(|costs| costs.saved(run)) {
            return Some(saved);
        }
        let (without, with) = (*self.times.get(&run.lane)?, run.job_ms?);
        Some(i64::try_from(without).unwrap_or(i64::MAX).saturating_sub_unsigned(with))
    }
}
