//! Reads the records that jobs left as artifacts of their runs, from GitHub.
//!
//! 1. The list of artifacts says which there are. Those that are expired, or whose record is known, are not downloaded.
//! 2. At most [`MOST_READ`] are, the newest first, and of each run its first ones before more of any other: a run with many artifacts does not keep
//!    those of others away.
//! 3. Each is held against what GitHub says of its run ([`Origin`]). What was not read is said, and never counts as absent.

use std::collections::{BTreeMap, BTreeSet};

use super::runs::runs_in;
use crate::base::human;
use crate::history::{Bounds, History, Origin, Run, artifact_name, run_in_name, texts_in};
use crate::remote::github::{ArtifactInfo, ArtifactList, Artifacts, MOST_PULLS, Missed, Requests, RunOrigin};

/// Most archives that are downloaded: with their runs and pull requests at most three requests each, of the 1,000 an hour that a job's token has for
/// everything.
const MOST_READ: usize = 200;
/// Most of one run.
const MOST_OF_RUN: usize = 50;
/// Largest archive in bytes.
const LARGEST: usize = 64 << 10;
/// Most reasons that are printed one by one.
const MOST_SAID: usize = 10;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub runs: Vec<Run>,
    /// How many artifacts with records there are, and how many of them are known already or expired.
    pub total: usize,
    pub known: usize,
    pub expired: usize,
    /// Why each of these was left out.
    pub refused: Vec<String>,
    /// Why the rest was not read; None if all were.
    pub why: Option<String>,
}

impl Collected {
    /// What was read and what was not, in a sentence or two.
    pub(crate) fn sentence(&self) -> String {
        let records = |count: usize| human::count(count as u64, "record");
        let mut parts = vec![format!("{} read", self.runs.len())];
        let others = [(self.known, "known already"), (self.expired, "expired"), (self.refused.len(), "left out")];
        parts.extend(others.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        let mut said = format!("{} of jobs in artifacts: {}.", records(self.total), parts.join(", "));
        if let Some(why) = &self.why {
            said = format!("{said} The rest was not read: {why}");
        }
        said
    }

    /// Prints what was read and what was not.
    pub(crate) fn tell(&self) {
        for refused in self.refused.iter().take(MOST_SAID) {
            tracing::warn!("{refused}");
        }
        if self.refused.len() > MOST_SAID {
            tracing::warn!("{} more are left out.", self.refused.len() - MOST_SAID);
        }
        let sentence = self.sentence();
        if self.why.is_none() {
            tracing::info!("{sentence}");
        } else {
            tracing::warn!("{sentence}");
        }
    }
}

/// A run, and the pull requests from its branch.
struct Known {
    origin: RunOrigin,
    pulls: Option<Vec<u64>>,
}

/// Reads the records that `known` lacks.
pub(crate) async fn collect(requests: Requests, known: &History) -> Collected {
    let artifacts = Artifacts(requests);
    tracing::info!("Reading the records of jobs in artifacts from GitHub.");
    let ArtifactList { found, why } = artifacts.list(|name| run_in_name(name).is_some()).await;
    let names: BTreeSet<String> = known.runs.values().map(artifact_name).collect();
    let (total, mut collected) = (found.len(), Collected { why, ..Collected::default() });
    let (known, new): (Vec<_>, Vec<_>) = found.into_iter().partition(|artifact| names.contains(&artifact.name));
    let (expired, new): (Vec<_>, Vec<_>) = new.into_iter().partition(|artifact| artifact.expired);
    (collected.total, collected.known, collected.expired) = (total, known.len(), expired.len());
    let there = new.len();
    let wanted = in_turn(new);
    if wanted.len().min(MOST_READ) < there {
        let why = format!("at most {MOST_READ} are read at once, and {MOST_OF_RUN} of each run.");
        collected.why.get_or_insert(why);
    }
    let mut runs = BTreeMap::new();
    for artifact in wanted.iter().take(MOST_READ) {
        match read(&artifacts, &mut runs, artifact).await {
            Ok(run) => collected.runs.push(run),
            Err(Missed::This(why)) => {
                collected.refused.push(format!("The artifact {} is left out: {why}.", artifact.name));
            }
            Err(Missed::All(why)) => {
                collected.why = Some(why);
                break;
            }
        }
    }
    collected
}

/// The artifacts, newest first, but the first of each run before the second of any, and at most some of each.
fn in_turn(artifacts: Vec<ArtifactInfo>) -> Vec<ArtifactInfo> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    let mut all: Vec<(usize, ArtifactInfo)> = Vec::new();
    for artifact in artifacts {
        let count = counts.entry(artifact.workflow_run.map_or(0, |run| run.id)).or_default();
        all.push((*count, artifact));
        *count += 1;
    }
    all.sort_by_key(|(turn, artifact)| (*turn, std::cmp::Reverse(artifact.id)));
    all.into_iter().filter(|(turn, _)| *turn < MOST_OF_RUN).map(|(_, artifact)| artifact).collect()
}

