//! The history of a repository's jobs: one short record per job, in a series of the cache. It needs no permission, and jobs that end
//! at the same time lose nothing. The trend in the job summary and `nix-cache history` are made from it.
//!
//! A job sees the runs that its branch can see in the cache: its own and those of the default branch.

mod csv;
mod run;
mod trend;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::note::Note;
use crate::flake::escape;
use crate::remote::{Kind, Remote, RemoteError};
use crate::series::sign::Keyring;
use crate::series::{
    Appended, Format, Record, RecordError, Target, add, find_record, generation_prefix, read_json, write_json,
};

pub(crate) use csv::to_csv;
pub(crate) use run::{Run, RunId};
pub(crate) use trend::trend;

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
        let mut history = Self::default();
        runs.into_iter().for_each(|run| history.take_in(run));
        history
    }

    fn take_in(&mut self, run: Run) {
        match self.runs.entry(run.id()) {
            Entry::Vacant(slot) => drop(slot.insert(run)),
            Entry::Occupied(mut slot) if run > *slot.get() => drop(slot.insert(run)),
            Entry::Occupied(_) => {}
        }
    }

    /// The runs, oldest first.
    pub(crate) fn by_time(&self) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self.runs.values().collect();
        runs.sort_by_key(|run| (run.time, run.id()));
        runs
    }

    /// Keeps the newest runs.
    fn prune(&mut self) {
        let surplus = self.runs.len().saturating_sub(MOST);
        let oldest: BTreeSet<RunId> = self.by_time().into_iter().take(surplus).map(Run::id).collect();
        self.runs.retain(|id, _| !oldest.contains(id));
    }
}

impl Record for History {
    const FORMAT: Format = Format { kind: Kind::History, number: 1 };

    fn encode(&self, out: Vec<u8>) -> Result<Vec<u8>, RecordError> {
        let wire = Wire { runs: self.runs.values().cloned().collect(), unread: self.unread.clone() };
        let (bytes, weight) = write_json(out, |out| serde_json::to_writer(out, &wire))?;
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
        other.runs.into_values().for_each(|run| self.take_in(run));
        for (number, since) in other.unread {
            let known = self.unread.entry(number).or_insert(since);
            *known = since.min(*known);
        }
    }

    fn covers(&self, other: &Self) -> bool {
        let oldest = self.runs.values().map(|run| run.time).min().unwrap_or(0);
        other.runs.iter().all(|(id, run)| match self.runs.get(id) {
            Some(mine) => mine >= run,
            // Runs older than all that are kept were removed.
            None => self.runs.len() >= MOST && run.time <= oldest,
        })
    }

    fn unread(&mut self) -> &mut BTreeMap<u64, u64> {
        &mut self.unread
    }
}

/// The key of the history of jobs whose keys have this prefix. No computed key of a job starts like it.
pub(crate) fn history_key(prefix: &str) -> String {
    let prefix = if prefix.is_empty() { "nix" } else { prefix };
    escape(&format!("history-v1-{prefix}")).unwrap_or_else(|_| "history-v1-nix".to_owned())
}

/// Returns the history under `key`, as far as `keys` trusts it.
///
/// # Errors
/// When the remote cannot be queried.
pub(crate) async fn load(remote: &dyn Remote, key: &str, keys: &Keyring) -> Result<History, RemoteError> {
    let names = [generation_prefix(key)];
    let search = find_record::<History>(remote, &names, keys, &mut Vec::new()).await?;
    Ok(search.found.filter(|found| found.key == key).map(|found| found.record).unwrap_or_default())
}

/// Adds `runs` to the history under `key`.
///
/// # Errors
/// When the remote refuses or fails.
pub(crate) async fn append(
    remote: &dyn Remote,
    key: &str,
    keys: &Keyring,
    runs: History,
    notes: &mut Vec<Note>,
) -> Result<Appended, RemoteError> {
    add(&Target { remote, key, keys, prune: History::prune }, runs, notes).await
}

#[cfg(test)]
#[path = "history_test.rs"]
mod tests;
