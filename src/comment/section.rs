//! What a comment shows of one report, with figures that are possible and lists of a bounded length.

use std::collections::{BTreeMap, BTreeSet};

use super::base::{Base, Why};
use super::difference::{Difference, difference};
use crate::building::BuildReport;
use crate::building::watch::Ending;
use crate::github::status::JobStatus;
use crate::history::Usual;
use crate::report::{Closure, Report};
use crate::series::Hit;
use crate::store::StorePath;

/// Most derivations and failures that are kept of a report.
const MOST_ROWS: usize = 30;
/// Figures above these are nonsense: 35 days, as long as a run may take; a pebibyte; ten million paths.
const MOST_MS: u64 = 35 * 86_400_000;
const MOST_BYTES: u64 = 1 << 50;
const MOST_PATHS: u64 = 10_000_000;

/// One job of the run.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub lane: String,
    pub status: JobStatus,
    pub hit: Hit,
    /// From 0 to 1; None if unknown, as all that follows.
    pub hit_rate: Option<f64>,
    pub job_ms: Option<u64>,
    pub restore_ms: Option<u64>,
    pub save_ms: Option<u64>,
    /// Store paths from the cache, built here, and fetched from substituters.
    pub cached: Option<u64>,
    pub built: Option<u64>,
    pub fetched: Option<u64>,
    /// The same lane on the base branch.
    pub usual: Option<Usual>,
    /// Derivations that were built, the longest first, and how many there are.
    pub derivations: Vec<Derivation>,
    pub derivations_all: u64,
    /// Category and subject of each failure.
    pub failures: Vec<(&'static str, String)>,
    pub failures_all: u64,
    /// The closure of its outputs, or why it is unknown.
    pub closure: Result<Compared, String>,
}

/// A derivation that was built.
#[derive(Clone, Debug)]
pub(crate) struct Derivation {
    pub name: String,
    pub ms: Option<u64>,
    pub is_failed: bool,
    pub why: Why,
}

/// The closure of the job's outputs, compared with a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub difference: Difference,
    pub key: String,
    pub generation: u64,
    /// Whether the snapshot is the base branch's, instead of what the job restored.
    pub is_of_branch: bool,
}

impl Section {
    /// What is shown of `report`, compared with `base`, or without it for the reason given.
    pub(crate) fn of(report: &Report, usual: Option<Usual>, base: Result<&Base, &str>) -> Self {
        let job = &report.job;
        let is_over = job.started > 0 && job.ended >= job.started;
        let seconds = is_over.then(|| job.ended - job.started);
        let paths = &report.paths;
        // Before the end of the job, nothing is known of what it needed and built.
        let counted = |count: u64| paths.needed.and(Some(count)).filter(|count| *count <= MOST_PATHS);
        let (cached, built, fetched) =
            (counted(paths.needed.unwrap_or(0)), counted(paths.built_here), counted(paths.fetched_upstream));
        let all = cached.zip(built).zip(fetched).map(|((cached, built), fetched)| cached + built + fetched);
        let hit_rate = all.filter(|all| *all > 0).zip(cached).map(|(all, cached)| cached as f64 / all as f64);
        let (derivations, derivations_all) = derivations(&report.builds, base.ok());
        let (failures, failures_all) = failures(&report.builds);
        Self {
            lane: job.lane.clone(),
            status: job.status,
            hit: report.key.hit,
            hit_rate,
            job_ms: seconds.and_then(|seconds| time(seconds.saturating_mul(1000))),
            restore_ms: report.restore.as_ref().and_then(|restore| time(restore.ms)),
            save_ms: report.save.as_ref().and_then(|save| time(save.ms)),
            cached,
            built,
            fetched,
            usual,
            derivations,
            derivations_all,
            failures,
            failures_all,
            closure: compared(report, base),
        }
    }
}

fn time(ms: u64) -> Option<u64> {
    Some(ms).filter(|ms| *ms <= MOST_MS)
}

fn derivations(builds: &[BuildReport], base: Option<&Base>) -> (Vec<Derivation>, u64) {
    let all = || builds.iter().flat_map(|build| &build.derivations).filter(|one| one.ending != Ending::Stopped);
    let mut longest: Vec<_> = all().collect();
    longest.sort_by_key(|one| std::cmp::Reverse(one.ms));
    let row = |one: &crate::building::DerivationTime| Derivation {
        name: one.name.clone(),
        ms: time(one.ms),
        is_failed: one.ending == Ending::Failed,
        why: base.map_or(Why::Unknown, |base| base.why_built(&one.derivation)),
    };
    (longest.into_iter().take(MOST_ROWS).map(row).collect(), all().count() as u64)
}

fn failures(builds: &[BuildReport]) -> (Vec<(&'static str, String)>, u64) {
    let failures = builds.iter().flat_map(|build| &build.failures);
    let failures = failures.map(|failure| (failure.category.word(), failure.subject()));
    let checks = builds.iter().flat_map(BuildReport::failed_checks).map(|check| ("check", &*check.name));
    let all: Vec<(&'static str, &str)> = failures.chain(checks).collect();
    let shown = all.iter().take(MOST_ROWS).map(|(category, subject)| (*category, (*subject).to_owned()));
    (shown.collect(), all.len() as u64)
}

/// Compares the closure in `report` with `base`.
fn compared(report: &Report, base: Result<&Base, &str>) -> Result<Compared, String> {
    let closure = report.closure.as_ref().ok_or(
        "the report has no closure: it was written before the end of the job, or no link such as result points to an output",
    )?;
    let base = base?;
    let (outputs, paths) =
        sound(closure).ok_or("the closure in the report contains something else than store paths")?;
    let difference = difference((&outputs, &paths), &base.snapshot, &report.job.lane);
    let (key, generation, is_of_branch) = (base.key.clone(), base.generation, base.is_of_branch);
    Ok(Compared { difference, key, generation, is_of_branch })
}

/// Outputs, and what they need with its sizes.
type Paths = (BTreeSet<StorePath>, BTreeMap<StorePath, Option<u64>>);

/// The closure, if one of ours can look like this.
fn sound(closure: &Closure) -> Option<Paths> {
    if closure.paths.len() > Closure::MOST || closure.outputs.len() > closure.paths.len() {
        return None;
    }
    let paths: BTreeMap<StorePath, Option<u64>> = closure
        .paths
        .iter()
        .map(|one| Some((one.path.parse().ok()?, Some(one.nar_bytes).filter(|bytes| *bytes <= MOST_BYTES))))
        .collect::<Option<_>>()?;
    let outputs = closure.outputs.iter().map(|path| path.parse().ok());
    let outputs: BTreeSet<StorePath> = outputs.collect::<Option<_>>()?;
    outputs.iter().all(|output| paths.contains_key(output)).then_some((outputs, paths))
}
