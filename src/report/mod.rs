//! The report: everything that restore and save measured, as JSON. `docs/report.md` describes each field for users; a change of
//! meaning requires a new [`SCHEMA`].

use std::io::Write as _;
use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::audit::figures::AuditFigures;
use crate::building::BuildReport;
use crate::github::env::Facts;
use crate::github::event;
use crate::github::status::JobStatus;

mod build_summary;
mod closure;
pub(crate) mod machine;
pub(crate) mod markdown;
mod overview;
pub(crate) mod page;
mod parts;
mod picture;
mod section;
pub(crate) mod summary;
pub(crate) mod text;

pub(crate) use crate::base::note::{Note, Severity};
pub(crate) use closure::Closure;
pub(crate) use parts::*;

/// The version of the schema that this program writes.
pub(crate) const SCHEMA: u32 = 1;

/// The part of the work that an action does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Restore at once, save in the post step.
    #[default]
    Both,
    /// Restore at once, never save.
    Restore,
    /// Save at once.
    Save,
    /// Build, and leave the cache to other steps.
    Build,
    /// Plan, and leave the rest to other jobs.
    Plan,
    /// Audit, and leave the cache to other steps.
    Audit,
}

/// Everything that was measured. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Report {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// Version of that program.
    pub version: String,
    /// Which part of the work the action did.
    pub action: Action,
    pub job: Job,
    pub machine: Machine,
    /// The key and the lookup's result.
    pub key: Key,
    /// The result of each level, in order.
    pub levels: Vec<Level>,
    /// The downloaded layers.
    pub layers: Vec<Layer>,
    /// Numbers of the job's store paths.
    pub paths: Paths,
    /// The restore as a whole; null before it.
    pub restore: Option<Restore>,
    /// The save as a whole; null before it.
    pub save: Option<Save>,
    /// The duration of each phase, in order.
    pub timings: Vec<Timing>,
    /// The largest paths that were saved for the first time, largest first, at most ten.
    pub largest_new: Vec<NewPath>,
    /// What the job's outputs need; null before the job's end, and without outputs.
    pub closure: Option<Closure>,
    /// Notes for the user.
    pub notes: Vec<Note>,
    /// Usage of GitHub's cache; null if unknown.
    pub quota: Option<Quota>,
    /// Comparison with earlier runs of the lane; null without any.
    pub trend: Option<Trend>,
    /// What the paths cost, or would have cost; null before the end of the job.
    pub effort: Option<Effort>,
    /// What the cost guard decided; null if it had nothing to decide by, or is off.
    pub guard: Option<Guard>,
    /// The last plan of the job; null without any.
    pub plan: Option<Plan>,
    /// What the audits of the job's steps found, together; null without any.
    pub audit: Option<AuditFigures>,
    /// The builds of the job's steps, in order.
    pub builds: Vec<BuildReport>,
}

/// Why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error(
    "The report {path} could not be {verb}: {cause}. The cache is not affected; check that the folder exists and has room."
)]
pub(crate) struct ReportError {
    path: String,
    verb: &'static str,
    cause: std::io::Error,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            action: Action::Both,
            job: Job::default(),
            machine: Machine::default(),
            key: Key::default(),
            levels: Vec::new(),
            layers: Vec::new(),
            paths: Paths::default(),
            restore: None,
            save: None,
            timings: Vec::new(),
            largest_new: Vec::new(),
            closure: None,
            notes: Vec::new(),
            quota: None,
            trend: None,
            effort: None,
            guard: None,
            plan: None,
            audit: None,
            builds: Vec::new(),
        }
    }
}

impl Report {
    /// Creates an empty report of the job that `facts` describe, in `lane`.
    #[must_use]
    pub(crate) fn new(action: Action, facts: &Facts, lane: &str) -> Self {
        let job = Job {
            repository: facts.repository.clone(),
            workflow: facts.workflow.clone(),
            job: facts.job.clone(),
            lane: lane.to_owned(),
            event: facts.event.clone(),
            git_ref: facts.git_ref.clone(),
            sha: facts.sha.clone(),
            head_sha: event::head_sha(facts).unwrap_or_default(),
            started: crate::base::clock::now(),
            ended: 0,
            run_id: facts.run_id,
            run_attempt: facts.run_attempt,
            status: JobStatus::Unknown,
        };
        let machine = Machine { environment: facts.environment, ..Machine::default() };
        Self { action, job, machine, ..Self::default() }
    }

    /// Adds a note, unless there is one with the same code and message.
    pub(crate) fn note(&mut self, note: Note) {
        if !self.notes.iter().any(|known| known.code == note.code && known.message == note.message) {
            self.notes.push(note);
        }
    }

    /// Writes the report as JSON to `path` atomically, and creates its folder.
    ///
    /// # Errors
    /// [`ReportError`] when the folder or file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), ReportError> {
        let wrong = |cause| ReportError { path: path.display().to_string(), verb: "written", cause };
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(wrong)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(wrong)?;
        serde_json::to_writer_pretty(&mut file, self).map_err(|error| wrong(error.into()))?;
        file.write_all(b"\n").map_err(wrong)?;
        // Later steps may run as another user, and temporary files are private.
        #[cfg(unix)]
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(wrong)?;
        file.persist(path).map_err(|error| wrong(error.error)).map(drop)
    }

    /// Reads the report in the file `path`.
    ///
    /// # Errors
    /// [`ReportError`] when the file cannot be read or is not a report.
    pub(crate) fn read(path: &Path) -> Result<Self, ReportError> {
        let wrong = |cause| ReportError { path: path.display().to_string(), verb: "read", cause };
        crate::base::bounds::read_json(path, crate::base::bounds::MAX_RECORD).map_err(wrong)
    }
}

/// Whole milliseconds, as in the report.
#[must_use]
pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "golden_test.rs"]
mod golden;
#[cfg(test)]
mod tests;
