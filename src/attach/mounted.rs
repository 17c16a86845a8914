//! The record of mounted layers, for detaching them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::attach::mount::{self, Places};
use crate::attach::stream;
use crate::store::own::{KEPT, MOUNTED, OwnFolder};
use crate::store::{PathInfo, Realisation, StoreDirs, shared_infos};

/// The mounted layers and the paths that they made valid.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Mounted {
    /// Their files, by name, in the folder of [`Places`] for them.
    pub layers: Vec<String>,
    /// The paths, as they were registered.
    #[serde(with = "shared_infos")]
    pub paths: Vec<Arc<PathInfo>>,
    /// Paths that a detach has unregistered until they are on the store's own side. If it is killed, the next detach finishes them.
    #[serde(default)]
    pub aside: Vec<PathInfo>,
    #[serde(default)]
    pub realisations: Vec<Realisation>,
}

pub(crate) fn store(dirs: &StoreDirs, mounted: &Mounted) -> io::Result<()> {
    OwnFolder::make(dirs)?.write_json(MOUNTED, mounted)
}

/// Reads the record. An unreadable record counts as missing: then a detach determines what is mounted.
pub(crate) fn load(dirs: &StoreDirs) -> Option<Mounted> {
    let read = OwnFolder::open(dirs).and_then(|folder| folder.map_or(Ok(None), |folder| folder.read_json(MOUNTED)));
    match read {
        Ok(found) => found,
        Err(error) => {
            let place = dirs.own_dir().join(MOUNTED);
            tracing::warn!(
                "{} cannot be used: {error}. The mounted layers are determined from the mounts.",
                place.display()
            );
            None
        }
    }
}

/// Returns whether there is a record or any trace of a mount.
pub(crate) fn has_traces(dirs: &StoreDirs, places: &Places) -> bool {
    let has_layers = || places.layers.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let is_left = || has_layers() || stream::exists(places);
    dirs.own_dir().join(MOUNTED).symlink_metadata().is_ok() || (rustix::process::geteuid().is_root() && is_left())
}

/// Removes the record and the files of the layers.
pub(crate) fn forget(dirs: &StoreDirs, places: &Places) {
    let removed = OwnFolder::open(dirs).and_then(|folder| match folder {
        Some(folder) => {
            folder.remove(KEPT)?;
            // A user cannot remove root's files.
            let removed = mount::remove_folder(places);
            folder.remove(MOUNTED).and(removed)
        }
        None => Ok(()),
    });
    if let Err(error) = removed {
        // It only takes space: nothing is mounted.
        tracing::debug!("Traces of mounted layers stay: {error}");
    }
}

/// The mount points for this store.
pub(crate) fn places(dirs: &StoreDirs) -> Places {
    Places::new(&dirs.real_store(), &dirs.own_dir())
}

/// Returns whether layers were mounted and no longer are, as after a restart of the machine: the database then considers missing
/// paths valid.
pub(crate) fn is_stale(dirs: &StoreDirs) -> bool {
    has_traces(dirs, &places(dirs)) && places(dirs).is_mounted().is_ok_and(|is_mounted| !is_mounted)
}

/// Returns whether layers are mounted and a detach of them was interrupted after it unregistered paths that should stay.
pub(crate) fn is_unfinished(dirs: &StoreDirs) -> bool {
    let is_mounted = places(dirs).is_mounted().is_ok_and(|is_mounted| is_mounted);
    is_mounted && load(dirs).is_some_and(|state| !state.aside.is_empty() || !state.realisations.is_empty())
}

/// Returns whether there is nothing for [`detach`] to do.
pub(crate) fn is_plain(dirs: &StoreDirs) -> bool {
    !has_traces(dirs, &places(dirs)) && places(dirs).is_mounted().is_ok_and(|is_mounted| !is_mounted)
}

/// Waits until a deleted and rebuilt path cannot get the registration time in `infos` again: the database counts in seconds, and a
/// detach distinguishes the two by this time. It waits only for paths that another job registered within this second.
pub(crate) fn outwait<'a>(infos: impl Iterator<Item = &'a PathInfo>) {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return };
    let this_second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if infos.map(|info| info.registration_time).any(|time| time == this_second) {
        std::thread::sleep(Duration::from_secs(1).saturating_sub(Duration::from_nanos(now.subsec_nanos().into())));
    }
}
