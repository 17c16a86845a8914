//! The outcomes of restore and save: facts for the log, the outputs, the report and the summary.

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
    pub name: &'static str,
    /// Number of processed items.
    pub count: u64,
    /// Number of processed bytes.
    pub bytes: u64,
    /// Duration in seconds.
    pub seconds: f64,
}

impl Phase {
    /// A phase that began at `start` and ends now; logs one line.
    #[must_use]
    pub(crate) fn end(name: &'static str, start: Instant, count: u64, bytes: u64) -> Self {
        Self::measured(name, start.elapsed().as_secs_f64(), count, bytes)
    }

    /// A phase that took `seconds`; logs one line.
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

/// The state of a wanted layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LayerState {
    /// Downloaded and verified.
    Fetched,
    /// No longer in the remote.
    Missing,
    /// Its bytes are damaged.
    Damaged,
    /// It could not be downloaded this time.
    Failed,
    /// It is fetched while the job runs.
    Streaming,
}

/// One layer of a restore.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LayerFetch {
    /// The layer's id.
    pub id: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Seconds until it was downloaded and verified.
    pub seconds: f64,
    pub state: LayerState,
    /// The damaged chunks.
    #[serde(skip)]
    pub bad_chunks: Vec<usize>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RestoreOutcome {
    pub hit: Hit,
    /// The primary key, escaped.
    pub primary_key: String,
    /// The key of the restored snapshot.
    pub matched_key: Option<String>,
    pub generation: Option<u64>,
    /// The name of the trusted key that signed it; None if no signature is required.
    pub signed_by: Option<String>,
    /// What vouches for the paths, as text; None if nothing was restored.
    pub vouched: Option<String>,
    /// Number of valid paths before the restore.
    pub paths_before: u64,
    /// Number of paths in the snapshot.
    pub paths_in_snapshot: u64,
    /// Number of paths that became valid.
    pub paths_restored: u64,
    /// Number of paths in the snapshot that were already valid.
    pub paths_already_valid: u64,
    /// Number of paths in the snapshot that could not be restored.
    pub paths_lost: u64,
    /// Number of paths that were not downloaded because this job's lane did not use them when it last saved.
    pub paths_of_other_lanes: u64,
    /// Total NAR size of the paths that became valid.
    pub nar_bytes_restored: u64,
    /// Bytes downloaded from the remote.
    pub bytes_downloaded: u64,
    /// The layers that were wanted.
    pub layers: Vec<LayerFetch>,
    /// How layers were attached: `mount`, `unpack`, or None if none was.
    pub mode: &'static str,
    /// The phases in order.
    pub phases: Vec<Phase>,
    /// Notes for the user.
    pub notes: Vec<Note>,
    /// Total duration in seconds.
    pub seconds: f64,
}

/// Why a save wrote something or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SaveReason {
    /// There was no snapshot of this key.
    NewKey,
    /// There are paths that the snapshot of this key lacked.
    NewPaths,
    /// The snapshot had all paths, but did not list some as used by this job's lane.
    LaneGrew,
    /// The snapshot had all paths, but refers to lost entries.
    Repaired,
    /// The snapshot had all paths, but in too many layers.
    LayersJoined,
    /// The snapshot of this key already has everything.
    NothingNew,
    /// The store has no paths besides its baseline.
    NothingToSave,
    /// The remote refuses it.
    Refused,
    /// The save failed.
    Failed,
}

/// A written generation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Saved {
    pub generation: u64,
    /// Number of its paths.
    pub paths: u64,
    /// Number of its layers.
    pub layers: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SaveOutcome {
    /// Why something was written or not.
    pub reason: SaveReason,
    /// The primary key, escaped.
    pub primary_key: String,
    /// The written generation.
    pub saved: Option<Saved>,
    /// Number of paths that no layer had before.
    pub paths_new: u64,
    /// Their total NAR size.
    pub nar_bytes_new: u64,
    /// Number of paths in the restored snapshot that the new one has dropped.
    pub paths_dropped: u64,
    /// Number of paths that were left out because they are corrupt, or refer to a corrupt one.
    pub paths_left_out: u64,
    /// Bytes uploaded to the remote.
    pub bytes_uploaded: u64,
    /// Number of entries created in the remote.
    pub entries_created: u64,
    /// The largest new paths with their NAR sizes, largest first, at most ten.
    pub largest_new: Vec<(StorePath, u64)>,
    /// The phases in order.
    pub phases: Vec<Phase>,
    /// Notes for the user.
    pub notes: Vec<Note>,
    /// Total duration in seconds.
    pub seconds: f64,
}
