//! How layers get into the store: streamed or mounted if the machine is created for one job, otherwise unpacked.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use super::Context;
use super::outcome::RestoreOutcome;
use crate::attach::privileged::{self, Request};
use crate::attach::{CacheError, Mode, readonly};
use crate::base::note::{Code, Note};
use crate::store::StoreDirs;

/// The mode that the user requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModeRequest {
    /// Depends on the machine.
    Auto {
        /// Whether the machine is created for this job and discarded after it.
        is_hosted: bool,
    },
    /// Mount, and fetch what is read; otherwise as [`ModeRequest::Mount`].
    Stream,
    /// Download and mount, if the kernel can.
    Mount,
    /// Unpack.
    Unpack,
}

/// Why nothing is mounted on other systems.
const ONLY_LINUX: &str = "layers can be mounted only on Linux";
/// Why nothing is mounted if the store directory is read-only.
const READ_ONLY: &str = "the store directory is mounted read-only";

/// The mode to try, and a short reason.
pub(super) fn choose(request: ModeRequest, dirs: &StoreDirs) -> (Mode, &'static str) {
    match request {
        ModeRequest::Mount | ModeRequest::Stream if !cfg!(target_os = "linux") => (Mode::Unpack, ONLY_LINUX),
        // An overlay would require the directory to be writable for everybody.
        ModeRequest::Mount | ModeRequest::Stream if readonly::is_read_only(dirs) => (Mode::Unpack, READ_ONLY),
        ModeRequest::Stream => (Mode::Stream, "asked for"),
        ModeRequest::Mount => (Mode::Mount, "asked for"),
        ModeRequest::Unpack => (Mode::Unpack, "asked for"),
        ModeRequest::Auto { is_hosted: false } => (Mode::Unpack, "the store outlives the job"),
        ModeRequest::Auto { is_hosted: true } => match lacking() {
            Some(why) => (Mode::Unpack, why),
            None if readonly::is_read_only(dirs) => (Mode::Unpack, READ_ONLY),
            None => (Mode::Stream, "a GitHub-hosted machine"),
        },
    }
}

/// The mode to try, if this user has the rights for it or for unpacking. Otherwise None, with a warning before anything unusable is
/// downloaded.
pub(super) async fn mode_with_rights(
    context: &Context,
    outcome: &mut RestoreOutcome,
) -> Result<Option<Mode>, CacheError> {
    let (mode, why) = choose(context.place.mode, &context.place.dirs);
    if mode == Mode::Unpack && matches!(context.place.mode, ModeRequest::Mount | ModeRequest::Stream) {
        outcome.notes.push(Note::info(Code::NotMounted, format!("Layers are unpacked instead of mounted: {why}.")));
    }
    tracing::info!("Layers will be attached by {}: {why}.", mode.word());
    let dirs = context.place.dirs.clone();
    let request = Request::Check { store_root: dirs.root().map(Into::into) };
    let checked = tokio::task::spawn_blocking(move || privileged::run(&dirs, &request, &AtomicU64::new(0))).await?;
    if let Err(error) = checked {
        outcome.notes.push(Note::warn(Code::CannotAttach, format!("Nothing is restored. {error}")));
        return Ok(None);
    }
    Ok(Some(mode))
}

/// What the machine lacks for mounting, as far as can be told without trying.
fn lacking() -> Option<&'static str> {
    let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists());
    if in_container {
        return Some("nothing can be mounted inside a container");
    }
    if !cfg!(target_os = "linux") {
        return Some(ONLY_LINUX);
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices");
    }
    // A file system in a module is not listed before its first use; then only the attempt to mount shows.
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_modules = Path::new("/proc/modules").exists();
    let lacks = |name: &str| !known.lines().any(|line| line.trim_start_matches("nodev").trim() == name);
    if !has_modules && (lacks("squashfs") || lacks("overlay")) {
        return Some("the kernel has no squashfs or no overlay");
    }
    None
}
