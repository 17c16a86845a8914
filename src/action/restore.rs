//! The main step.

use super::job::{Job, annotator};
use super::{evicted, fill, guard, levels, progressive};
use crate::action::outputs;
use crate::app::Failure;
use crate::app::place::time_to_fetch;
use crate::attach::CacheError;
use crate::base::note::{Code, Note, Severity};
use crate::cache::{self, RestoreOutcome};
use crate::report::{machine, millis, summary};
use crate::series::Hit;

/// Restores, sets the outputs, and fails only on the user's conditions.
pub(super) async fn restore(job: &mut Job) -> Result<(), Failure> {
    let start = std::time::Instant::now();
    let free = machine::free_space(&job.dirs);
    let restored = look_and_restore(job).await?;
    if let Some(restore) = &mut job.report.restore {
        restore.ms = millis(start.elapsed());
    }
    job.report.machine = machine::describe(&job.dirs, job.facts.environment, free).await;
    job.take_over_steps();
    job.write_report();
    if !job.inputs.job.no_summarize {
        summary::promise(&job.report_path);
    }
    if let Err(error) = outputs::set(&job.report, &job.report_path) {
        tracing::warn!("{error}");
    }
    tracing::info!("{}", summary::headline(&job.report));
    annotate(job);
    match job.inputs.fail.failure(job.report.key.hit, restored) {
        None => Ok(()),
        Some(condition) => Err(Failure::work(format!(
            "The input `fail-on` names {condition}, which holds for the key {}.",
            job.report.key.primary
        ))),
    }
}

/// Restores as far as possible. Returns whether paths of a snapshot are in the store now.
async fn look_and_restore(job: &mut Job) -> Result<bool, Failure> {
    let lookup = job.key()?;
    let limit = job.inputs.restore.restore_timeout;
    let end = std::time::Instant::now() + limit;
    let place = match job.place_to_restore(Some(time_to_fetch(limit))) {
        Ok(place) => place,
        Err(error) => {
            job.note_no_cache(&error);
            return Ok(false);
        }
    };
    job.note_read_only(&place);
    let mut context = job.context(&place, &lookup);
    context.place.deadline = Some(end);
    if job.inputs.lookup_only {
        let outcome = cache::look_up(&context).await;
        job.note_troubles(&place);
        fill::restore(job, &outcome);
        Job::leave_spoken(&place);
        return Ok(false);
    }
    let levels = levels::wanted(job, &lookup)?;
    let scratch = job.facts.scratch();
    let (limit, known) = tokio::sync::watch::channel(None);
    context.place.limit = Some(known);
    let decided = async {
        let guard = guard::decide(job, &place).await;
        limit.send_replace(Some(guard.as_ref().and_then(|guard| guard.most_bytes).unwrap_or(u64::MAX)));
        guard
    };
    let (guard, store, files) =
        tokio::join!(decided, cache::restore(&context), levels::restore(&place, &levels, scratch));
    guard::tell(job, guard);
    Job::leave_spoken(&place);
    job.note_troubles(&place);
    if let Ok(outcome) = &store {
        evicted::note(job, &place, &outcome.layers).await;
    }
    let restored = report_store(job, store);
    levels::report_restored(job, &levels, files);
    progressive::start(job, &place, &lookup);
    Ok(restored)
}

/// Adds the restore of the store to the report. Returns whether paths of a snapshot are in the store now.
fn report_store(job: &mut Job, restored: Result<RestoreOutcome, CacheError>) -> bool {
    match restored {
        Ok(outcome) => {
            fill::restore(job, &outcome);
            outcome.hit != Hit::Miss
        }
        Err(error) => {
            tracing::warn!("{error}");
            job.report.note(
                Note::silent(Severity::Warning, Code::RestoreFailed, error.to_string())
                    .with_remedy("The job continues without the cache."),
            );
            false
        }
    }
}

/// Shows warnings and errors among the notes on the run's page.
pub(super) fn annotate(job: &Job) {
    let mut annotator = annotator();
    for note in &job.report.notes {
        let text = format!("{} {}", note.message, note.remedy);
        match note.severity {
            Severity::Notice => {}
            Severity::Warning => annotator.warning("nix-cache", text.trim()),
            Severity::Error => annotator.error("nix-cache", text.trim()),
        }
    }
    annotator.finish();
}
