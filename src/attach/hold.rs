//! Moves the files of layers out of the reach of other processes before they are mounted.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::privileged::sudo_user;
use crate::attach::anchor::Anchor;
use crate::attach::layers::AttachLayer;
use crate::attach::mount::Places;
use crate::attach::stream::is_streamed;

/// Moves the files of layers to a place where nothing else accesses them. A later download of the same layer would otherwise
/// overwrite the mounted file.
pub(crate) fn hold(places: &Places, layers: &[AttachLayer]) -> std::io::Result<Vec<AttachLayer>> {
    let anchor = Anchor::make(places)?;
    anchor.make_folder("layers")?;
    let mut held = Vec::new();
    for layer in layers {
        if is_streamed(&layer.file) {
            held.push(layer.clone());
            continue;
        }
        let file = held_file(places, layer);
        let place = anchor.at("layers").join(layer.id.to_string());
        if let Err(error) = take(&layer.file, &place) {
            give_back(&held, layers);
            return Err(error);
        }
        held.push(AttachLayer { file, ..layer.clone() });
    }
    Ok(held)
}

pub(crate) fn held_file(places: &Places, layer: &AttachLayer) -> PathBuf {
    if is_streamed(&layer.file) { layer.file.clone() } else { places.layers.join(layer.id.to_string()) }
}

/// Moves a file to a place that only root can access. A file with a second hard link, or of a user other than the caller, could
/// be changed while it is mounted.
fn take(from: &Path, to: &Path) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, from, flags, Mode::empty())?);
    let found = file.metadata()?;
    let is_trusted = found.uid() == 0 || Some(found.uid()) == sudo_user() || !rustix::process::geteuid().is_root();
    if !found.is_file() || found.nlink() != 1 || found.mode() & 0o022 != 0 || !is_trusted {
        let why = format!("{} is not a file that only this user can write to", from.display());
        return Err(std::io::Error::other(why));
    }
    fs::rename(from, to)?;
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(&file, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444))?;
    }
    let there = fs::symlink_metadata(to)?;
    if (there.dev(), there.ino(), there.nlink()) != (found.dev(), found.ino(), 1) {
        return Err(std::io::Error::other(format!("{} was replaced meanwhile", from.display())));
    }
    Ok(())
}

pub(crate) fn give_back(held: &[AttachLayer], layers: &[AttachLayer]) {
    for (held, layer) in held.iter().zip(layers).filter(|(_, layer)| !is_streamed(&layer.file)) {
        if let Err(error) = fs::rename(&held.file, &layer.file) {
            tracing::warn!(
                "The layer {} cannot be used: {} cannot be moved back: {error}.",
                layer.id,
                held.file.display()
            );
        }
    }
}
