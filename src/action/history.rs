//! The history: this job is compared with earlier runs of its lane, and added to them.

use super::job::{Job, Place};
use crate::base::clock::now;
use crate::history::{self, History, Run, history_key};
use crate::remote::RemoteError;

/// Puts the trend into the report, and adds the job to the history. Trouble changes neither the job nor the cache.
pub(super) async fn remember(job: &mut Job, place: &Place) {
    let key = history_key(&job.inputs.key.prefix_key);
    let run = Run::of(&job.report, now());
    let mut loaded = None;
    if place.remote.is_readable() {
        match history::load(&*place.remote, &key, &job.keys).await {
            Ok(known) => job.report.trend = history::trend(&loaded.insert(known).record, &run),
            Err(error) => return tell(&error),
        }
    }
    let is_unwanted = job.inputs.save.when.is_never();
    let is_read_only = place.github.as_ref().is_some_and(|github| !github.mode().writable());
    // Where signatures are required, nobody would read what is not signed.
    if is_unwanted || is_read_only || job.keys.asks_for_signatures() && !job.keys.can_sign() {
        return;
    }
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
