//! The cost guard once more, before a job saves: now the job has measured what it needs, and what it saves is of use only if a later run restores
//! it.
//!
//! 1. The guard decides for the next run. If that would be spared or stopped, nothing is saved.
//! 2. If that would use the cache as usual again, because this stopped or spared job needed so much more than those before, the job saves after
//!    all: it is a test.
//! 3. What the first run of a lane saves in a pull request is seen by later runs of this pull request alone. So as long as nothing else is known, it
//!    has to have taken several times as long to get as a save usually takes.

use super::guard::{decide_after, is_sparing, spares};
use super::{History, JobOf, Recorded, Run, TEST};
use crate::report::Guard;

/// Bytes a millisecond of a usual save, uncompressed: packed at 150 MB/s, and 34 % of them uploaded at 52 MB/s.
const USUAL_SPEED: f64 = 75e3;
/// A save in a pull request pays if a later run of it gains as much: a restore takes half as long, and the cache may be half as fast as usual.
const MANY_TIMES: f64 = 3.0;
/// Milliseconds: a shorter save is always made.
const SHORT: f64 = 10_000.0;

/// What changes before a save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BeforeSave {
    /// Nothing is saved, because the next run does this.
    Unused(Guard),
    /// Nothing is saved, because only this pull request would see it: milliseconds in which the job got its paths, and of a usual save.
    Unseen { need: u64, save: u64 },
    /// The job saves although the guard had stopped it.
    Test(Guard),
}

/// Decides what changes before the job with the record `run` saves. None for nothing.
pub(crate) fn before_save(history: &History, job: JobOf<'_>, recorded: Recorded, run: &Run) -> Option<BeforeSave> {
    if run.status != "success" {
        return None;
    }
    let mut runs = history.own_by_time();
    let Some(last) = runs.iter().copied().rev().find(|run| job.is_of_lane(run)) else { return unseen(job, run) };
    let can_test = recorded == Recorded::Yes && last.git_ref == job.git_ref;
    // It is the newest run, whatever the clocks of other machines said.
    let newest = Run { time: runs.last().map_or(0, |last| last.time.saturating_add(1)).max(run.time), ..run.clone() };
    runs.retain(|known| known.id() != newest.id());
    runs.push(&newest);
    match decide_after(&runs, job, recorded) {
        Some(next) if spares(&next.state) && !is_sparing(run) => Some(BeforeSave::Unused(next)),
        None if can_test && is_sparing(run) => {
            Some(BeforeSave::Test(Guard { state: TEST.to_owned(), ..Guard::default() }))
        }
        _ => None,
    }
}

