//! What a restore or save came to: facts for the log, the outputs, the report and the summary.

use std::time::Instant;

use serde::Serialize;

use crate::base::human;
use crate::base::note::Note;
use crate::series::Hit;
use crate::store::StorePath;

/// One phase of the work.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Phase {
    /// What was done.
    pub name: &'static str,
    /// To how many things.
    pub count: u64,
    /// Bytes that went through it.
    pub bytes: u64,
    /// Seconds it took.
    pub seconds: f64,
}

impl Phase {
    /// The phase that began at `start` and ends now; logged in one line.
    #[must_use]
    pub(crate) fn end(name: &'static str, start: Instant, count: u64, bytes: u64) -> Self {
        Self::measured(name, start.elapsed().as_secs_f64(), count, bytes)
    }

    /// A phase that took `seconds`; logged in one line.
    #[must_use]
    pub(crate) fn measured(name: &'static str, seconds: f64, count: u64, bytes: u64) -> Self {
        let size = human::bytes(bytes);
        if bytes == 0 {
            tracing::info!("{name}: {count} in {seconds:.2} s");
        } else {
            let rate = human::bytes((bytes as f64 / seconds.max(0.001)) as u64);
            tracing::info!("{name}: {count}, {size} in {seconds:.2} s ({rate}/s)");
        }
        Self { name, count, bytes, seconds }
    }
}

/// What became of a layer that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LayerState {
    /// Here and verified.
    Fetched,
    /// The remote has it no more.
    Missing,
    /// Its bytes are not those that were stored.
    Damaged,
    /// It could not be fetched this time.
    Failed,
}

/// One layer of a restore.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LayerFetch {
    /// The layer's id.
    pub id: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Seconds until it was here and verified.
    pub seconds: f64,
    /// What became of it.
    pub state: LayerState,
    /// The chunks that came otherwise than they were stored.
    #[serde(skip)]
    pub bad_chunks: Vec<usize>,
}

/// What a restore came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RestoreOutcome {
    /// How well the snapshot fitted.
    pub hit: Hit,
    /// The primary key, escaped.
    pub primary_key: String,
    /// The key of the snapshot that was used.
    pub matched_key: Option<String>,
    /// Its generation.
    pub generation: Option<u64>,
    /// The name of the trusted key that signed it; None where no signature was asked for.
    pub signed_by: Option<String>,
    /// What vouches for the paths, in words; None where nothing was restored.
    pub vouched: Option<String>,
    /// Valid paths before the restore.
    pub paths_before: u64,
    /// Paths that the snapshot has.
    pub paths_in_snapshot: u64,
    /// Paths that became valid.
    pub paths_restored: u64,
    /// Paths of the snapshot that were valid already.
    pub paths_already_valid: u64,
    /// Paths of the snapshot that could not be restored.
    pub paths_lost: u64,
    /// Paths that were left where they are, since this job's lane did not use them when it last saved.
    pub paths_of_other_lanes: u64,
    /// Bytes of the NARs of the paths that became valid.
    pub nar_bytes_restored: u64,
    /// Bytes fetched from the remote.
    pub bytes_downloaded: u64,
    /// The layers that were wanted.
    pub layers: Vec<LayerFetch>,
    /// How layers were attached: `mount`, `unpack`, or nothing where none was.
    pub mode: &'static str,
    /// The phases in order.
    pub phases: Vec<Phase>,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// Seconds in all.
    pub seconds: f64,
}

/// Why a save wrote something, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SaveReason {
    /// No snapshot of this key was there.
    NewKey,
    /// There are paths that the snapshot of this key did not have.
    NewPaths,
    /// The snapshot had everything, but not as used by this job's lane.
    LaneGrew,
    /// The snapshot had everything, and named entries that are lost.
    Repaired,
    /// The snapshot had everything, in more layers than it should.
    LayersJoined,
    /// The snapshot of this key has everything already.
    NothingNew,
    /// The store holds nothing but its baseline.
    NothingToSave,
    /// The remote does not take it.
    Refused,
    /// It was tried and failed.
    Failed,
}

/// A generation that was written.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Saved {
    /// Its number.
    pub generation: u64,
    /// Paths it has.
    pub paths: u64,
    /// Layers it names.
    pub layers: u64,
}

/// What a save came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SaveOutcome {
    /// Why something was written, or not.
    pub reason: SaveReason,
    /// The primary key, escaped.
    pub primary_key: String,
    /// The generation that was written.
    pub saved: Option<Saved>,
    /// Paths that no layer had before.
    pub paths_new: u64,
    /// Bytes of their NARs.
    pub nar_bytes_new: u64,
    /// Paths of the restored snapshot that the new one does without.
    pub paths_dropped: u64,
    /// Paths that were left out because they are corrupt, or refer to one that is.
    pub paths_left_out: u64,
    /// Bytes sent to the remote.
    pub bytes_uploaded: u64,
    /// Entries created in the remote.
    pub entries_created: u64,
    /// The largest new paths and the bytes of their NARs, largest first, ten at most.
    pub largest_new: Vec<(StorePath, u64)>,
    /// The phases in order.
    pub phases: Vec<Phase>,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// Seconds in all.
    pub seconds: f64,
}
