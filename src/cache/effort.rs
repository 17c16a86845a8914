//! How long a job took to build and to fetch paths, from the times at which Nix registered them.
//!
//! Nix registers a path when it is complete. The time between two registrations counts for what was registered at its end: a build, a
//! download, or neither (derivations and sources that an evaluation writes). So no time counts twice, however much ran at once, and the
//! sums are times that somebody waited. The time before the first registration is not counted, because nothing says when the work began.

use crate::store::PathInfo;

/// The longest time between two registrations, in seconds; more is a machine that stood still, or a clock that was set.
const LONGEST: i64 = 6 * 3600;

/// Sums over the paths that a job made valid. Times are milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effort {
    pub built_ms: u64,
    pub fetched_ms: u64,
    /// Sizes of the NARs that were fetched.
    pub fetched_bytes: u64,
}

/// Where a path came from when it became valid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Built,
    Fetched,
    Evaluated,
}

fn origin(info: &PathInfo) -> Origin {
    if info.ultimate {
        Origin::Built
    } else if info.ca.is_none() {
        Origin::Fetched
    } else {
        Origin::Evaluated
    }
}

/// Whether a restored path was built by a job, and came from no substituter. A restore does not register it as built here.
pub(super) fn was_built(info: &PathInfo) -> bool {
    info.ultimate || info.ca.is_none() && info.signatures.is_empty() && info.deriver.is_some()
}

/// The effort for `fresh`, the paths that the job made valid.
pub(super) fn effort(fresh: &[&PathInfo]) -> Effort {
    let mut events: Vec<&PathInfo> = fresh.to_vec();
    events.sort_by_key(|info| info.registration_time);
    let mut effort = Effort::default();
    let mut before: Option<i64> = None;
    for at_once in events.chunk_by(|one, other| one.registration_time == other.registration_time) {
        let now = at_once[0].registration_time;
        let seconds = before.map_or(0, |before| now.saturating_sub(before).clamp(0, LONGEST));
        // The database has whole seconds: what was registered in the same one shares the time.
        let share = seconds.unsigned_abs() * 1000 / at_once.len() as u64;
        for info in at_once {
            match origin(info) {
                Origin::Built => effort.built_ms += share,
                Origin::Fetched => {
                    effort.fetched_ms += share;
                    // The first ones have no time, so their bytes say nothing about the speed.
                    effort.fetched_bytes += if before.is_some() { info.nar_size } else { 0 };
                }
                Origin::Evaluated => {}
            }
        }
        before = Some(now);
    }
    effort
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str, time: i64, size: u64) -> PathInfo {
        let digits = "0".repeat(32);
        PathInfo {
            registration_time: time,
            nar_size: size,
            ultimate: name.starts_with("built"),
            ca: name.starts_with("source").then(|| "fixed:x".to_owned()),
            ..PathInfo::sample(format!("{digits}-{name}").parse().unwrap())
        }
    }

    fn of(paths: &[PathInfo]) -> Effort {
        effort(&paths.iter().collect::<Vec<_>>())
    }

    #[test]
    fn time_between_registrations_counts_for_what_ended_it() {
        let all = [
            path("source", 1_000, 5),
            path("fetched-a", 1_010, 100),
            path("built-a", 1_070, 9),
            path("fetched-b", 1_072, 300),
            path("source-b", 1_200, 5),
            path("built-b", 1_230, 9),
        ];
        assert_eq!(of(&all), Effort { built_ms: 90_000, fetched_ms: 12_000, fetched_bytes: 400 });
        assert_eq!(of(&[]), Effort::default());
        // Of a single path, nobody knows when it began.
        assert_eq!(of(&all[2..3]), Effort::default());
    }

    #[test]
    fn the_same_second_is_shared_and_odd_clocks_do_no_harm() {
        let both = [path("source", 10, 1), path("built-a", 20, 1), path("fetched-a", 20, 50)];
        assert_eq!(of(&both), Effort { built_ms: 5_000, fetched_ms: 5_000, fetched_bytes: 50 });
        let odd = [path("source", i64::MIN, 1), path("built-a", i64::MAX, 1)];
        assert_eq!(of(&odd).built_ms, LONGEST as u64 * 1000);
    }
}
