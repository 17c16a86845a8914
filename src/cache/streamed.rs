//! What a stream leaves to a save: stored bytes that are damaged, and the order in which the job read paths.
//!
//! The background of the stream ends first, so that the save has the connection for itself. What the save reads is still fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::layers::usage_of;
use super::record;
use super::stream::step;
use crate::attach::privileged::{Answer, Request};
use crate::attach::stream::{Command, LostChunks, Status, is_running};
use crate::base::clock::now;
use crate::base::digest::Sha;
use crate::base::human;
use crate::base::note::{Code, Note};
use crate::layer::digest::CHUNK_SIZE;
use crate::layer::squashfs::usage::Usage;
use crate::snapshot::Trace;
use crate::store::{StoreDirs, StorePath};

/// Longest time for the state of a stream.
const FOR_STATUS: Duration = Duration::from_secs(10);
/// Number of paths that a note names.
const NAMED: usize = 5;

/// What a stream leaves to a save, and to the report of a job that does not save.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Damaged chunks of stored bytes.
    pub(super) damaged: BTreeMap<Sha, Vec<usize>>,
    /// What was read of it.
    pub(super) trace: Option<Trace>,
    /// What could not be fetched while the job ran.
    pub notes: Vec<Note>,
}

/// Stops the background of the stream of this store, if there is one.
pub(crate) async fn finish(dirs: &StoreDirs) -> Finished {
    if !is_running(dirs) {
        return Finished::default();
    }
    let request = Request::StreamStatus { store_root: dirs.root().map(Into::into), order: Some(Command::Finish) };
    let status = match tokio::time::timeout(FOR_STATUS, step(dirs, request)).await {
        Ok(Ok(Answer::StreamStatus(Some(status)))) => status,
        other => {
            tracing::debug!("the state of the stream is not known: {other:?}");
            return Finished::default();
        }
    };
    tracing::info!(
        "Streaming: {} of {} of the layers arrived; {}.",
        human::bytes(status.bytes_here),
        human::bytes(status.bytes),
        human::count(status.retries, "retry|retries")
    );
    let restored = match record::load(dirs) {
        Ok(Some(record)) => record.restored,
        _ => BTreeSet::new(),
    };
    let layers: BTreeSet<&String> = status.unreadable.keys().chain(status.read.iter().map(|(id, _)| id)).collect();
    let usage = |id: &String| Some((id.clone(), usage_of(dirs, &id.parse().ok()?)?));
    let usage: BTreeMap<String, Usage> = layers.into_iter().filter_map(usage).collect();
    let notes = note_lost(&status, &usage, &restored).into_iter().collect();
    let trace = Trace {
        time: now(),
        units: status.touched.iter().filter_map(|(id, units)| Some((id.parse().ok()?, units.clone()))).collect(),
        paths: in_order(&status.read, &usage, &restored),
    };
    Finished { damaged: damaged(&status), trace: (!trace.units.is_empty()).then_some(trace), notes }
}

/// The chunks that entries no longer have, also where other entries had their bytes.
fn damaged(status: &Status) -> BTreeMap<Sha, Vec<usize>> {
    let of = |(id, lost): (&String, &LostChunks)| {
        let chunk = |chunk: &u32| (u64::from(*chunk) * lost.chunk_size / CHUNK_SIZE) as usize;
        let chunks: BTreeSet<usize> = lost.chunks.iter().map(chunk).collect();
        (!chunks.is_empty()).then_some((id.parse().ok()?, chunks.into_iter().collect()))
    };
    status.lost.iter().filter_map(of).collect()
}

/// One warning about everything that reads did not get, with the paths that are affected.
fn note_lost(status: &Status, usage: &BTreeMap<String, Usage>, restored: &BTreeSet<StorePath>) -> Option<Note> {
    let failed = |lost: &LostChunks| lost.chunks.len() - lost.recovered.len() + lost.late.len();
    let lost: Vec<(&String, &LostChunks)> = status.lost.iter().filter(|(_, lost)| failed(lost) > 0).collect();
    let first = lost.first()?.1;
    let is_damaged = lost.iter().any(|(_, lost)| !lost.chunks.is_empty());
    let why = if status.is_aborted && !is_damaged { "streaming was aborted" } else { first.why.trim_end_matches('.') };
    let chunks = human::count(lost.iter().map(|(_, lost)| failed(lost) as u64).sum(), "chunk");
    let names: Vec<&str> = lost.iter().map(|(id, _)| id.as_str()).collect();
    let paths: BTreeSet<&StorePath> = status
        .unreadable
        .iter()
        .filter_map(|(id, spans)| Some(usage.get(id)?.with_bytes_in(restored.iter(), spans)))
        .flatten()
        .collect();
    let some: Vec<&str> = paths.iter().take(NAMED).map(|path| path.as_str()).collect();
    let more = if paths.len() > NAMED { ", …" } else { "" };
    let affected = if paths.is_empty() {
        String::new()
    } else {
        format!(" Affected: {} ({}{more}).", human::count(paths.len() as u64, "path"), some.join(", "))
    };
    let remedy = if is_damaged {
        "The next save replaces what is damaged, and the next job builds or fetches these paths again."
    } else {
        "Nothing is damaged: the bytes did not arrive in time."
    };
    let message = format!(
        "{chunks} of layer {} could not be fetched while the job ran ({why}), so reads of files in it fail.{affected} {remedy}",
        names.join(" and ")
    );
    Some(Note::warn(Code::LayerLost, message))
}

/// The paths of these parts of layers, in the order of the parts.
fn in_order(
    read: &[(String, Vec<u32>)],
    usage: &BTreeMap<String, Usage>,
    restored: &BTreeSet<StorePath>,
) -> Vec<StorePath> {
    let mut units: BTreeMap<&String, BTreeSet<u32>> = BTreeMap::new();
    for (id, numbers) in read {
        units.entry(id).or_default().extend(numbers);
    }
    let paths = |(id, units)| Some((id, usage.get(id)?.by_unit(restored.iter(), units, Trace::READ_UNIT)));
    let paths: BTreeMap<&String, BTreeMap<u32, Vec<&StorePath>>> =
        units.iter().map(|(id, units)| (*id, units)).filter_map(paths).collect();
    let mut seen = BTreeSet::new();
    let each = read.iter().flat_map(|(id, units)| units.iter().map(move |unit| (id, unit)));
    let each = each.filter_map(|(id, unit)| paths.get(id)?.get(unit)).flatten();
    each.filter(|path| seen.insert(**path)).map(|path| (*path).clone()).take(Trace::MAX_PATHS).collect()
}
