//! What the cache saved in a run: the time in which its paths would have been fetched and built, less the restore and the save.
//!
//! 1. The speed of the substituters is that of the newest run of the lane that fetched at least half as much as the one that fetched most, or else
//!    of any such run of the system.
//! 2. The time of a build is the mean in the newest run of the lane that built at least half as many paths as the one that built most: it is close
//!    to a build of everything. A lane that has built too little itself, because another one always was first, takes it from the system.
//! 3. What no run has measured is unknown, and so is the saving that needs it.

use super::{Run, RunKind};

/// With fewer bytes or in less time, the speed of the substituters is not measured: the times are whole seconds.
const LEAST_BYTES: u64 = 8 << 20;
const LEAST_MS: u64 = 3_000;
/// So many bytes tell in any time that the substituters are fast. What the times may lack is added then.
const MANY_BYTES: u64 = 512 << 20;
const ROUNDING_MS: u64 = 1_000;
/// The time of builds is only known if a run has built at least this share of the paths that came from the cache.
const LEAST_BUILT: f64 = 0.5;

/// What is known about the costs of a lane without the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Costs {
    /// Milliseconds a byte that comes from a substituter.
    per_byte: Option<f64>,
    /// Milliseconds a path that is built, and how many were built in the run that says so: one of the lane, and one of any lane.
    per_build: [Option<(f64, u64)>; 2],
}

impl Costs {
    /// The costs of a lane on a system, as far as `runs` have measured them.
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = &'a Run>, lane: &str, system: &str) -> Self {
        let is_wanted = |run: &&Run| run.system == system && run.kind == RunKind::Job;
        let runs: Vec<&Run> = runs.into_iter().filter(is_wanted).collect();
        let bytes = |run: &Run| run.fetched_bytes.unwrap_or(0);
        let is_fetch = |run: &Run| {
            let is_measured = run.fetched_ms.is_some_and(|ms| ms >= LEAST_MS || bytes(run) >= MANY_BYTES);
            is_measured && bytes(run) >= LEAST_BYTES
        };
        let is_build = |run: &Run| run.built > 0 && run.built_ms.is_some();
        let [fetched_here, fetched] = both(&runs, lane, is_fetch, bytes);
        let built = both(&runs, lane, is_build, |run| run.built);
        let time = |ms: u64| if ms < LEAST_MS { ms + ROUNDING_MS } else { ms };
        let per_byte = |run: &Run| Some(time(run.fetched_ms?) as f64 / run.fetched_bytes? as f64);
        let per_build = |run: &Run| Some((run.built_ms? as f64 / run.built as f64, run.built));
        Self {
            per_byte: fetched_here.or(fetched).and_then(per_byte),
            per_build: built.map(|run| run.and_then(per_build)),
        }
    }

    /// The time in which a job without the cache would have got what this run got from it. None if it is unknown.
    pub(crate) fn gross(&self, run: &Run) -> Option<f64> {
        let (bytes, built) = (run.cached_bytes?, run.cached_built?);
        let fetching = if bytes == 0 { Some(0.0) } else { self.per_byte.map(|cost| cost * bytes as f64) };
        let says = |(cost, of): &(f64, u64)| (*of as f64 >= LEAST_BUILT * built as f64).then_some(cost * built as f64);
        let building = if built == 0 { Some(0.0) } else { self.per_build.iter().flatten().find_map(says) };
        Some(fetching? + building?)
    }

    /// What the cache saved in `run`, in milliseconds: negative where it cost more. Only runs that succeeded are comparable.
    pub(crate) fn saved(&self, run: &Run) -> Option<i64> {
        if run.status != "success" || run.kind != RunKind::Job {
            return None;
        }
        let ours = run.restore_ms?.saturating_add(run.save_ms.unwrap_or(0));
        Some((self.gross(run)? - ours as f64) as i64)
    }
}

/// The run of the lane, and the run of any lane, by which something is measured: the newest of those with at least half of the `amount` of the run that
/// has most.
fn both<'a>(
    runs: &[&'a Run],
    lane: &str,
    is_measured: impl Fn(&Run) -> bool,
    amount: impl Fn(&Run) -> u64,
) -> [Option<&'a Run>; 2] {
    let measured = || runs.iter().copied().filter(|run| is_measured(run));
    let newest = |of_lane: &dyn Fn(&Run) -> bool| {
        let most = measured().filter(|run| of_lane(run)).map(&amount).max()?;
        measured().filter(|run| of_lane(run) && amount(run) >= most.div_ceil(2)).max_by_key(|run| (run.time, run.run))
    };
    [newest(&|run| run.lane == lane), newest(&|_| true)]
}