/// The record in an artifact, as far as GitHub confirms it.
async fn read(artifacts: &Artifacts, runs: &mut BTreeMap<u64, Known>, artifact: &ArtifactInfo) -> Result<Run, Missed> {
    let this = |why: &str| Missed::This(why.to_owned());
    let number = artifact.workflow_run.map(|run| run.id).ok_or_else(|| this("its run was deleted"))?;
    if run_in_name(&artifact.name) != Some(number) {
        return Err(this("it has the name of another run"));
    }
    if artifact.size > LARGEST as u64 {
        return Err(Missed::This(format!("it is larger than {} KiB", LARGEST >> 10)));
    }
    let known = match runs.entry(number) {
        std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::btree_map::Entry::Vacant(place) => place.insert(look_up(artifacts, number).await?),
    };
    let archive = artifacts.archive(artifact, LARGEST).await?;
    let texts = texts_in(&archive, Bounds::ARTIFACT).map_err(|error| Missed::This(error.to_string()))?;
    let found: Result<Vec<_>, _> = texts.iter().map(|text| runs_in(text)).collect();
    let found = found.map_err(|(_, why)| Missed::This(format!("it has no record: {why}")))?.concat();
    let [run] = <[Run; 1]>::try_from(found).map_err(|_| this("it does not have just one record"))?;
    confirmed(artifacts, known, artifact, run).map_err(this)
}

fn confirmed(artifacts: &Artifacts, known: &Known, artifact: &ArtifactInfo, run: Run) -> Result<Run, &'static str> {
    let Known { origin, pulls } = known;
    let times = seconds(origin.created_at.as_deref()).zip(seconds(artifact.created_at.as_deref()));
    let (started, uploaded) = times.ok_or("GitHub does not say when it was uploaded")?;
    if !origin.repository.full_name.eq_ignore_ascii_case(&artifacts.0.repository) {
        return Err("its run is of another repository");
    }
    let is_here = origin.head_repository.as_ref().is_some_and(|head| head.id == origin.repository.id);
    let origin = Origin {
        name: &artifact.name,
        run: origin.id,
        attempts: origin.run_attempt,
        event: &origin.event,
        head_branch: origin.head_branch.as_deref().unwrap_or_default(),
        head_sha: &origin.head_sha,
        pulls: pulls.as_deref(),
        is_foreign: !is_here,
        started,
        uploaded,
    };
    origin.confirm(run)
}

async fn look_up(artifacts: &Artifacts, number: u64) -> Result<Known, Missed> {
    let origin = artifacts.run(number).await?;
    let is_pull = Origin { event: &origin.event, ..Origin::default() }.is_pull();
    let pulls = if is_pull { pulls(artifacts, &origin).await } else { None };
    Ok(Known { origin, pulls })
}

/// The pull requests from the branch of a run. None if they are not all known: for a bot's branch with many of them, a fork that was deleted, or a
/// token that may not list them.
async fn pulls(artifacts: &Artifacts, origin: &RunOrigin) -> Option<Vec<u64>> {
    let (owner, _) = origin.head_repository.as_ref()?.full_name.split_once('/')?;
    let found = artifacts.0.pulls_from(owner, origin.head_branch.as_deref()?).await.ok()?.ok()?;
    (found.len() < MOST_PULLS).then(|| found.iter().map(|pull| pull.number).collect())
}

fn seconds(text: Option<&str>) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc3339(text?).ok()?;
    u64::try_from(time.timestamp()).ok()
}

#[cfg(test)]
#[path = "artifacts_test.rs"]
mod tests;
