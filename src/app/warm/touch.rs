//! Reads the newest snapshots, and a byte of each layer that they name, so that they are not evicted for their age:
//!
//! 1. The snapshots of the branch are listed. Without a permission to list, only those are known that this job's key finds.
//! 2. Of each lane, the newest snapshot counts. One that is not trusted, or older than a month, does not.
//! 3. Each of its layers is looked up, and one byte of it is read.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use crate::base::{clock, env_vars, human};
use crate::cache::find_snapshot;
use crate::prune::newest_snapshots;
use crate::remote::github::{CacheShelf, RestConfig, Tuning};
use crate::remote::{DirectoryRemote, Kind, Location, Remote, Shelf};
use crate::series::generation_prefix;
use crate::series::sign::Keyring;
use crate::snapshot::Snapshot;

/// Most snapshots that are read, and most entries that are touched.
const SNAPSHOTS: usize = 40;
const ENTRIES: usize = 1000;
/// Number of requests at the same time.
const AT_ONCE: usize = 4;
/// Age in seconds from which a snapshot is not kept for its lanes' sake.
const OLD: u64 = 30 * 24 * 3600;

/// Where to touch.
pub(crate) struct TouchPlace<'a> {
    pub remote: &'a dyn Remote,
    /// Lists entries; None without a permission to.
    pub shelf: Option<&'a dyn Shelf>,
    /// The reference whose snapshots count; empty for all.
    pub scope: &'a str,
    pub keys: &'a Keyring,
    /// The primary key and the restore prefixes of the job.
    pub names: Vec<String>,
}

/// What was touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Touched {
    /// Number of snapshots.
    pub snapshots: u64,
    /// Their keys.
    pub keys: Vec<String>,
    /// Number of layers.
    pub entries: u64,
    /// Number of layers that the cache does not have, or that could not be read.
    pub missing: u64,
    /// Why it was not complete; null if it was.
    pub incomplete: Option<String>,
}

impl Touched {
    pub(super) fn sentence(&self) -> String {
        let (snapshots, layers) = (human::count(self.snapshots, "snapshot"), human::count(self.entries, "layer"));
        let mut text = format!("{snapshots} and {layers} of theirs read, so that they are not evicted for their age");
        if self.missing > 0 {
            text = format!("{text}; {} could not be read", human::count(self.missing, "layer"));
        }
        match &self.incomplete {
            Some(why) => format!("{text}. {why}"),
            None => format!("{text}."),
        }
    }
}

/// What lists the entries of the remote of this name; None if it cannot be listed from here. `rest` is for GitHub's cache.
pub(crate) fn shelf(name: &str, rest: Option<RestConfig>) -> Option<Box<dyn Shelf>> {
    match Location::main(name).ok()? {
        Location::Directory(path) => Some(Box::new(DirectoryRemote::named(&path).ok()?)),
        Location::Github => {
            let shelf = CacheShelf::new(&rest?, Tuning::from_env(), env_vars::ca_file().as_deref());
            Some(Box::new(shelf.inspect_err(|error| tracing::debug!("{error}")).ok()?))
        }
        Location::S3(_) => None,
    }
}

/// Touches what the newest snapshots name. Nothing here is an error: what is not touched may be evicted, no more.
pub(crate) async fn touch(place: &TouchPlace<'_>) -> Touched {
    let mut touched = Touched::default();
    if !place.remote.records_reads() {
        let place = place.remote.describe();
        touched.incomplete =
            Some(format!("Nothing was read: {place} does not record reads. Its lifecycle rules decide what stays."));
        return touched;
    }
    let prefixes =
        listed(place, &mut touched).await.unwrap_or_else(|| place.names.iter().map(|name| (name.clone(), 0)).collect());
    let mut layers = BTreeSet::new();
    let mut lanes = BTreeSet::new();
    for (prefix, age) in prefixes.into_iter().take(SNAPSHOTS) {
        let mut notes = Vec::new();
        let found = find_snapshot(place.remote, std::slice::from_ref(&prefix), place.keys, &mut notes).await;
        let Some(found) = found.ok().and_then(|search| search.found) else {
            tracing::debug!("no usable snapshot under {prefix}: {notes:?}");
            continue;
        };
        if !is_newest(&found.snapshot, &mut lanes)
            || (age > OLD && touched.snapshots > 0)
            || touched.keys.contains(&found.key)
        {
            continue;
        }
        touched.snapshots += 1;
        touched.keys.push(found.key);
        layers.extend(found.snapshot.stored.into_values().map(|stored| stored.entry));
    }
    if layers.len() > ENTRIES {
        touched.incomplete =
            Some(format!("Only the first {ENTRIES} of {} were read.", human::count(layers.len() as u64, "layer")));
    }
    let reads = layers.iter().take(ENTRIES).map(|name| read(place.remote, name));
    let read: Vec<bool> = futures_util::stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
    touched.entries = read.iter().filter(|is_read| **is_read).count() as u64;
    touched.missing = read.len() as u64 - touched.entries;
    touched
}

/// The prefixes of the newest generations in the list with their ages, the youngest first; None without a list.
async fn listed(place: &TouchPlace<'_>, touched: &mut Touched) -> Option<Vec<(String, u64)>> {
    let own = "Only the snapshots that this job's key finds were looked for, because the cache could not be listed";
    let Some(shelf) = place.shelf else {
        touched.incomplete = Some(format!("{own}: there is no token with `actions: read`."));
        return None;
    };
    match shelf.list().await {
        Ok(entries) => {
            let now = clock::now();
            let newest: BTreeMap<&str, u64> = newest_snapshots(&entries, place.scope);
            let mut all: Vec<(String, u64)> = newest
                .into_iter()
                .map(|(series, created)| (generation_prefix(series), now.saturating_sub(created)))
                .collect();
            all.sort_by(|(one, age), (other, than)| (age, one).cmp(&(than, other)));
            Some(all)
        }
        Err(error) => {
            touched.incomplete = Some(format!("{own}: {error}"));
            None
        }
    }
}

/// Whether a lane finds nothing newer. Snapshots come the youngest first.
fn is_newest(snapshot: &Snapshot, seen: &mut BTreeSet<(String, String)>) -> bool {
    let system = &snapshot.facts.system;
    let new = snapshot.lanes.keys().filter(|lane| seen.insert((system.clone(), (*lane).clone()))).count();
    new > 0
}

async fn read(remote: &dyn Remote, name: &String) -> bool {
    let found = match remote.find(Kind::Layer, std::slice::from_ref(name)).await {
        Ok(Some(entry)) if entry.name == *name => entry,
        Ok(_) => return false,
        Err(error) => {
            tracing::debug!("cannot look up {name}: {error}");
            return false;
        }
    };
    remote.read(&found, 0..1).await.inspect_err(|error| tracing::debug!("cannot read {name}: {error}")).is_ok()
}
