//! The history: this job is compared with earlier runs of its lane, and added to them.

use super::job::{Job, Place};
use crate::base::clock::now;
use crate::history::{self, Failed, History, Run, history_key};
use crate::remote::RemoteError;
use crate::report::{Action, Report};
use crate::series::Loaded;

/// Puts the trend into the report, and adds the job to the history. Trouble changes neither the job nor the cache.
pub(super) async fn remember(job: &mut Job, place: &Place) {
    let run = Run::of(&job.report, now());
    let mut loaded = None;
    if place.remote.is_readable() {
        match history::load(&*place.remote, &history_key(&job.inputs.key.prefix_key), &job.keys).await {
            Ok(known) => job.report.trend = history::trend(&loaded.insert(known).record, &run),
            Err(error) => return tell(&error),
        }
    }
    add(job, place, loaded, run).await;
}

/// Adds a plan, or a build without a cache, to the history. `failed` says why there is no plan.
pub(super) async fn add_step(job: &Job, place: &Place, failed: Option<Failed>) {
    let mut run = Run::of(&job.report, now());
    if let Some(failed) = failed {
        run.category.clone_from(&failed.category);
        run.failed = vec![failed];
        (run.targets, run.skipped, run.evaluation_ms) = (None, None, None);
    }
    add(job, place, None, run).await;
}

/// Whether the post step of the main action, or of `restore/`, will add this job to the history.
pub(super) fn is_left_to_post(report: &Report) -> bool {
    matches!(report.action, Action::Both | Action::Restore) && report.save.is_none()
}

async fn add(job: &Job, place: &Place, loaded: Option<Loaded<History>>, run: Run) {
    let is_unwanted = job.inputs.save.when.is_never();
    let is_read_only = place.github.as_ref().is_some_and(|github| !github.mode().writable());
    // Where signatures are required, nobody would read what is not signed.
    if is_unwanted || is_read_only || job.keys.asks_for_signatures() && !job.keys.can_sign() {
        return;
    }
    let key = history_key(&job.inputs.key.prefix_key);
    let mut notes = Vec::new();
    let added = history::append(&*place.remote, &key, &job.keys, (loaded, History::of([run])), &mut notes).await;
    for note in notes {
        tracing::info!("{}", note.message);
    }
    match added {
        Ok(added) => tracing::info!("This job is in the history, as generation {} of {key}.", added.number),
        Err(error) => tell(&error),
    }
}

fn tell(error: &RemoteError) {
    // The save has already warned of a cache that cannot be reached, and forks may not write.
    tracing::info!("This job is not in the history: {error}");
}
