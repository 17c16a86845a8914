//! What the cache saved in a run: the time in which its paths would have been fetched and built, less the restore and the save.
//!
//! 1. The speed of the substituters is that of the run of the lane that fetched most, or else of any run of the system.
//! 2. The time of a build is the mean in the run of the lane that built most paths: the one closest to a build of everything.
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
    /// Milliseconds a path that is built, and how many were built in the run that says so.
    per_build: Option<(f64, u64)>,
}

impl Costs {
    /// The costs of a lane on a system, as far as `runs` have measured them.
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = &'a Run>, lane: &str, system: &str) -> Self {
        let (mut here, mut anywhere): (Option<&Run>, Option<&Run>) = (None, None);
        let mut built: Option<&Run> = None;
        let more = |run: &Run, known: Option<&Run>, of: fn(&Run) -> u64| known.is_none_or(|known| of(known) <= of(run));
        for run in runs.into_iter().filter(|run| run.system == system && run.kind == RunKind::Job) {
            let bytes = |run: &Run| run.fetched_bytes.unwrap_or(0);
            let is_measured = run.fetched_ms.is_some_and(|ms| ms >= LEAST_MS || bytes(run) >= MANY_BYTES);
            if bytes(run) >= LEAST_BYTES && is_measured {
                if more(run, anywhere, bytes) {
                    anywhere = Some(run);
                }
                if run.lane == lane && more(run, here, bytes) {
                    here = Some(run);
                }
            }
            if run.lane == lane && run.built > 0 && run.built_ms.is_some() && more(run, built, |run| run.built) {
                built = Some(run);
            }
        }
        let time = |ms: u64| if ms < LEAST_MS { ms + ROUNDING_MS } else { ms };
        let per_byte = here.or(anywhere).and_then(|run| Some(time(run.fetched_ms?) as f64 / run.fetched_bytes? as f64));
        let per_build = built.and_then(|run| Some((run.built_ms? as f64 / run.built as f64, run.built)));
        Self { per_byte, per_build }
    }

    /// The time in which a job without the cache would have got what this run got from it. None if it is unknown.
    pub(crate) fn gross(&self, run: &Run) -> Option<f64> {
        let (bytes, built) = (run.cached_bytes?, run.cached_built?);
        let fetching = if bytes == 0 { Some(0.0) } else { self.per_byte.map(|cost| cost * bytes as f64) };
        let building = match self.per_build {
            _ if built == 0 => Some(0.0),
            Some((cost, of)) if of as f64 >= LEAST_BUILT * built as f64 => Some(cost * built as f64),
            _ => None,
        };
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
