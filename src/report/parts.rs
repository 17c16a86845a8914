//! The parts of a report. Sizes are bytes, times milliseconds.

use serde::{Deserialize, Serialize};

use crate::github::env::Environment;
use crate::github::status::JobStatus;
use crate::series::Hit;

/// The job, as the runner describes it. Unknown texts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[allow(clippy::struct_field_names, reason = "the fields are those of the report, whose names stay")]
pub(crate) struct Job {
    /// `owner/name`.
    pub repository: String,
    /// The workflow's name.
    pub workflow: String,
    /// The job's id.
    pub job: String,
    pub lane: String,
    /// The event that started the run.
    pub event: String,
    /// The full ref.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The commit.
    pub sha: String,
    /// The newest commit of the pull request; `sha` is that of its merge. Empty for other events.
    pub head_sha: String,
    /// When the first step of ours started, in seconds since 1970; 0 if unknown.
    pub started: u64,
    /// When the report was written, in seconds since 1970; 0 if unknown.
    pub ended: u64,
    /// The run's number.
    pub run_id: Option<u64>,
    /// 1 for the first attempt.
    pub run_attempt: Option<u64>,
    /// The job's status when the report was written.
    pub status: JobStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Machine {
    /// Nix's name for it, such as `x86_64-linux`.
    pub system: String,
    /// The kind of machine.
    pub environment: Environment,
    /// Version of Nix.
    pub nix_version: String,
    /// Kind of installation (`multi-user`, `single-user`).
    pub installation: String,
    /// The store directory.
    pub store_dir: String,
    /// Processors.
    pub cpus: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Free space on the store's disk at the start.
    pub disk_free_bytes: u64,
}

/// The key and the lookup's result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Key {
    /// The key that was looked up.
    pub primary: String,
    /// The prefixes that were tried after it, in order.
    pub prefixes: Vec<String>,
    /// The key that was found; null for a miss.
    pub matched: Option<String>,
    pub hit: Hit,
    /// The generation of the snapshot that was found.
    pub generation: Option<u64>,
    /// What vouches for the restored paths, as text; empty if nothing was restored.
    pub vouched: String,
    /// The parts of the key, in order.
    pub parts: Vec<KeyPart>,
}

/// One part of a computed key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct KeyPart {
    /// Its source, such as `system` or `flake.lock`.
    pub name: String,
    /// Its text in the key.
    pub value: String,
}

/// The result of one level of the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Level {
    /// `nix-store`, `paths` or `eval-cache`.
    pub name: String,
    pub hit: Hit,
    /// Store paths or files restored.
    pub restored: u64,
    /// Their size unpacked.
    pub restored_bytes: u64,
    /// Bytes downloaded for it.
    pub downloaded_bytes: u64,
    /// Store paths or files saved for the first time.
    pub saved: u64,
    /// Bytes uploaded for it.
    pub uploaded_bytes: u64,
}

/// A downloaded layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Layer {
    /// Its name in the cache.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The duration of its download.
    pub ms: u64,
}

/// Numbers of the job's store paths. The paths that a job needed are known only at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Paths {
    /// Valid before the restore: Nix itself, and the content of the machine's image.
    pub baseline: u64,
    /// Made valid by the restore.
    pub restored: u64,
    /// Of those, the paths that the job needed; null before its end.
    pub needed: Option<u64>,
    /// Built in the job.
    pub built_here: u64,
    /// Fetched from a substituter in the job.
    pub fetched_upstream: u64,
    /// Saved for the first time.
    pub new: u64,
}

impl Paths {
    /// The paths that the job needed besides the baseline: from the cache, built or fetched. None before its end.
    #[must_use]
    pub(crate) fn all_needed(&self) -> Option<u64> {
        self.needed.map(|needed| needed.saturating_add(self.built_here).saturating_add(self.fetched_upstream))
    }

    /// The share of needed paths that came from the cache, from 0 to 1. None before the job's end, and if it needed nothing.
    #[must_use]
    pub(crate) fn hit_rate(&self) -> Option<f64> {
        let all = self.all_needed().filter(|all| *all > 0)?;
        self.needed.map(|needed| needed as f64 / all as f64)
    }
}

