//! The cost guard: the main step asks the history how this job uses the cache, and the post step does as the main step was told.
//!
//! The history is read while the restore looks for its snapshot, so it costs no time. Without an answer, or in case of trouble, the cache is
//! used as without a guard. The post step reads it once more while it counts paths, because a job knows at its end what it needed.

use std::fmt::Write;

use super::fill;
use super::history::LIMIT;
use super::inputs::{GuardWhen, HistoryPlace};
use super::job::{Job, Place};
use crate::base::clock::now;
use crate::base::note::{Code, Note};
use crate::flake::current_system;
use crate::history::{self, BeforeSave, History, JobOf, Recorded, Run, history_key};
use crate::report::{Guard, Outcome, Severity, text};

/// Reads the history and decides. None for the cache as usual.
pub(super) async fn decide(job: &Job, place: &Place) -> Option<Guard> {
    if !is_on(job) || !place.remote.is_readable() {
        return None;
    }
    let key = history_key(&job.inputs.key.prefix_key);
    let known = match tokio::time::timeout(LIMIT, history::load(&*place.remote, &key, &job.keys)).await.ok()? {
        Ok(known) => known.record,
        Err(error) => {
            tracing::debug!("The cost guard does nothing: {error}");
            return None;
        }
    };
    history::decide(&known, job_of(job, &current_system()), recorded(job, place))
}

fn is_on(job: &Job) -> bool {
    let inputs = &job.inputs;
    inputs.guard.when != GuardWhen::Off && !inputs.history.is_off() && !inputs.lookup_only
}

fn job_of<'a>(job: &'a Job, system: &'a str) -> JobOf<'a> {
    JobOf { lane: &job.lane, system, git_ref: &job.report.job.git_ref }
}

/// Whether the job will be in the history.
fn recorded(job: &Job, place: &Place) -> Recorded {
    let inputs = &job.inputs;
    let is_artifact = inputs.history.place == HistoryPlace::Artifact;
    let is_recorded = place.may_write() && !is_artifact && !inputs.save.when.is_never();
    if is_recorded { Recorded::Yes } else { Recorded::No }
}

/// Adds the decision to the report, and says so with its figures.
pub(super) fn tell(job: &mut Job, guard: Option<Guard>) {
    let Some(guard) = guard else { return };
    say(job, message(&guard));
    job.report.guard = Some(guard);
}

fn say(job: &mut Job, message: String) {
    tracing::info!("{message}");
    job.report.note(Note::silent(Severity::Notice, Code::CostGuard, message));
}

/// What the decision is, and why.
fn message(guard: &Guard) -> String {
    let cost = cost(guard);
    match (&*guard.state, guard.most_bytes) {
        (history::TEST, _) => {
            let why = match guard.expected_ms {
                Some(saving @ 0..) => {
                    let time = text::long_time(saving.unsigned_abs());
                    format!(", because by what the last runs measured it can save up to {time}")
                }
                _ => String::new(),
            };
            format!("This run tests whether the cache pays again{why}: it restores and saves as usual.")
        }
        (history::FOLLOW, _) => {
            "This run restores what an earlier one saved, and saves nothing, to see whether the cache pays.".to_owned()
        }
        (_, Some(most @ 1..)) => {
            format!("Nothing is saved, and nothing larger than {} is restored, because {cost}.", text::bytes(most))
        }
        _ => format!("Nothing is restored or saved, because {cost}."),
    }
}

/// What the cache costs, by the runs that were judged.
fn cost(guard: &Guard) -> String {
    let lost = guard.judged_ms.iter().fold(0_i64, |sum, ms| sum.saturating_add(*ms));
    let runs = text::count(guard.judged_ms.len() as u64, "run");
    let mut cost = format!(
        "the cache cost the last measured {runs} of this lane {} more than it saved",
        text::long_time(lost.unsigned_abs())
    );
    let expected = guard.expected_ms.filter(|saving| *saving < 0).map(|loss| text::long_time(loss.unsigned_abs()));
    if let Some(time) = &expected {
        let _ = write!(cost, ", and by what they measured it would cost a run {time} more");
    }
    if guard.state != history::SPARED {
        return cost;
    }
    let spared = "what this lane fetches and builds itself takes less time than the cache would";
    match expected {
        // Only the first run has been measured, which is not judged.
        Some(time) if guard.judged_ms.is_empty() => format!("{spared}, {time} by what its first run measured"),
        _ => format!("{spared}: {cost}"),
    }
}

/// Decides once more, before the save of the store. Returns why nothing is saved because of the guard; None if it may be saved. `is_begun` says
/// that some of it was saved while the job ran.
pub(super) fn objection(job: &mut Job, place: &Place, known: Option<&History>, is_begun: bool) -> Option<&'static str> {
    let run = Run::of(&job.report, now());
    let system = current_system();
    let decide =
        |known| history::before_save(known, job_of(job, &system), recorded(job, place), &run).filter(|_| !is_begun);
    match known.filter(|_| is_on(job)).and_then(decide) {
        Some(BeforeSave::Test(guard)) => {
            say(
                job,
                "This run needed much more than those before, so it saves, and the next one restores that.".into(),
            );
            job.report.guard = Some(guard);
            None
        }
        Some(BeforeSave::Unused(next)) => {
            say(job, format!("Nothing is saved, because the next run would not restore it: {}.", cost(&next)));
            Some("because the next run of this lane would not restore it")
        }
        Some(BeforeSave::Unseen { need, save }) => {
            let (need, save) = (text::time(need), text::time(save));
            say(
                job,
                format!(
                    "Nothing is saved, because only this pull request would see it: it took {need} to build and fetch, and a save of so much usually takes {save}. Later runs save."
                ),
            );
            Some("because only this pull request would see it, and it took little time to build and fetch")
        }
        None => keeps_from_saving(job).then_some("because the cache costs this lane more time than it saves"),
    }
}

/// Whether the post step must not save.
pub(super) fn keeps_from_saving(job: &Job) -> bool {
    job.report
        .guard
        .as_ref()
        .is_some_and(|guard| [history::STOPPED, history::SPARED, history::FOLLOW].contains(&&*guard.state))
}

/// Records that nothing was saved because of the guard.
pub(super) fn not_saved(job: &mut Job, because: &str) {
    fill::not_saved(job, Outcome::Skipped, "cost-guard", because);
}
