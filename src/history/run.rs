//! One job in the history.

use serde::{Deserialize, Serialize};

use crate::building::BuildReport;
use crate::report::Report;
use crate::series::Hit;

/// What distinguishes a run of a job from all others: the run's number, its attempt and the lane.
pub(crate) type RunId = (u64, u64, String);

/// Longest text in a record, in bytes.
const LONGEST: usize = 200;

/// One run of a job. Sizes are bytes, times milliseconds; what is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[allow(clippy::struct_field_names, reason = "the fields are those of exported files")]
pub(crate) struct Run {
    /// When it ended, in seconds since 1970.
    pub time: u64,
    /// The run's number; 0 outside of GitHub.
    pub run: u64,
    pub attempt: u64,
    pub lane: String,
    pub workflow: String,
    /// The full ref.
    #[serde(rename = "ref")]
    pub git_ref: String,
    pub event: String,
    /// The commit.
    pub sha: String,
    pub system: String,
    /// `success`, `failure`, `cancelled` or `unknown`.
    pub status: String,
    /// `exact`, `partial` or `miss`.
    pub hit: String,
    /// Needed paths that came from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    pub built: u64,
    pub fetched: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_ms: Option<u64>,
    /// Evaluation, of all builds that `nix-cache build` made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation_ms: Option<u64>,
    /// The builds themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_ms: Option<u64>,
    /// From the start of the restore to the end of the save.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_ms: Option<u64>,
    pub downloaded: u64,
    pub uploaded: u64,
    /// What the cache of the repository holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// What may be held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Category of the first failure; empty where nothing failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub category: String,
    /// Failures that were retried.
    pub retries: u64,
    pub cpus: u64,
    pub memory: u64,
    /// Version of nix-cache.
    pub version: String,
    pub nix: String,
}

impl Run {
    /// The record of the job that `report` describes, which ends at `now`, in seconds since 1970.
    pub(crate) fn of(report: &Report, now: u64) -> Self {
        let job = &report.job;
        let sum = |of: fn(&BuildReport) -> u64| {
            (!report.builds.is_empty()).then(|| report.builds.iter().map(of).fold(0, u64::saturating_add))
        };
        let category = report.builds.iter().find_map(|build| build.category);
        let run = Self {
            time: now,
            run: job.run_id.unwrap_or(0),
            attempt: job.run_attempt.unwrap_or(0),
            lane: job.lane.clone(),
            workflow: job.workflow.clone(),
            git_ref: job.git_ref.clone(),
            event: job.event.clone(),
            sha: job.sha.clone(),
            system: report.machine.system.clone(),
            status: serde_json::to_value(job.status)
                .ok()
                .and_then(|word| Some(word.as_str()?.to_owned()))
                .unwrap_or_default(),
            hit: report.key.hit.word().to_owned(),
            cached: report.paths.needed,
            built: report.paths.built_here,
            fetched: report.paths.fetched_upstream,
            restore_ms: report.restore.as_ref().map(|restore| restore.ms),
            save_ms: report.save.as_ref().map(|save| save.ms),
            evaluation_ms: sum(|build| build.totals.evaluation_ms),
            build_ms: sum(|build| build.totals.build_ms),
            job_ms: (job.started > 0).then(|| now.saturating_sub(job.started).saturating_mul(1000)),
            downloaded: report.levels.iter().map(|level| level.downloaded_bytes).fold(0, u64::saturating_add),
            uploaded: report.save.as_ref().map_or(0, |save| save.uploaded_bytes),
            held: report.quota.map(|quota| quota.used_bytes),
            limit: report.quota.and_then(|quota| quota.limit_bytes),
            category: category.map(|category| category.word().to_owned()).unwrap_or_default(),
            retries: sum(|build| build.retried.len() as u64).unwrap_or(0),
            cpus: report.machine.cpus,
            memory: report.machine.memory_bytes,
            version: report.version.clone(),
            nix: report.machine.nix_version.clone(),
        };
        run.cut()
    }

    pub(crate) fn id(&self) -> RunId {
        (self.run, self.attempt, self.lane.clone())
    }

    /// Paths that the job needed besides those of the machine: from the cache, built or fetched.
    pub(crate) fn needed(&self) -> Option<u64> {
        Some(self.cached?.saturating_add(self.built).saturating_add(self.fetched))
    }

    /// The share of needed paths that came from the cache, from 0 to 1.
    pub(crate) fn hit_rate(&self) -> Option<f64> {
        let all = self.needed().filter(|all| *all > 0)?;
        Some(self.cached? as f64 / all as f64)
    }

    fn texts(&mut self) -> [&mut String; 11] {
        [
            &mut self.lane,
            &mut self.workflow,
            &mut self.git_ref,
            &mut self.event,
            &mut self.sha,
            &mut self.system,
            &mut self.status,
            &mut self.hit,
            &mut self.category,
            &mut self.version,
            &mut self.nix,
        ]
    }

    /// The same with texts of a length that any reader takes.
    fn cut(mut self) -> Self {
        for text in self.texts() {
            let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        self
    }

    /// Whether a run of ours can look like this: it may come from somebody else's file.
    pub(crate) fn is_sound(&self) -> bool {
        let is_short = |text: &&mut String| text.len() <= LONGEST && !text.chars().any(char::is_control);
        let is_hit = [Hit::Exact, Hit::Partial, Hit::Miss].iter().any(|hit| hit.word() == self.hit);
        is_hit && self.clone().texts().iter().all(is_short)
    }
}