/// Whether the first run of a lane saves nothing because it is of a pull request.
fn unseen(job: JobOf<'_>, run: &Run) -> Option<BeforeSave> {
    let need = run.fetched_ms?.saturating_add(run.built_ms?);
    let save = run.fetched_bytes? as f64 / USUAL_SPEED;
    let is_pull = job.git_ref.starts_with("refs/pull/");
    let is_dear = save > SHORT && (need as f64) < MANY_TIMES * save;
    (is_pull && is_dear).then_some(BeforeSave::Unseen { need, save: save as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::sample::{LANE, PULL, of_lane};
    use crate::history::{FOLLOW, SPARED, STOPPED, decide};

    /// A run that fetched 2 GB in 20 s and saved nothing.
    fn run(number: u64, guard: &str) -> Run {
        Run {
            hit: "miss".into(),
            restore_ms: Some(500),
            job_ms: Some(60_000),
            cached_bytes: Some(0),
            fetched_bytes: Some(2_000_000_000),
            fetched_ms: Some(20_000),
            ..of_lane(number, guard)
        }
    }

    /// One that restored the same in `restore` seconds and saved for `save` seconds.
    fn restored(number: u64, (restore, save): (u64, u64), guard: &str) -> Run {
        Run {
            hit: "exact".into(),
            restore_ms: Some(restore * 1_000),
            save_ms: Some(save * 1_000),
            downloaded: 600_000_000,
            cached_bytes: Some(2_000_000_000),
            fetched_bytes: Some(0),
            fetched_ms: Some(0),
            ..run(number, guard)
        }
    }

    fn saved(number: u64) -> Run {
        Run { save_ms: Some(25_000), uploaded: 600_000_000, ..run(number, "") }
    }

    fn changes(known: &[Run], run: &Run) -> Option<BeforeSave> {
        before_save(&History::of(known.iter().cloned()), LANE, Recorded::Yes, run)
    }

    #[test]
    fn a_stopped_lane_saves_as_soon_as_a_job_needs_so_much_more_that_the_next_one_restores() {
        let losses = (1..7).map(|number| restored(number, (40, 10), ""));
        let stopped = (7..20).map(|number| run(number, STOPPED));
        let known: Vec<Run> = [saved(0)].into_iter().chain(losses).chain(stopped).collect();
        let built = |seconds: u64| Run { built: 30, built_ms: Some(seconds * 1_000), ..run(20, STOPPED) };
        assert_eq!(changes(&known, &built(10)), None);
        let test = changes(&known, &built(1_500));
        assert!(matches!(&test, Some(BeforeSave::Test(guard)) if guard.state == TEST), "{test:?}");
        // Clocks differ, and of two records of one job the last one counts.
        assert_eq!(changes(&known, &Run { time: 3, ..built(1_500) }), test);
        let twice = [known.clone(), vec![Run { time: 19, ..built(10) }]].concat();
        assert_eq!(changes(&twice, &built(1_500)), test);
        // The next run would use the cache as usual, and so it does.
        let then = [known.clone(), vec![Run { save_ms: Some(30_000), guard: TEST.into(), ..built(1_500) }]].concat();
        assert_eq!(decide(&History::of(then), LANE, Recorded::Yes), None);
        // Nobody would restore it.
        let history = History::of(known.iter().cloned());
        assert_eq!(before_save(&history, LANE, Recorded::No, &built(1_500)), None);
        assert_eq!(before_save(&history, PULL, Recorded::Yes, &built(1_500)), None);
        assert_eq!(changes(&known, &Run { status: "failure".into(), ..built(1_500) }), None);
    }

    #[test]
    fn nothing_is_saved_that_the_next_run_does_not_restore() {
        let gained = [saved(0), restored(1, (5, 0), "")];
        let losses = |most: u64| (2..most).map(|number| restored(number, (40, 30), ""));
        let known = |most: u64| gained.iter().cloned().chain(losses(most)).collect::<Vec<_>>();
        // With this run, there are five losses.
        let last = restored(6, (40, 0), "");
        let unused = changes(&known(6), &last);
        assert!(matches!(&unused, Some(BeforeSave::Unused(next)) if next.state == STOPPED), "{unused:?}");
        assert_eq!(changes(&known(5), &last), None);
        // A lane that has not gained yet is spared after one restore that takes longer than twice what it saves.
        let unused = changes(&[saved(0)], &restored(1, (60, 0), ""));
        assert!(matches!(&unused, Some(BeforeSave::Unused(next)) if next.state == SPARED), "{unused:?}");
        assert_eq!(changes(&[saved(0)], &restored(1, (30, 0), "")), None);
        assert_eq!(changes(&[saved(0)], &restored(1, (60, 0), FOLLOW)), unused);
    }

    #[test]
    fn the_first_run_of_a_lane_saves_in_a_pull_request_what_took_long_to_get() {
        let first = |run: Run| before_save(&History::default(), PULL, Recorded::Yes, &run);
        let (need, save) = (20_000, 26_666);
        assert_eq!(first(run(0, "")), Some(BeforeSave::Unseen { need, save }));
        // It took long, or is little, or all see it, or something is known.
        assert_eq!(first(Run { built_ms: Some(61_000), ..run(0, "") }), None);
        assert_eq!(first(Run { fetched_bytes: Some(700_000_000), ..run(0, "") }), None);
        assert_eq!(changes(&[], &run(0, "")), None);
        let known = History::of([run(0, "")]);
        assert_eq!(before_save(&known, PULL, Recorded::Yes, &run(1, "")), None);
    }
}
