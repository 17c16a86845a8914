//! Statistics of a job's store paths: those from the cache, those that it built, and those that it fetched elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::effort::{effort, was_built};
use super::record;
use super::select::{Situation, select};
use crate::attach::CacheError;
use crate::store::{self, PathInfo, StoreDirs, StorePath};

/// The numbers. Derivations and sources that an evaluation writes are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Survey {
    /// Valid before the restore.
    pub baseline: u64,
    /// Made valid by the restore.
    pub restored: u64,
    /// Of these, the paths that a save keeps: all after an exact hit, and after a change of the lock those that a new or rooted path
    /// needs.
    pub needed: u64,
    /// Built here since.
    pub built_here: u64,
    /// Fetched from a substituter since.
    pub fetched_upstream: u64,
    /// Of the needed paths, those that an earlier job built.
    pub needed_built: u64,
    /// The size of the other needed paths, which a substituter would send.
    pub needed_bytes: u64,
    /// Time that this job waited for builds, in milliseconds.
    pub built_ms: u64,
    /// Time that it waited for downloads from substituters, and what came in it.
    pub fetched_ms: u64,
    pub fetched_bytes: u64,
}

/// The outputs of a job, and what they need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputClosure {
    pub outputs: BTreeSet<StorePath>,
    /// These and everything that they refer to, with the sizes of the NARs.
    pub paths: BTreeMap<StorePath, u64>,
}

/// Computes the numbers for the job with the escaped primary key `key`, and the closure of its outputs: `built`, and what was rooted
/// since the restore.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn survey(dirs: &StoreDirs, key: &str, built: &[StorePath]) -> Result<(Survey, OutputClosure), CacheError> {
    let valid = store::read_all(dirs)?;
    let Some(record) = record::load(dirs)? else { return Ok((Survey::default(), OutputClosure::default())) };
    let roots = store::roots(dirs);
    let restored: BTreeSet<StorePath> =
        record.restored.iter().filter(|path| valid.contains_key(path)).cloned().collect();
    let lock_changed = record.matched.as_ref().is_some_and(|name| !name.starts_with(&format!("{key}#")));
    let situation = Situation {
        valid: &valid,
        baseline: &record.baseline,
        known: &restored,
        restored: &restored,
        lane_before: None,
        roots: &roots,
        lock_changed,
    };
    let kept = select(&situation).wanted;
    let is_fresh = |info: &&PathInfo| !record.baseline.contains(&info.path) && !restored.contains(&info.path);
    let fresh: Vec<&PathInfo> = valid.values().filter(is_fresh).collect();
    let needed: Vec<&PathInfo> =
        restored.iter().filter(|path| kept.contains(*path)).filter_map(|path| valid.get(path)).collect();
    let from_substituters = needed.iter().filter(|info| !was_built(info));
    let effort = effort(&fresh);
    let counts = Survey {
        baseline: record.baseline.len() as u64,
        restored: record.restored.len() as u64,
        needed: needed.len() as u64,
        built_here: fresh.iter().filter(|info| info.ultimate).count() as u64,
        fetched_upstream: fresh.iter().filter(|info| !info.ultimate && info.ca.is_none()).count() as u64,
        needed_built: needed.iter().filter(|info| was_built(info)).count() as u64,
        needed_bytes: from_substituters.map(|info| info.nar_size).fold(0, u64::saturating_add),
        built_ms: effort.built_ms,
        fetched_ms: effort.fetched_ms,
        fetched_bytes: effort.fetched_bytes,
    };
    let rooted = roots.iter().filter(|path| !record.baseline.contains(path)).chain(built);
    let is_output = |path: &&StorePath| valid.contains_key(*path) && !path.is_derivation();
    let outputs: BTreeSet<StorePath> = rooted.filter(is_output).cloned().collect();
    let closure = valid.closure(&outputs).into_iter();
    let paths = closure.filter_map(|path| Some((path.clone(), valid.get(&path)?.nar_size))).collect();
    Ok((counts, OutputClosure { outputs, paths }))
}
