//! One job in the history.

use serde::{Deserialize, Serialize};

use crate::audit::figures::AuditFigures;
use crate::building::watch::Ending;
use crate::building::{BuildReport, Category, Resources};
use crate::report::Report;
use crate::series::Hit;

/// What distinguishes a run of a job from all others: the run's number, its attempt and the lane.
pub(crate) type RunId = (u64, u64, String);

/// Longest text in a record, in bytes.
const LONGEST: usize = 200;
/// Most derivations and failures in a record.
const MOST_LISTED: usize = 5;
/// Longest time (GitHub ends a run after 35 days), largest size and greatest number of anything, so that no record alone changes a sum beyond
/// reason, and a thousand of them can be added up.
const LONGEST_MS: u64 = 40 * 86_400_000;
const LARGEST: u64 = 1 << 50;
const MOST_COUNTED: u64 = 1 << 30;

/// One run of a job. Sizes are bytes, times milliseconds; what is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[allow(clippy::struct_field_names, reason = "the fields are those of exported files")]
pub(crate) struct Run {
    /// When it ended, in seconds since 1970.
    pub time: u64,
    /// What ran: the cache, or only a build, a plan or an audit.
    #[serde(skip_serializing_if = "Kind::is_job")]
    pub kind: Kind,
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
    /// `exact`, `partial` or `miss`; empty where no cache was restored.
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
    /// Evaluation, of the plan and of all builds that `nix-cache build` made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation_ms: Option<u64>,
    /// From the first build or download to the end of the last, as people wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_ms: Option<u64>,
    /// From the start of the restore to the end of the save.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_ms: Option<u64>,
    pub downloaded: u64,
    pub uploaded: u64,
    /// Of the paths from the cache, those that an earlier job built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_built: Option<u64>,
    /// The size of the others, which a substituter would send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_bytes: Option<u64>,
    /// Time that the job waited for builds, and for substituters, and what these sent in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched_bytes: Option<u64>,
    /// `stopped`, `spared`, `test` or `follow` where the cost guard changed what the job did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub guard: String,
    /// Targets that the plan considered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<u64>,
    /// Of these, the targets that need no build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// What audits found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditFigures>,
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
    /// The derivations that took longest to build, the longest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slowest: Vec<Built>,
    /// What failed at last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
    pub cpus: u64,
    pub memory: u64,
    /// Mean share of the processors that was busy while it built, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u64>,
    /// Most memory in use while it built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// Version of nix-cache.
    pub version: String,
    pub nix: String,
    /// Whether a job of another repository wrote the record, which is shown but never decided by.
    #[serde(rename = "foreign", skip_serializing_if = "std::ops::Not::not")]
    pub is_foreign: bool,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A plan.
    Plan,
    /// An audit without a restore, save or build in the same job.
    Audit,
    /// A build without a restore or save in the same job.
    Build,
    /// A job that restored or saved, with all its plans, builds and audits.
    #[default]
    Job,
    /// Something that a newer version of this program recorded.
    #[serde(other)]
    Other,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Plan => "plan",
            Self::Audit => "audit",
            Self::Build => "build",
            Self::Job => "job",
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_job(&self) -> bool {
        *self == Self::Job
    }

    fn of(report: &Report) -> Self {
        match (report.restore.is_some() || report.save.is_some(), report.builds.is_empty(), &report.plan) {
            (true, ..) => Self::Job,
            (false, true, Some(_)) => Self::Plan,
            (false, true, None) if report.audit.is_some() => Self::Audit,
            (false, ..) => Self::Build,
        }
    }
}

/// A derivation that was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Built {
    /// Its name, without hash.
    pub name: String,
    pub ms: u64,
}

/// A failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Failed {
    /// The derivation, the target or the check.
    pub name: String,
    pub category: String,
    /// Whether it may be temporary.
    pub transient: bool,
}