/// The restore as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Restore {
    /// How paths got into the store (`mount`, `stream`, `unpack`); empty if none did.
    pub mode: String,
    /// Whether only a lookup was requested.
    pub lookup_only: bool,
    /// From the start of the main step to its end.
    pub ms: u64,
    /// Bytes downloaded.
    pub downloaded_bytes: u64,
}

/// The result of a save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// A new generation of the snapshot was written.
    Saved,
    /// Nothing needed to be saved, or saving was not requested.
    #[default]
    Skipped,
    /// The save failed.
    Failed,
}

/// The save as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Save {
    /// The result.
    pub outcome: Outcome,
    /// The reason, as a short word for programs (`nothing-new`, `read-only-token`, `deadline`, …).
    pub reason: String,
    /// The reason, as a clause for people that follows "saved" or "not saved", without capital and full stop.
    pub because: String,
    /// From the start of the save to its end.
    pub ms: u64,
    /// The written generation.
    pub generation: Option<u64>,
    /// Entries created in the cache.
    pub entries_created: u64,
    /// Bytes uploaded.
    pub uploaded_bytes: u64,
    /// The part of it that was saved while the job ran; null if nothing was.
    pub running: Option<Running>,
}

/// What was saved while the job ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Running {
    /// Number of saves.
    pub saves: u64,
    /// Store paths.
    pub paths: u64,
    /// Entries created in the cache.
    pub entries_created: u64,
    /// Bytes uploaded.
    pub uploaded_bytes: u64,
    /// Time that they took, beside the job.
    pub ms: u64,
}

/// The duration of one phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Timing {
    /// Its name, such as `restore.download`.
    pub phase: String,
    /// How long.
    pub ms: u64,
}

/// A path that was saved for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct NewPath {
    /// Its base name.
    pub path: String,
    /// Size of its NAR.
    pub nar_bytes: u64,
}

/// Comparison with earlier runs of the same lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Trend {
    /// Earlier runs that were compared with.
    pub runs: u64,
    /// Median of their hit rates, from 0 to 1; null if unknown.
    pub hit_rate_median: Option<f64>,
    /// Median of their times from restore to save; null if unknown.
    pub job_median_ms: Option<u64>,
    /// The hit rates of these runs and of this job, as a line of bars.
    pub sparkline: String,
    /// The known hit rates of these runs and of this job, from 0 to 1, oldest first.
    pub hit_rates: Vec<f64>,
    /// Their known times from restore to save, oldest first.
    pub job_times_ms: Vec<u64>,
    /// Time that the cache saved in this job, less what it cost; null if unknown.
    pub saved_ms: Option<i64>,
    /// The same of the lane's runs in the last 7 days, with this one; null if unknown.
    pub saved_week_ms: Option<i64>,
    /// Sentences on what is worse than usual.
    pub remarks: Vec<String>,
}

/// What the paths of the job cost, or would have cost without the cache. Known at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Effort {
    /// Needed paths from the cache that an earlier job built.
    pub needed_built: u64,
    /// Size of the other needed paths from the cache, which a substituter would send.
    pub needed_bytes: u64,
    /// Time that the job waited for builds.
    pub built_ms: u64,
    /// Time that it waited for substituters.
    pub fetched_ms: u64,
    /// What they sent in this time.
    pub fetched_bytes: u64,
}

/// What the cost guard decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Guard {
    /// `stopped`, `spared`, `test` or `follow`; empty where the cache is used as usual.
    pub state: String,
    /// Largest download that is still restored; null for no limit.
    pub most_bytes: Option<u64>,
    /// Times saved in the runs that it judged by, newest first; negative where the cache cost more than it saved.
    pub judged_ms: Vec<i64>,
    /// The most that a usual run is forecast to save; negative for a loss, null if unknown.
    pub expected_ms: Option<i64>,
}

/// What a plan decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Plan {
    /// Targets that were considered.
    pub targets: u64,
    /// Of these, the targets that need no build.
    pub skipped: u64,
    /// Jobs that build the others.
    pub jobs: u64,
    /// Listing the targets and evaluating them.
    pub evaluation_ms: u64,
}

/// Usage of GitHub's cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Quota {
    /// Bytes in use by the whole repository.
    pub used_bytes: u64,
    /// Bytes that it may use; null when unknown.
    pub limit_bytes: Option<u64>,
    /// Entries in use by the whole repository.
    pub entries: u64,
}
