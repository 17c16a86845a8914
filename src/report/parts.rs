//! The parts of a report. Sizes are bytes, times milliseconds.

use serde::{Deserialize, Serialize};

use crate::github::env::Environment;
use crate::github::status::JobStatus;
use crate::series::Hit;

/// The job, as the runner describes it. Texts are empty where nothing is known.
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
    /// The lane.
    pub lane: String,
    /// The event that started the run.
    pub event: String,
    /// The full ref.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The commit.
    pub sha: String,
    /// The run's number.
    pub run_id: Option<u64>,
    /// 1 for the first attempt.
    pub run_attempt: Option<u64>,
    /// How the job had gone when the report was written.
    pub status: JobStatus,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Machine {
    /// Nix's name for it, such as `x86_64-linux`.
    pub system: String,
    /// Whose it is.
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
    /// Free space where the store is, at the start.
    pub disk_free_bytes: u64,
}

/// The key and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Key {
    /// The key that was looked for.
    pub primary: String,
    /// The prefixes that were looked for after it, in order.
    pub prefixes: Vec<String>,
    /// The key that was found; null for a miss.
    pub matched: Option<String>,
    /// What that makes it.
    pub hit: Hit,
    /// The generation of the snapshot that was found.
    pub generation: Option<u64>,
    /// What vouches for what was restored, in words; empty where nothing was.
    pub vouched: String,
    /// What the key was made from, in order.
    pub parts: Vec<KeyPart>,
}

/// One part of a computed key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct KeyPart {
    /// What it is made from, such as `system` or `flake.lock`.
    pub name: String,
    /// What stands in the key.
    pub value: String,
}

/// What one level of the cache brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Level {
    /// `nix-store`, `paths` or `eval-cache`.
    pub name: String,
    /// What was found.
    pub hit: Hit,
    /// Store paths or files restored.
    pub restored: u64,
    /// Their size unpacked.
    pub restored_bytes: u64,
    /// Bytes fetched for it.
    pub downloaded_bytes: u64,
    /// Store paths or files saved for the first time.
    pub saved: u64,
    /// Bytes sent for it.
    pub uploaded_bytes: u64,
}

/// A layer that was fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Layer {
    /// Its name in the cache.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// How long it took to fetch.
    pub ms: u64,
}

/// The job's store paths, counted. What a job needed is known at its end only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Paths {
    /// Valid before the restore: Nix itself, and what the machine's image brings.
    pub baseline: u64,
    /// Made valid by the restore.
    pub restored: u64,
    /// Of those, the ones that the job needed; null before its end.
    pub needed: Option<u64>,
    /// Built in the job.
    pub built_here: u64,
    /// Fetched from a substituter in the job.
    pub fetched_upstream: u64,
    /// Saved for the first time.
    pub new: u64,
}

impl Paths {
    /// The paths that the job needed beyond the baseline: from the cache, built here or fetched. None before its end.
    #[must_use]
    pub(crate) fn all_needed(&self) -> Option<u64> {
        self.needed.map(|needed| needed.saturating_add(self.built_here).saturating_add(self.fetched_upstream))
    }

    /// Restored and needed, divided by that and what was built here or fetched upstream: 0 to 1. None before the job's
    /// end, and when it needed nothing.
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
    /// How paths got into the store (`mount`, `unpack`); empty when none did.
    pub mode: String,
    /// Whether only a lookup was wanted.
    pub lookup_only: bool,
    /// From the start of the main step to its end.
    pub ms: u64,
    /// Bytes fetched.
    pub downloaded_bytes: u64,
}

/// What became of a save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// A new generation of the snapshot stands.
    Saved,
    /// Nothing needed to be saved, or it was not wanted.
    #[default]
    Skipped,
    /// It should have been saved and was not.
    Failed,
}

/// The save as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Save {
    /// What became of it.
    pub outcome: Outcome,
    /// Why, as a short word for programs (`nothing-new`, `read-only-token`, `deadline`, …).
    pub reason: String,
    /// Why, as a clause for people that goes on after "saved" or "not saved": it needs no capital and no full stop.
    pub because: String,
    /// From the start of the save to its end.
    pub ms: u64,
    /// The generation that was written.
    pub generation: Option<u64>,
    /// Entries created in the cache.
    pub entries_created: u64,
    /// Bytes sent.
    pub uploaded_bytes: u64,
}

/// How long one phase took.
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

/// How full GitHub's cache is.
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
