//! The post step and the separate save step: save within the deadline, count, and write the summary.

use std::time::{Duration, Instant};

use futures_util::future::OptionFuture;

use super::job::{Job, Lookup, Place};
use super::{Step, fill, guard, history, levels, progressive, push};
use crate::action::inputs::SaveWhen;
use crate::action::outputs;
use crate::app::Failure;
use crate::base::note::{Code, Note, Severity};
use crate::cache::{self, Finished, Objection};
use crate::github::status::JobStatus;
use crate::history::History;
use crate::report::{Action, Outcome, Report, machine, millis, summary};
use crate::store::{STORE_DIR, StorePath};

/// Time for querying how full the cache is, if the step's time is used up.
const LEAST_FOR_QUOTA: Duration = Duration::from_secs(10);

/// Time for the history, if the step's time is used up.
const LEAST_FOR_HISTORY: Duration = Duration::from_secs(10);

/// Saves and reports, within `save-timeout` for all of it.
pub(super) async fn save(job: &mut Job, step: Step) -> Result<(), Failure> {
    let end = Instant::now() + job.inputs.save_timeout();
    take_over_report(job);
    if job.inputs.action == Action::Restore && job.report.save.is_some() {
        tracing::info!("A step of this job has already saved and reported.");
        return Ok(());
    }
    progressive::stop(job, end).await;
    let shown = job.report.notes.len();
    if job.report.machine.system.is_empty() {
        let free = machine::free_space(&job.dirs);
        job.report.machine = machine::describe(&job.dirs, job.facts.environment, free).await;
    }
    let lookup = job.key()?;
    let streamed = cache::finish_stream(&job.dirs).await;
    fill::notes(job, &streamed.notes);
    match job.place(None) {
        Ok(place) => {
            // Neither depends on the save.
            let usage = place.github.clone().map(|github| tokio::spawn(async move { github.rest()?.usage().await }));
            let mut earlier = history::begin_to_read(job, &place);
            let ((), read) = tokio::join!(survey(job, &lookup), history::read_soon(earlier.as_mut()));
            let known = read.as_ref().and_then(|read| Some(&read.as_ref().ok()?.record));
            save_if_wanted(job, &place, &lookup, (streamed, known), end).await;
            job.note_troubles(&place);
            let left = end.saturating_duration_since(Instant::now()).max(LEAST_FOR_QUOTA);
            match tokio::time::timeout(left, OptionFuture::from(usage)).await {
                Ok(Some(Ok(Some(usage)))) => fill::quota(job, usage),
                Ok(_) => {}
                Err(_) => tracing::debug!("GitHub did not report in time how full the cache is."),
            }
            let left = end.saturating_duration_since(Instant::now()).max(LEAST_FOR_HISTORY);
            let is_off = job.inputs.history.is_off();
            let remember = history::remember(job, &place, (earlier, read));
            if !is_off && tokio::time::timeout(left, remember).await.is_err() {
                tracing::info!("There was no time left to add this job to the history.");
            }
        }
        Err(error) => {
            job.note_no_cache(&error);
            fill::not_saved(job, Outcome::Skipped, "no-cache", "because there is no cache");
        }
    }
    let pushed = push::push_to(job, end).await;
    job.write_report();
    if matches!(step, Step::Save)
        && let Err(error) = outputs::set(&job.report, &job.report_path)
    {
        tracing::warn!("{error}");
    }
    tracing::info!("{}", summary::headline(&job.report));
    if !job.inputs.job.no_summarize
        && let Err(error) = summary::write(&job.report)
    {
        tracing::warn!("{error}");
    }
    if let Some(pushed) = pushed.filter(|_| !job.inputs.job.no_summarize) {
        push::summarize(&pushed, &[]);
    }
    summary::fulfil(&job.report_path);
    // Those of the restore are already on the page.
    job.report.notes.drain(..shown.min(job.report.notes.len()));
    super::restore::annotate(job);
    Ok(())
}

/// Continues the report of the restore in this job, if there was one.
fn take_over_report(job: &mut Job) {
    match Report::read(&job.report_path) {
        Ok(report) => {
            let fresh = std::mem::replace(&mut job.report, report);
            job.report.action = fresh.action;
            job.report.job.status = fresh.job.status;
        }
        Err(error) => tracing::debug!("{error}"),
    }
    if job.inputs.action == Action::Save {
        job.report.action = Action::Save;
    }
}

async fn survey(job: &mut Job, lookup: &Lookup) {
    let (dirs, key) = (job.dirs.clone(), lookup.primary.clone());
    let built = job.report.builds.iter().flat_map(|build| &build.paths);
    let built: Vec<StorePath> = built.filter_map(|path| StorePath::from_full(path, STORE_DIR).ok()).collect();
    match tokio::task::spawn_blocking(move || cache::survey(&dirs, &key, &built)).await {
        Ok(Ok((survey, closure))) => {
            fill::survey(job, &survey);
            job.report.closure = fill::closure(closure);
        }
        Ok(Err(error)) => tracing::warn!("{error}"),
        Err(error) => tracing::warn!("Cannot count the paths of the store: {error}."),
    }
}

