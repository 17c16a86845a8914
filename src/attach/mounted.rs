//! What is mounted, written down for whoever detaches it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::attach::mount::{self, Places};
use crate::store::own::{KEPT, MOUNTED, OwnFolder};
use crate::store::{PathInfo, Realisation, StoreDirs, shared_infos};

/// The layers that are mounted and the paths that are valid because of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Mounted {
    /// Their files, by name, in the folder of [`Places`] for them.
    pub layers: Vec<String>,
    /// The paths, as they were registered.
    #[serde(with = "shared_infos")]
    pub paths: Vec<Arc<PathInfo>>,
    /// Paths that a detach took out of the database until they are on the store's own side. One that is killed leaves them for the
    /// next.
    #[serde(default)]
    pub aside: Vec<PathInfo>,
    /// The realisations that went with them.
    #[serde(default)]
    pub realisations: Vec<Realisation>,
}

pub(crate) fn store(dirs: &StoreDirs, mounted: &Mounted) -> io::Result<()> {
    OwnFolder::make(dirs)?.write_json(MOUNTED, mounted)
}

/// What was written down. What cannot be read is as good as nothing: a detach then finds out what is mounted.
pub(crate) fn load(dirs: &StoreDirs) -> Option<Mounted> {
    let read = OwnFolder::open(dirs).and_then(|folder| folder.map_or(Ok(None), |folder| folder.read_json(MOUNTED)));
    match read {
        Ok(found) => found,
        Err(error) => {
            let place = dirs.own_dir().join(MOUNTED);
            tracing::warn!(
                "{} cannot be used: {error}. What is mounted is found out from the mounts.",
                place.display()
            );
            None
        }
    }
}

/// Whether anything was written down, or is left of a mount.
pub(crate) fn has_traces(dirs: &StoreDirs, places: &Places) -> bool {
    let has_layers = || places.layers.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    dirs.own_dir().join(MOUNTED).symlink_metadata().is_ok() || (rustix::process::geteuid().is_root() && has_layers())
}

/// Forgets what was mounted, with the files of the layers.
pub(crate) fn forget(dirs: &StoreDirs, places: &Places) {
    let removed = OwnFolder::open(dirs).and_then(|folder| match folder {
        Some(folder) => {
            folder.remove(KEPT)?;
            // A user cannot remove what root left.
            let removed = mount::remove_folder(places);
            folder.remove(MOUNTED).and(removed)
        }
        None => Ok(()),
    });
    if let Err(error) = removed {
        // It costs space, no more: nothing is mounted.
        tracing::debug!("Traces of mounted layers stay: {error}");
    }
}

/// Where things are mounted for this store.
pub(crate) fn places(dirs: &StoreDirs) -> Places {
    Places::new(&dirs.real_store(), &dirs.own_dir())
}

/// Whether layers were mounted and are not any more, as after a restart of the machine: the database then takes paths for
/// valid that are gone.
pub(crate) fn is_stale(dirs: &StoreDirs) -> bool {
    has_traces(dirs, &places(dirs)) && places(dirs).is_mounted().is_ok_and(|is_mounted| !is_mounted)
}

/// Whether layers are mounted and a detach of them broke off: it took paths out of the database that are to come back.
pub(crate) fn is_unfinished(dirs: &StoreDirs) -> bool {
    let is_mounted = places(dirs).is_mounted().is_ok_and(|is_mounted| is_mounted);
    is_mounted && load(dirs).is_some_and(|state| !state.aside.is_empty() || !state.realisations.is_empty())
}

/// Whether there is nothing that [`detach`] would change.
pub(crate) fn is_plain(dirs: &StoreDirs) -> bool {
    !has_traces(dirs, &places(dirs)) && places(dirs).is_mounted().is_ok_and(|is_mounted| !is_mounted)
}

/// Waits until a path that is deleted and made anew cannot get the registration time that it has in `infos`: the database
/// counts in seconds, and a detach tells by the time which one is there. Only what was registered this very second, in
/// another job, is waited for.
pub(crate) fn outwait<'a>(infos: impl Iterator<Item = &'a PathInfo>) {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return };
    let this_second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if infos.map(|info| info.registration_time).any(|time| time == this_second) {
        std::thread::sleep(Duration::from_secs(1).saturating_sub(Duration::from_nanos(now.subsec_nanos().into())));
    }
}
