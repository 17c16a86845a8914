//! What the pushes of one job have done so far: a later push of the job neither asks nor sends again, and tells all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::store::own::{self, OwnFolder, PUSHED};
use crate::store::{StoreDirs, StorePath};

const FORMAT: u32 = 1;

/// The record of what was pushed, which grows while a push is under way.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    record: Mutex<Record>,
    ends: AtomicBool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Record {
    format: u32,
    /// The run, the job and its lane.
    job: String,
    /// Paths that a substituter of nix.conf has.
    pub upstream: BTreeSet<StorePath>,
    /// By their names.
    pub sinks: BTreeMap<String, InSink>,
}

/// What is known of one sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct InSink {
    /// Paths that it had before.
    pub present: BTreeSet<StorePath>,
    /// Paths that this job pushed.
    pub pushed: BTreeSet<StorePath>,
    /// Their uploaded bytes, as far as we uploaded them.
    pub bytes: u64,
}

impl Pushed {
    /// Begins with nothing for `job`, and forgets what an earlier one has pushed.
    pub(crate) fn begin(dirs: &StoreDirs, job: String) -> Self {
        if let Err(error) = OwnFolder::work(dirs).and_then(|folder| folder.remove(PUSHED)) {
            tracing::debug!("the record of earlier pushes stays: {error}");
        }
        let record = Record { format: FORMAT, job, ..Record::default() };
        Self { record: Mutex::new(record), ends: AtomicBool::new(false) }
    }

    /// Reads what `job` has pushed so far.
    pub(crate) fn load(dirs: &StoreDirs, job: &str) -> Self {
        let read = || OwnFolder::work(dirs).ok()?.read_json::<Record>(PUSHED).ok()?;
        let record = read().filter(|record| record.format == FORMAT && record.job == job);
        Self { record: Mutex::new(record.unwrap_or_default()), ends: AtomicBool::new(false) }
    }

    /// Writes it for later pushes of the job.
    pub(crate) fn write(&self, dirs: &StoreDirs) {
        let written = OwnFolder::work(dirs).and_then(|folder| folder.write_json(PUSHED, &*self.record()));
        if let Err(error) = written {
            tracing::debug!("cannot write {}: {error}", own::work_dir(dirs).join(PUSHED).display());
        }
    }

    /// From now on, a push under way begins no new path.
    pub(crate) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of this sink.
    pub(super) fn of(&self, sink: &str) -> InSink {
        self.record().sinks.get(sink).cloned().unwrap_or_default()
    }

    /// Records what a sink had.
    pub(super) fn note_present(&self, sink: &str, paths: &BTreeSet<StorePath>) {
        let mut record = self.record();
        record.sinks.entry(sink.to_owned()).or_default().present.extend(paths.iter().cloned());
    }

    /// Records that paths were pushed, in `bytes`.
    pub(super) fn note(&self, sink: &str, paths: impl IntoIterator<Item = StorePath>, bytes: u64) {
        let mut record = self.record();
        let known = record.sinks.entry(sink.to_owned()).or_default();
        known.pushed.extend(paths);
        known.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_job_goes_on_with_it() {
        let root = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(root.path()));
        std::fs::create_dir_all(dirs.state_dir()).unwrap();
        let path: StorePath = format!("{}-x", "0".repeat(32)).parse().unwrap();
        let pushed = Pushed::begin(&dirs, "7-1-build, x".to_owned());
        pushed.note("file:///srv", [path.clone()], 10);
        pushed.note_present("file:///srv", &BTreeSet::from([path]));
        pushed.write(&dirs);
        let of = |job: &str| Pushed::load(&dirs, job).of("file:///srv");
        assert_eq!((of("7-1-build, x"), of("7-2-build, x")), (pushed.of("file:///srv"), InSink::default()));
        std::fs::write(dirs.own_dir().join(PUSHED), "{").unwrap();
        assert_eq!(of("7-1-build, x"), InSink::default());
        Pushed::begin(&dirs, String::new());
        assert!(!dirs.own_dir().join(PUSHED).exists());
    }
}