/// Saves until `end`, as far as the guard, which knows this history, does not object.
async fn save_if_wanted(
    job: &mut Job,
    place: &Place,
    lookup: &Lookup,
    (streamed, known): (Finished, Option<&History>),
    end: Instant,
) {
    if !job.inputs.may_save() {
        let (reason, because) = why_not_wanted(job);
        fill::not_saved(job, Outcome::Skipped, reason, because);
        return;
    }
    job.note_read_only(place);
    if !place.github.as_ref().is_none_or(|github| github.mode().writable()) {
        fill::not_saved(
            job,
            Outcome::Skipped,
            "read-only",
            "because the `cache-mode` of this job does not allow writing",
        );
        return;
    }
    if let Some(because) = place.unsigned.filter(|_| !job.keys.can_sign()) {
        fill::not_saved(job, Outcome::Skipped, "unsigned", because);
        return;
    }
    if is_objected(job) {
        return;
    }
    let context = job.context(place, lookup);
    let is_begun = cache::checkpoints(&context).is_some();
    if let Some(because) = guard::objection(job, place, known, is_begun) {
        guard::not_saved(job, because);
        // The guard measures the store alone.
        return save_levels(job, place, lookup, end.saturating_duration_since(Instant::now())).await;
    }
    let limit = job.inputs.save_timeout();
    let start = Instant::now();
    match tokio::time::timeout_at(end.into(), cache::save_after(&context, streamed)).await {
        Ok(Ok(outcome)) => fill::save(job, &outcome),
        Ok(Err(error)) => {
            job.report.note(
                Note::silent(Severity::Warning, Code::SaveFailed, error.to_string()).with_remedy("Nothing was saved."),
            );
            fill::not_saved(job, Outcome::Failed, "failed", "see the warnings");
        }
        Err(_) => {
            let message = format!(
                "The save took longer than {} s and was stopped. Not saved: {}.",
                limit.as_secs(),
                unsaved_paths(&job.report)
            );
            let remedy = "The next save uses completed uploads. Increase `save-timeout` if this happens often.";
            job.report.note(Note::silent(Severity::Warning, Code::Deadline, message).with_remedy(remedy));
            fill::not_saved(job, Outcome::Failed, "deadline", "because it took longer than `save-timeout`");
            if let (Some(save), Some(github)) = (&mut job.report.save, &place.github) {
                (save.ms, save.entries_created) = (millis(start.elapsed()), github.creations());
            }
        }
    }
    progressive::report(job, &context);
    save_levels(job, place, lookup, end.saturating_duration_since(Instant::now())).await;
}

/// Checks whether a save would violate the guarantee of the job's keys, and adds a note if so.
fn is_objected(job: &mut Job) -> bool {
    if job.inputs.signing_key_digest.is_some() && !job.keys.can_sign() {
        let message = "Nothing was saved: the runner did not pass `signing-key` to the post step again, as happens where \
                       the action stands inside another composite action, and the key is kept nowhere.";
        let remedy = "Use the action in the workflow itself, or its halves `restore` and `save` in the other action.";
        job.report.note(Note::silent(Severity::Warning, Code::NoSigningKey, message).with_remedy(remedy));
        fill::not_saved(job, Outcome::Failed, "no-signing-key", "because the signing key was no longer available");
        return true;
    }
    let Some(objection) = cache::objection(&job.dirs, &job.keys) else { return false };
    let (outcome, reason, because) = match objection {
        Objection::NoKey => (Outcome::Skipped, "no-signing-key", "because there is no signing key"),
        Objection::Unverified(_) => {
            (Outcome::Failed, "not-verified", "because an earlier restore did not require a signature")
        }
    };
    fill::notes(job, &[objection.note()]);
    fill::not_saved(job, outcome, reason, because);
    true
}

/// Saves the levels above the store in the time that is left.
async fn save_levels(job: &mut Job, place: &Place, lookup: &Lookup, left: Duration) {
    let levels = match levels::wanted(job, lookup) {
        Ok(levels) => levels,
        // Main has already failed the job for it.
        Err(failure) => return tracing::warn!("{}", failure.message),
    };
    let mut unsaved: Vec<&str> = levels.iter().map(|level| level.name).collect();
    if tokio::time::timeout(left, levels::save(job, place, &levels, &mut unsaved)).await.is_err() {
        let names = unsaved.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        let message = format!("There was no time left to save the further files of {names}.");
        job.report.note(
            Note::silent(Severity::Warning, Code::Deadline, message)
                .with_remedy("Increase `save-timeout` if this happens often."),
        );
    }
}

/// Describes what a stopped save leaves unsaved.
fn unsaved_paths(report: &Report) -> String {
    match report.paths.built_here + report.paths.fetched_upstream {
        0 => "the paths that this job added to the store".to_owned(),
        1 => "the store path that this job built or fetched".to_owned(),
        count => format!("the {count} store paths that this job built or fetched"),
    }
}

fn why_not_wanted(job: &Job) -> (&'static str, &'static str) {
    match (job.inputs.action, job.inputs.save.when, job.inputs.job.job_status) {
        (Action::Restore, ..) => ("restore-only", "because this action only restores"),
        (_, SaveWhen::OnSuccess, JobStatus::Failure | JobStatus::Cancelled) => {
            ("job-failed", "because the job did not succeed and `save` is `on-success`")
        }
        _ => ("not-wanted", "because `save` is `never`"),
    }
}
