//! The cost guard: the main step asks the history how this job uses the cache, and the post step does as the main step was told.
//!
//! The history is read while the restore looks for its snapshot, so it costs no time. Without an answer, or in case of trouble, the cache is
//! used as without a guard.

use std::fmt::Write;
use std::time::Duration;

use super::fill;
use super::inputs::{GuardWhen, HistoryPlace};
use super::job::{Job, Place};
use crate::base::note::{Code, Note};
use crate::flake::current_system;
use crate::history::{self, JobOf, Recorded, history_key};
use crate::report::{Guard, Outcome, Severity, text};

/// Longest time for the history.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads the history and decides. None for the cache as usual.
pub(super) async fn decide(job: &Job, place: &Place) -> Option<Guard> {
    let inputs = &job.inputs;
    let is_off = inputs.guard.when == GuardWhen::Off || inputs.history.is_off() || inputs.lookup_only;
    if is_off || !place.remote.is_readable() {
        return None;
    }
    let key = history_key(&inputs.key.prefix_key);
    let known = tokio::time::timeout(LIMIT, history::load(&*place.remote, &key, &job.keys)).await;
    let known = match known {
        Ok(Ok(known)) => known.record,
        Ok(Err(error)) => {
            tracing::debug!("The cost guard does nothing: {error}");
            return None;
        }
        Err(_) => return None,
    };
    let is_read_only = place.github.as_ref().is_some_and(|github| {
        !github.mode().writable()
            || !github.scopes().is_empty() && github.scopes().iter().all(|scope| !scope.writable())
    });
    let is_artifact = inputs.history.place == HistoryPlace::Artifact;
    let is_recorded = !is_read_only && !is_artifact && !inputs.save.when.is_never();
    let recorded = if is_recorded { Recorded::Yes } else { Recorded::No };
    let of = JobOf { lane: &job.lane, system: &current_system(), git_ref: &job.report.job.git_ref };
    history::decide(&known, of, recorded)
}

/// Adds the decision to the report, and says so with its figures.
pub(super) fn tell(job: &mut Job, guard: Option<Guard>) {
    let Some(guard) = guard else { return };
    let message = message(&guard);
    tracing::info!("{message}");
    job.report.note(Note::silent(Severity::Notice, Code::CostGuard, message));
    job.report.guard = Some(guard);
}

/// What the decision is, and why.
fn message(guard: &Guard) -> String {
    let lost = guard.judged_ms.iter().fold(0_i64, |sum, ms| sum.saturating_add(*ms));
    let runs = text::count(guard.judged_ms.len() as u64, "run");
    let expected = guard.expected_ms.map(|ms| (ms, text::long_time(ms.unsigned_abs())));
    let mut cost = format!(
        "the cache cost the last measured {runs} of this lane {} more than it saved",
        text::long_time(lost.unsigned_abs())
    );
    if guard.state == history::SPARED {
        cost = format!("what this lane fetches and builds itself takes less time than the cache would: {cost}");
    }
    if let Some((..0, time)) = &expected {
        let _ = write!(cost, ", and by what they measured it would cost this run {time} more");
    }
    match (&*guard.state, guard.most_bytes) {
        (history::TEST, _) => {
            let why = match expected {
                Some((0.., time)) => format!(", because by what the last runs measured it can save up to {time}"),
                _ => String::new(),
            };
            format!("This run tests whether the cache pays again{why}: it restores and saves as usual.")
        }
        (history::FOLLOW, _) => {
            "This run restores what the last one saved, and saves nothing, to see whether the cache pays again."
                .to_owned()
        }
        (_, Some(most @ 1..)) => {
            format!("Nothing is saved, and nothing larger than {} is restored, because {cost}.", text::bytes(most))
        }
        _ => format!("Nothing is restored or saved, because {cost}."),
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
pub(super) fn not_saved(job: &mut Job) {
    fill::not_saved(job, Outcome::Skipped, "cost-guard", "because the cache costs this lane more time than it saves");
}
