//! Records for the tests of the guard.

use super::{JobOf, Run};

pub(super) const LANE: JobOf<'_> = JobOf { lane: "CI/build", system: "x86_64-linux", git_ref: "refs/heads/main" };
pub(super) const PULL: JobOf<'_> = JobOf { git_ref: "refs/pull/1/merge", ..LANE };

/// A run of the lane that succeeded and built nothing.
pub(super) fn of_lane(number: u64, guard: &str) -> Run {
    Run {
        time: number,
        run: number,
        lane: LANE.lane.into(),
        system: LANE.system.into(),
        git_ref: LANE.git_ref.into(),
        status: "success".into(),
        cached_built: Some(0),
        built_ms: Some(0),
        guard: guard.into(),
        ..Run::default()
    }
}
