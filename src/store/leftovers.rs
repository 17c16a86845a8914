//! Cleans up after killed processes in our folder.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::own::{NEW_PREFIX, OwnFolder, PACKING_PREFIX};

impl OwnFolder {
    /// Removes partly packed or written files of killed processes, that is, files that no living process has locked.
    pub(crate) fn remove_leftovers(&self) {
        for name in self.names().unwrap_or_default() {
            if !is_packing(&name) && !name.starts_with(NEW_PREFIX) {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = rustix::fs::openat(&self.fd, &*name, flags, Mode::empty()) else { continue };
            let is_free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            let is_left = File::from(file).metadata().is_ok_and(|metadata| {
                // A new file is locked a moment after its creation.
                metadata.is_file() && (metadata.len() > 0 || !is_made_by_somebody(&name))
            });
            if is_free && is_left && self.remove(&name).is_ok() {
                tracing::debug!("removed {}, which a killed process left behind", self.path.join(&name).display());
            }
        }
    }
}

/// Returns whether the process whose number is in the name of a file is alive.
fn is_made_by_somebody(name: &str) -> bool {
    let process = name.split('-').nth(1).filter(|process| !process.is_empty());
    process.is_some_and(|process| Path::new("/proc").join(process).exists())
}

/// Returns whether a file is a layer that a process is packing: its name contains the number of the process.
fn is_packing(name: &str) -> bool {
    let rest = name.strip_prefix(PACKING_PREFIX).and_then(|rest| rest.split_once('-'));
    rest.is_some_and(|(process, _)| process.parse::<u32>().is_ok())
}
