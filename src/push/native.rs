//! Pushes to a binary cache of Nix's own kind.
//!
//! 1. Its description is read; a new cache gets one. A cache for another store directory is refused.
//! 2. For each path of which the job does not know it yet, the cache is asked whether it has it.
//! 3. What it lacks is uploaded; see `upload`.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::TryStreamExt;

use super::outcome::SinkOutcome;
use super::upload::{Uploaded, part, upload};
use super::{Work, narinfo};
use crate::base::bounds::MAX_ANSWER;
use crate::base::human;
use crate::base::note::{Code, Note};
use crate::remote::objects::{ObjectError, Objects, Source};
use crate::store::{PathInfo, STORE_DIR, StorePath};
use crate::upstream::is_about;

/// Number of concurrent questions.
const QUESTIONS: usize = 16;

/// Why a push to one cache stopped.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    Sink(ObjectError),
    /// There is no room for archives on this machine.
    Local(String),
    OutOfTime,
}

impl From<ObjectError> for Stop {
    fn from(error: ObjectError) -> Self {
        Self::Sink(error)
    }
}

/// Pushes those of `wanted` that the cache lacks.
pub(super) async fn push(
    work: &Work,
    name: &str,
    objects: &dyn Objects,
    wanted: &[&PathInfo],
    notes: &mut Vec<Note>,
) -> SinkOutcome {
    let start = Instant::now();
    let before = work.pushed.of(name);
    let mut outcome = SinkOutcome::after(objects.place(), &before);
    let mut missing: Vec<&PathInfo> = wanted.to_vec();
    missing.retain(|info| !before.pushed.contains(&info.path));
    let all = missing.len();
    missing.retain(|info| !before.present.contains(&info.path));
    outcome.paths_present = (all - missing.len()) as u64;
    if missing.is_empty() {
        return outcome;
    }
    let mut uploaded = Uploaded::default();
    match in_time(work.deadline, look(objects, &missing)).await {
        Ok(present) => {
            work.pushed.note_present(name, &present);
            outcome.paths_present += present.len() as u64;
            missing.retain(|info| !present.contains(&info.path));
            outcome.paths_later = part(&mut missing, work.most);
            tracing::info!("{} to push to {}.", human::count(missing.len() as u64, "path"), objects.place());
            uploaded = upload(work, name, objects, &missing).await;
        }
        Err(stop) => uploaded.stop = Some(stop),
    }
    outcome.paths_pushed = uploaded.pushed.len() as u64;
    outcome.nar_bytes =
        missing.iter().filter(|info| uploaded.pushed.contains(&info.path)).map(|info| info.nar_size).sum();
    outcome.bytes_uploaded = uploaded.bytes;
    outcome.paths_missing = missing.len() as u64 - outcome.paths_pushed;
    outcome.complete = outcome.paths_missing == 0;
    notes.extend(note(&outcome, &uploaded));
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome
}

/// Returns the paths that the cache has.
async fn look(objects: &dyn Objects, wanted: &[&PathInfo]) -> Result<BTreeSet<StorePath>, Stop> {
    describe(objects).await?;
    let present: Mutex<BTreeSet<StorePath>> = Mutex::default();
    let questions = futures_util::stream::iter(wanted.iter().copied().map(Ok::<_, ObjectError>));
    questions
        .try_for_each_concurrent(QUESTIONS, async |info| {
            let text = objects.read(&narinfo::name(&info.path), MAX_ANSWER).await?;
            // Whoever refers to it wants the path, and a second build of it need not have the same bytes.
            if text.is_some_and(|text| is_about(&String::from_utf8_lossy(&text), &info.path)) {
                present.lock().unwrap_or_else(PoisonError::into_inner).insert(info.path.clone());
            }
            Ok(())
        })
        .await?;
    Ok(present.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Makes sure that the cache is one for our store directory, and describes a new one.
async fn describe(objects: &dyn Objects) -> Result<(), ObjectError> {
    match objects.read(narinfo::INFO, MAX_ANSWER).await? {
        Some(text) => {
            let text = String::from_utf8_lossy(&text);
            match narinfo::store_dir(&text) {
                STORE_DIR => Ok(()),
                other => {
                    let shown: String = other.chars().take(100).collect();
                    let place = objects.place();
                    Err(ObjectError::Refused(format!(
                        "{place} is a cache for the store directory {shown:?}, and this store is {STORE_DIR}. Push elsewhere."
                    )))
                }
            }
        }
        None => objects.write(narinfo::INFO, &Source::Bytes(narinfo::new_cache().into())).await,
    }
}

/// Waits for `work` until `deadline`.
pub(super) async fn in_time<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Stop>>,
) -> Result<T, Stop> {
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.unwrap_or(Err(Stop::OutOfTime)),
    }
}

/// What the user is told about paths that were not pushed.
fn note(outcome: &SinkOutcome, uploaded: &Uploaded) -> Option<Note> {
    let (sink, missing) = (&outcome.sink, human::count(outcome.paths_missing, "path"));
    let left = format!("{missing} not pushed to {sink}");
    match &uploaded.stop {
        Some(Stop::Sink(ObjectError::Refused(why))) => Some(Note::warn(Code::PushRefused, format!("{left}. {why}"))),
        Some(Stop::Sink(error)) => Some(Note::warn(Code::PushFailed, format!("{left}. {error}"))),
        Some(Stop::Local(why)) => {
            Some(Note::warn(Code::PushIncomplete, format!("{left}: archives cannot be written here ({why}).")))
        }
        Some(Stop::OutOfTime) => Some(Note::warn(
            Code::PushIncomplete,
            format!(
                "{left}: the time for it was used up. The next job pushes them if it needs them; raise `save-timeout`."
            ),
        )),
        None => {
            let (path, why) = uploaded.left_out.first()?;
            let why = why.trim_end_matches('.');
            Some(Note::warn(
                Code::PushIncomplete,
                format!("{left}, because {path} and what refers to it cannot be: {why}."),
            ))
        }
    }
}
