//! The first step of the action `build/` if it is given derivations. It restores them with the token of the cache, which the step that
//! builds does not have.

use std::time::Instant;

use super::given::ActionInputs;
use super::job::{Job, Lookup, annotator};
use crate::action::build_inputs::BuildInputs;
use crate::app::Failure;
use crate::app::drvs::{self, drvs_key};
use crate::app::place::time_to_fetch;
use crate::base::bounds::read_file;
use crate::base::note::{Note, Severity};
use crate::building::drvs::Drvs;
use crate::github::env::Facts;

/// The file that leaves the notes for the step that builds.
const NOTES: &str = "derivations.json";
/// More bytes than any list of notes has.
const MOST_NOTES: u64 = 1 << 20;

/// Restores the derivations in the inputs. Only an invalid input fails the step: missing derivations are evaluated.
pub(super) async fn run() -> Result<(), Failure> {
    let inputs = BuildInputs::from_environment().map_err(Failure::usage)?;
    let planned = inputs.planned()?;
    let job = Job::with(inputs.of_the_job().map_err(Failure::usage)?)?;
    let notes = restore(&planned, job).await;
    let mut annotator = annotator();
    for note in notes.iter().filter(|note| note.severity != Severity::Notice) {
        annotator.warning("nix-cache", &note.to_string());
    }
    annotator.finish();
    leave(&notes);
    Ok(())
}

async fn restore(planned: &Drvs, mut job: Job) -> Vec<Note> {
    let limit = job.inputs.restore.restore_timeout;
    let end = Instant::now() + limit;
    let place = match job.place_to_restore(Some(time_to_fetch(limit))) {
        Ok(place) => place,
        Err(error) => {
            job.note_no_cache(&error);
            return job.report.notes;
        }
    };
    let key = drvs_key(&job.key_request().prefix);
    let lookup = Lookup { primary: key, prefixes: Vec::new(), lock: String::new() };
    let mut context = drvs::context(job.context(&place, &lookup));
    context.place.deadline = Some(end);
    drvs::restore(&context, planned).await
}

fn leave(notes: &[Note]) {
    let folder = Facts::from_environment().scratch();
    let written = std::fs::create_dir_all(&folder).and_then(|()| {
        let text = serde_json::to_vec(notes)?;
        std::fs::write(folder.join(NOTES), text)
    });
    if let Err(error) = written {
        tracing::debug!("The report will not say how derivations were restored: {error}");
    }
}

/// The notes that the restore of derivations left for the build; they are handed over once.
pub(super) fn take_notes(facts: &Facts) -> Vec<Note> {
    let file = facts.scratch().join(NOTES);
    let notes = read_file(&file, MOST_NOTES).ok().and_then(|bytes| crate::base::bounds::from_json(&bytes).ok());
    // Another build of the same job has notes of its own.
    let _ = std::fs::remove_file(&file);
    notes.unwrap_or_default()
}