impl Run {
    /// The record of the job that `report` describes, which ends at `now`, in seconds since 1970.
    pub(crate) fn of(report: &Report, now: u64) -> Self {
        let job = &report.job;
        let sum = |of: fn(&BuildReport) -> u64| {
            (!report.builds.is_empty()).then(|| report.builds.iter().map(of).fold(0, u64::saturating_add))
        };
        let resources =
            |of: fn(&Resources) -> u64| report.builds.iter().filter_map(|build| build.resources.as_ref()).map(of).max();
        let kind = Kind::of(report);
        let with_cache = kind == Kind::Job;
        let planned = report.plan.as_ref();
        let built = sum(|build| build.totals.built).filter(|_| !with_cache);
        let fetched = sum(|build| build.totals.substituted.saturating_add(build.totals.copied)).filter(|_| !with_cache);
        let evaluated = sum(|build| build.totals.evaluation_ms);
        let evaluated = planned.map(|plan| plan.evaluation_ms).into_iter().chain(evaluated).reduce(u64::saturating_add);
        let category = report.builds.iter().find_map(|build| build.category);
        let run = Self {
            time: now,
            kind,
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
            hit: if with_cache { report.key.hit.word().to_owned() } else { String::new() },
            cached: report.paths.needed.filter(|_| with_cache),
            built: built.unwrap_or(report.paths.built_here),
            fetched: fetched.unwrap_or(report.paths.fetched_upstream),
            restore_ms: report.restore.as_ref().map(|restore| restore.ms),
            save_ms: report.save.as_ref().map(|save| save.ms),
            evaluation_ms: evaluated,
            build_ms: sum(|build| build.ms.saturating_sub(build.totals.evaluation_ms)),
            job_ms: (job.started > 0).then(|| now.saturating_sub(job.started).saturating_mul(1000)),
            downloaded: report.levels.iter().map(|level| level.downloaded_bytes).fold(0, u64::saturating_add),
            uploaded: report.save.as_ref().map_or(0, |save| save.uploaded_bytes),
            cached_built: report.effort.map(|effort| effort.needed_built),
            cached_bytes: report.effort.map(|effort| effort.needed_bytes),
            built_ms: report.effort.map(|effort| effort.built_ms),
            fetched_ms: report.effort.map(|effort| effort.fetched_ms),
            fetched_bytes: report.effort.map(|effort| effort.fetched_bytes),
            guard: report.guard.as_ref().map(|guard| guard.state.clone()).unwrap_or_default(),
            targets: planned.map(|plan| plan.targets),
            skipped: planned.map(|plan| plan.skipped),
            audit: report.audit,
            held: report.quota.map(|quota| quota.used_bytes),
            limit: report.quota.and_then(|quota| quota.limit_bytes),
            category: category.map(|category| category.word().to_owned()).unwrap_or_default(),
            retries: sum(|build| build.retried.len() as u64).unwrap_or(0),
            slowest: slowest(&report.builds),
            failed: failed(&report.builds),
            cpus: report.machine.cpus,
            memory: report.machine.memory_bytes,
            cpu_percent: resources(|used| used.cpu_mean_percent.clamp(0.0, 100.0) as u64),
            memory_peak: resources(|used| used.memory_peak_bytes),
            version: report.version.clone(),
            nix: report.machine.nix_version.clone(),
            is_foreign: false,
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

    fn texts(&mut self) -> Vec<&mut String> {
        let built = self.slowest.iter_mut().map(|built| &mut built.name);
        let failed = self.failed.iter_mut().flat_map(|failed| [&mut failed.name, &mut failed.category]);
        let own = [
            &mut self.lane,
            &mut self.workflow,
            &mut self.git_ref,
            &mut self.event,
            &mut self.sha,
            &mut self.system,
            &mut self.status,
            &mut self.hit,
            &mut self.guard,
            &mut self.category,
            &mut self.version,
            &mut self.nix,
        ];
        own.into_iter().chain(built).chain(failed).collect()
    }

    /// The same with texts that any reader takes.
    fn cut(mut self) -> Self {
        for text in self.texts() {
            text.retain(|c| !c.is_control());
            let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        self
    }

    /// Whether a run of ours can look like this: it may come from somebody else's file.
    pub(crate) fn is_sound(&self) -> bool {
        let is_short = |text: &&mut String| text.len() <= LONGEST && !text.chars().any(char::is_control);
        let is_hit = match self.kind {
            Kind::Other => false,
            Kind::Job => [Hit::Exact, Hit::Partial, Hit::Miss].iter().any(|hit| hit.word() == self.hit),
            Kind::Plan | Kind::Build | Kind::Audit => self.hit.is_empty(),
        };
        let is_listed = self.slowest.len() <= MOST_LISTED && self.failed.len() <= MOST_LISTED;
        is_hit && is_listed && self.is_plausible() && self.clone().texts().iter().all(is_short)
    }

    /// All times in milliseconds.
    pub(super) fn times(&self) -> impl Iterator<Item = u64> {
        let own = [
            self.restore_ms,
            self.save_ms,
            self.evaluation_ms,
            self.build_ms,
            self.job_ms,
            self.built_ms,
            self.fetched_ms,
        ];
        own.into_iter().flatten().chain(self.slowest.iter().map(|built| built.ms))
    }

    /// Whether its numbers are possible.
    fn is_plausible(&self) -> bool {
        let audit = self.audit.unwrap_or_default();
        let sizes = [
            Some(self.downloaded),
            Some(self.uploaded),
            self.cached_bytes,
            self.fetched_bytes,
            self.held,
            self.limit,
            Some(self.memory),
            self.memory_peak,
            Some(audit.bytes),
            Some(audit.evaluated_bytes),
        ];
        let counts = [
            self.cached,
            Some(self.built),
            Some(self.fetched),
            self.cached_built,
            self.targets,
            self.skipped,
            Some(self.retries),
            Some(self.cpus),
            self.cpu_percent,
            Some(audit.errors),
            Some(audit.warnings),
            Some(audit.notices),
            audit.new,
            Some(audit.paths),
            Some(audit.evaluated_paths),
            Some(audit.derivation_paths),
        ];
        self.times().all(|ms| ms <= LONGEST_MS)
            && sizes.into_iter().flatten().all(|size| size <= LARGEST)
            && counts.into_iter().flatten().all(|count| count <= MOST_COUNTED)
    }
}

/// The derivations of these builds that took longest.
fn slowest(builds: &[BuildReport]) -> Vec<Built> {
    let all = builds.iter().flat_map(|build| &build.derivations).filter(|time| time.ending == Ending::Built);
    let mut all: Vec<Built> = all.map(|time| Built { name: time.name.clone(), ms: time.ms }).collect();
    all.sort_by(|one, other| other.ms.cmp(&one.ms).then_with(|| one.name.cmp(&other.name)));
    all.truncate(MOST_LISTED);
    all
}

/// What failed in these builds, and was not retried successfully.
fn failed(builds: &[BuildReport]) -> Vec<Failed> {
    let failures = builds.iter().flat_map(|build| &build.failures).map(|failure| Failed {
        name: failure.subject().to_owned(),
        category: failure.category.word().to_owned(),
        transient: failure.transient,
    });
    let checks = builds.iter().flat_map(BuildReport::failed_checks).map(|check| Failed {
        name: check.name.clone(),
        category: Category::Test.word().to_owned(),
        transient: false,
    });
    failures.chain(checks).take(MOST_LISTED).collect()
}
