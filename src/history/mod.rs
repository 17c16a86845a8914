//! The history of a repository's jobs: one short record per job, in a series of the cache. It needs no permission, and jobs that end
//! at the same time lose nothing. The trend in the job summary and `nix-cache history` are made from it.
//!
//! A job sees the runs that its branch can see in the cache: its own and those of the default branch.

mod artifact;
mod before_save;
mod csv;
mod forecast;
mod guard;
mod import;
mod median;
mod origin;
mod run;
mod saving;
mod trend;
mod usual;
mod without;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::base::note::Note;
use crate::flake::series_key;
use crate::remote::{Kind, Remote, RemoteError};
use crate::series::sign::Keyring;
use crate::series::{
    self, Appended, Format, Loaded, Record, RecordError, Target, greater, lesser, read_json, union, write_json,
};

pub(crate) use artifact::{Bounds, artifact, artifact_name, run_in_name, texts_in};
pub(crate) use before_save::{BeforeSave, before_save};
pub(crate) use csv::to_csv;
pub(crate) use guard::{FOLLOW, JobOf, Recorded, SPARED, STOPPED, TEST, decide};
pub(crate) use import::Import;
pub(crate) use median::lower_median;
pub(crate) use origin::Origin;
#[cfg(test)]
pub(crate) use run::Built;
pub(crate) use run::{Failed, Kind as RunKind, Run, RunId};
pub(crate) use trend::trend;
pub(crate) use usual::{Usual, usual};
pub(crate) use without::Without;

/// Runs that are kept, the newest ones.
const MOST: usize = 1_000;
/// Runs that are read: writers that meet add some to those that are kept.
const MOST_READ: usize = 2 * MOST;
/// What a history may weigh, in bytes of memory: see [`crate::base::bounds`].
const MAX_WEIGHT: u64 = 32 << 20;

/// The runs that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The runs.
    pub runs: BTreeMap<RunId, Run>,
    unread: BTreeMap<u64, u64>,
}

/// A history in JSON.
#[derive(Serialize, Deserialize)]
struct Wire {
    runs: Vec<Run>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unread: BTreeMap<u64, u64>,
}

impl History {
    /// The history that has these runs. Of two records of one run, the greater one counts, whatever their order.
    pub(crate) fn of(runs: impl IntoIterator<Item = Run>) -> Self {
        let mut all = BTreeMap::new();
        for run in runs {
            union(&mut all, BTreeMap::from([(run.id(), run)]), greater);
        }
        Self { runs: all, unread: BTreeMap::new() }
    }

    /// The runs, oldest first.
    pub(crate) fn by_time(&self) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self.runs.values().collect();
        runs.sort_by_cached_key(|run| (run.time, run.id()));
        runs
    }

    /// The runs by which anything is decided.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(|run| !run.is_foreign)
    }

    /// The same, oldest first.
    fn own_by_time(&self) -> Vec<&Run> {
        self.by_time().into_iter().filter(|run| !run.is_foreign).collect()
    }

    /// Keeps the newest runs. Those of other repositories, of which anybody can start many, give way first.
    fn prune(&mut self) {
        let surplus = self.runs.len().saturating_sub(MOST);
        let mut runs = self.by_time();
        runs.sort_by_key(|run| !run.is_foreign);
        let first: BTreeSet<RunId> = runs.into_iter().take(surplus).map(Run::id).collect();
        self.runs.retain(|id, _| !first.contains(id));
    }
}

impl Record for History {
    const FORMAT: Format = Format { kind: Kind::History, number: 1 };

    fn write(&self, out: &mut dyn Write) -> serde_json::Result<()> {
        let wire = Wire { runs: self.runs.values().cloned().collect(), unread: self.unread.clone() };
        serde_json::to_writer(out, &wire)
    }

    fn encode(&self, out: Vec<u8>) -> Result<Vec<u8>, RecordError> {
        let (bytes, weight) = write_json(out, |out| self.write(out))?;
        if weight > MAX_WEIGHT {
            let most = MAX_WEIGHT >> 20;
            return Err(RecordError::TooLarge(format!("the history would take more than {most} MiB of memory.")));
        }
        Ok(bytes)
    }

    fn decode(body: &[u8]) -> Result<Self, RecordError> {
        let Wire { runs, unread } = read_json(body, MAX_WEIGHT)?;
        if runs.len() > MOST_READ {
            return Err(RecordError::Damaged(format!("it has more than {MOST_READ} runs")));
        }
        Ok(Self { unread, ..Self::of(runs.into_iter().filter(Run::is_sound)) })
    }

    fn merge(&mut self, other: Self) {
        union(&mut self.runs, other.runs, greater);
        union(&mut self.unread, other.unread, lesser);
    }

    fn covers(&self, other: &Self) -> bool {
        let oldest = self.own().map(|run| run.time).min().unwrap_or(0);
        other.runs.iter().all(|(id, run)| match self.runs.get(id) {
            Some(mine) => mine >= run,
            // Runs older than all that are kept were removed, and those of other repositories.
            None => self.runs.len() >= MOST && (run.is_foreign || run.time <= oldest),
        })
    }

    fn unread(&mut self) -> &mut BTreeMap<u64, u64> {
        &mut self.unread
    }
}

/// The key of the history of jobs whose keys have this prefix.
pub(crate) fn history_key(prefix: &str) -> String {
    series_key("history-v1", prefix)
}

/// Returns the history under `key`, as far as `keys` trusts it.
///
/// # Errors
/// When the remote cannot be queried.
pub(crate) async fn load(remote: &dyn Remote, key: &str, keys: &Keyring) -> Result<Loaded<History>, RemoteError> {
    series::load(remote, key, keys, &mut Vec::new()).await
}

/// Adds `runs` to the history under `key`. `loaded` is what [`load`] has read, if it was called before.
///
/// # Errors
/// When the remote refuses or fails.
pub(crate) async fn append(
    remote: &dyn Remote,
    key: &str,
    keys: &Keyring,
    (loaded, runs): (Option<Loaded<History>>, History),
    notes: &mut Vec<Note>,
) -> Result<Appended, RemoteError> {
    series::add(&Target { remote, key, keys, prune: History::prune }, loaded, runs, notes).await
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod simulation;
#[cfg(test)]
#[path = "history_test.rs"]
mod tests;
