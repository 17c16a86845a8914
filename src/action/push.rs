//! The action `push`, and the input `push-to` of the main action: pushes to binary caches, and reports.

use std::sync::Arc;
use std::time::Instant;

use super::given::ActionInputs;
use super::job::Job;
use super::outputs;
use super::push_inputs::PushInputs;
use crate::app::Failure;
use crate::app::print::print;
use crate::app::push::{Push, push as carry_out};
use crate::app::settings::{sinks, store_path};
use crate::base::note::{Code, Note, Severity};
use crate::layer::pack::Options;
use crate::push::{PushOutcome, Pushed, Sink};
use crate::report::page;
use crate::store::StorePath;

/// Pushes, and sets the outputs. Trouble is a warning, wrong inputs are an error.
pub(super) async fn run() -> Result<(), Failure> {
    let inputs = PushInputs::from_environment().map_err(Failure::usage)?;
    let mut job = Job::with(inputs.of_the_job().map_err(Failure::usage)?)?;
    let (sinks, folder) = (sinks(&inputs.push.to)?, job.project());
    let paths = inputs.paths.store_paths.iter().map(|text| store_path(text, &folder)).collect::<Result<_, _>>()?;
    let end = Instant::now() + inputs.timeout();
    let outcome = match carry_out(push(&job, sinks, paths, end)).await {
        Ok(outcome) => outcome,
        Err(failure) if failure.code == 1 => failed(&failure),
        Err(failure) => return Err(failure),
    };
    for sentence in outcome.sentences() {
        print(&format!("{sentence}\n"));
    }
    let (paths, bytes) = outcome.pushed();
    outputs::set_all(vec![
        ("paths-pushed", paths.to_string()),
        ("bytes-pushed", bytes.to_string()),
        ("complete", outcome.is_complete().to_string()),
    ])
    .map_err(Failure::work)?;
    if !inputs.job.no_summarize {
        summarize(&outcome, &outcome.notes.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    job.report.notes = outcome.notes;
    super::restore::annotate(&job);
    Ok(())
}

/// Pushes what the main action's input `push-to` names, until `end`. None if it names nothing, or the job is not one to push.
pub(super) async fn push_to(job: &mut Job, end: Instant) -> Option<PushOutcome> {
    if job.inputs.push.push_to.is_empty() {
        return None;
    }
    if !job.inputs.is_successful_enough() {
        tracing::info!("Nothing is pushed, because the job did not succeed and `save` is `on-success`.");
        return None;
    }
    let outcome = match sinks(&job.inputs.push.push_to) {
        Ok(sinks) => {
            let pushed = Arc::new(Pushed::load(&job.dirs, &job.name()));
            let push = Push { pushed, ..push(job, sinks, Vec::new(), end) };
            carry_out(push).await.unwrap_or_else(|failure| failed(&failure))
        }
        Err(failure) => failed(&failure),
    };
    for sentence in outcome.sentences() {
        tracing::info!("{sentence}");
    }
    super::fill::notes(job, &outcome.notes);
    Some(outcome)
}

/// Writes a section of the job summary, with these sentences.
pub(super) fn summarize(outcome: &PushOutcome, sentences: &[String]) {
    let (head, rows) = outcome.table();
    page::write("Pushed to binary caches", sentences, &head, &rows);
}

pub(super) fn push(job: &Job, sinks: Vec<Sink>, paths: Vec<StorePath>, end: Instant) -> Push {
    let (threads, deadline) = (Options::new().threads, Some(end));
    Push {
        dirs: job.dirs.clone(),
        keys: job.keys.clone(),
        sinks,
        paths,
        threads,
        temporary: job.facts.scratch(),
        deadline,
        pushed: Arc::default(),
        early: None,
    }
}

fn failed(failure: &Failure) -> PushOutcome {
    let note = Note::silent(Severity::Warning, Code::PushFailed, format!("Nothing was pushed: {}", failure.message));
    PushOutcome { notes: vec![note], ..PushOutcome::default() }
}
