//! The history: this job is compared with earlier runs of its lane, and added to them: in the cache, or as an artifact of the run where the job
//! may not write to the cache.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::inputs::HistoryPlace;
use super::job::{Job, Place};
use crate::base::clock::now;
use crate::base::note::{Code, Note};
use crate::history::{self, Failed, History, Run, history_key};
use crate::remote::RemoteError;
use crate::report::{Action, Report};
use crate::series::Loaded;

/// Earlier runs.
pub(super) type Read = Result<Loaded<History>, RemoteError>;
/// Earlier runs, as they are read.
pub(super) type Reading = JoinHandle<Read>;

/// Longest time that the guard waits for the history, before a restore and before a save.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// Begins to read the history, beside a save. None where that is not wanted, or not allowed.
pub(super) fn begin_to_read(job: &Job, place: &Place) -> Option<Reading> {
    let is_wanted = !job.inputs.history.is_off() && place.beside.is_readable();
    let (remote, keys) = (Arc::clone(&place.beside), job.keys.clone());
    let key = history_key(&job.inputs.key.prefix_key);
    is_wanted.then(|| tokio::spawn(async move { history::load(&*remote, &key, &keys).await }))
}

/// What was read, if it is here soon; otherwise `reading` goes on.
pub(super) async fn read_soon(reading: Option<&mut Reading>) -> Option<Read> {
    tokio::time::timeout(LIMIT, finish(reading?)).await.ok()
}

async fn finish(reading: &mut Reading) -> Read {
    reading.await.unwrap_or_else(|error| Err(RemoteError::Local(format!("a task failed: {error}."))))
}

/// Puts the trend into the report, and adds the job to the history: what was `read` of it, or is still being read. Trouble changes neither the
/// job nor the cache.
pub(super) async fn remember(job: &mut Job, place: &Place, (reading, read): (Option<Reading>, Option<Read>)) {
    let run = Run::of(&job.report, now());
    let mut loaded = None;
    if let Some(mut reading) = reading {
        let known = match read {
            Some(read) => read,
            None => finish(&mut reading).await,
        };
        match known {
            Ok(known) => job.report.trend = history::trend(&loaded.insert(known).record, &run),
            Err(error) if collector(job, place) == Some(Collector::Cache) => return tell(&error),
            Err(error) => tracing::info!("This job is not compared with earlier ones: {error}"),
        }
    }
    if let Some(note) = add(job, place, loaded, run).await {
        job.report.note(note);
    }
}

/// Adds a plan, or a build without a cache, to the history. `failed` says why there is no plan.
pub(super) async fn add_step(job: &Job, place: &Place, failed: Option<Failed>) {
    let mut run = Run::of(&job.report, now());
    if let Some(failed) = failed {
        run.category.clone_from(&failed.category);
        run.failed = vec![failed];
        (run.targets, run.skipped, run.evaluation_ms) = (None, None, None);
    }
    // The note is in the log; the report of the step is written already.
    let _ = add(job, place, None, run).await;
}

/// Whether the post step of the main action, or of `restore/`, will add this job to the history.
pub(super) fn is_left_to_post(report: &Report) -> bool {
    matches!(report.action, Action::Both | Action::Restore) && report.save.is_none()
}

/// Where the record of a job goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collector {
    Cache,
    Artifact,
}

/// Chooses where the record goes. None for nowhere.
fn collector(job: &Job, place: &Place) -> Option<Collector> {
    let github = place.github.as_ref();
    // Where signatures are required, nobody would read what is not signed.
    let is_kept = place.may_write() && (!job.keys.asks_for_signatures() || job.keys.can_sign());
    match job.inputs.history.place {
        HistoryPlace::Artifact => Some(Collector::Artifact),
        _ if job.inputs.save.when.is_never() => None,
        HistoryPlace::Auto | HistoryPlace::True if !is_kept => {
            github.filter(|github| github.can_upload_artifacts()).map(|_| Collector::Artifact)
        }
        HistoryPlace::Auto | HistoryPlace::True | HistoryPlace::Cache if is_kept => Some(Collector::Cache),
        _ => None,
    }
}

/// Uploads the record as an artifact of the run. Returns a note if that fails.
async fn upload(place: &Place, run: &Run) -> Option<Note> {
    let name = history::artifact_name(run);
    let uploaded = match &place.github {
        Some(github) => github.put_artifact(&name, history::artifact(run)).await,
        None => Err(RemoteError::Unavailable("Artifacts need the cache of GitHub (`remote: github`).".to_owned())),
    };
    match uploaded {
        Ok(()) => {
            tracing::info!("The record of this job is the artifact {name}.");
            None
        }
        Err(error) => Some(Note::warn(Code::HistoryArtifact, format!("This job is not in the history: {error}"))),
    }
}

/// Adds the record where it goes. Returns a note about trouble that the user can do something about.
async fn add(job: &Job, place: &Place, loaded: Option<Loaded<History>>, run: Run) -> Option<Note> {
    match collector(job, place)? {
        Collector::Artifact => upload(place, &run).await,
        Collector::Cache => {
            append(job, place, loaded, run).await;
            None
        }
    }
}

async fn append(job: &Job, place: &Place, loaded: Option<Loaded<History>>, mut run: Run) {
    let key = history_key(&job.inputs.key.prefix_key);
    let loaded = match loaded {
        None if place.remote.is_readable() => match history::load(&*place.remote, &key, &job.keys).await {
            Ok(loaded) => Some(loaded),
            Err(error) => return tell(&error),
        },
        loaded => loaded,
    };
    // Of two records of one job, the later one counts, and times are whole seconds.
    let earlier = loaded.as_ref().and_then(|loaded| loaded.record.runs.get(&run.id()));
    if earlier.is_some_and(|earlier| earlier.time == run.time) {
        run.time += 1;
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
