//! Streaming: layers are mounted before their bytes are here, and the bytes are fetched when they are read.
//!
//! The file of each layer is a file of a FUSE mount of our own. A loop device, squashfs and the overlay are on top of it as if it
//! had been downloaded, and the image is checked in the same way before it is mounted.
//!
//! 1. A privileged step starts a **guard** ([`guard`]): in a session of its own, so that it survives the step. It mounts the
//!    folder with the files, and keeps the descriptor of `/dev/fuse` and the local file for what has arrived.
//! 2. The guard starts a **worker** ([`server`]), which fetches and answers, with the rights of the user who called `sudo`. If a
//!    worker dies, the next one continues: reads wait meanwhile, because squashfs remembers errors.
//! 3. The plan with the addresses and the token goes through pipes. It is in no argument, environment or file.
//! 4. The mount ends with a detach, or with the machine.

mod ahead;
mod blobs;
mod control;
mod elsewhere;
mod fill;
mod fuse;
mod guard;
mod patience;
mod plan;
mod probe;
mod server;
mod status;
mod touched;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use control::Command;
pub(crate) use guard::guard;
pub use plan::{Blob, StreamPlan, StreamedLayer};
pub(crate) use server::serve;
pub use status::{LostChunks, Status};

use super::mount::{MountError, Places, refused};
use super::mounted::places;
use crate::base::digest::Sha;
use crate::base::env_vars;
use crate::base::platform::{UnmountFlags, unmount};
use crate::store::StoreDirs;
use control::{CONTROL, command};
use guard::Order;
use probe::PROBE;

/// Where folders of streams are: only root can change it.
const FOLDERS: &str = "/run";
/// The name of the mount in such a folder.
const FILES: &str = "files";
/// The name of the log of guard and worker there.
const LOG: &str = "log";
/// Longest time until the mount is there.
const STARTING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// A request to start a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StreamRequest {
    /// The store's root.
    #[serde(with = "super::raw_path::optional", default)]
    pub store_root: Option<PathBuf>,
    /// What is streamed.
    pub plan: StreamPlan,
}

/// Starts a stream for a store, and returns the folder with the files of the layers. An earlier one ends.
///
/// # Errors
/// When this machine cannot do it. Nothing is left then.
pub(super) fn start(request: &StreamRequest) -> Result<PathBuf, MountError> {
    let dirs = StoreDirs::new(request.store_root.as_deref());
    let places = places(&dirs);
    end(&places);
    if !rustix::process::geteuid().is_root() {
        return Err(MountError::Unsuitable("only root can mount".into()));
    }
    let prefix = prefix(&places).map_err(refused("Finding the folder of the store"))?;
    let mut builder = tempfile::Builder::new();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let folder = builder.prefix(&prefix).permissions(permissions).tempdir_in(FOLDERS);
    let folder = folder.map_err(refused(format!("Making a folder in {FOLDERS}")))?.keep();
    let started = start_in(&folder, &places, request).and_then(|files| probe::test(&folder, &files).map(|()| files));
    if started.is_err() {
        end_at(&folder);
    }
    started.map_err(refused("Starting the server for streaming"))
}

#[allow(clippy::disallowed_methods, reason = "it prints to a file of its own")]
fn start_in(folder: &Path, places: &Places, request: &StreamRequest) -> io::Result<PathBuf> {
    let files = folder.join(FILES);
    DirBuilder::new().mode(0o755).create(&files)?;
    let log = OpenOptions::new().append(true).create_new(true).mode(0o600).open(folder.join(LOG))?;
    let disk = places.folder.parent().unwrap_or(&places.folder).to_owned();
    let worker = super::privileged::sudo_caller().filter(|(user, _)| *user != 0);
    let order = Order { folder: folder.to_owned(), disk, worker, plan: request.plan.clone() };
    // The file of this program may be replaced or removed while the guard runs.
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(["stream", "guard"]).env_clear();
    command.envs(std::env::var_os(env_vars::NIX_CACHE_LOG).map(|value| (env_vars::NIX_CACHE_LOG, value)));
    let mut child = command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&serde_json::to_vec(&order)?)?;
    }
    let start = Instant::now();
    loop {
        match fs::symlink_metadata(files.join(CONTROL)) {
            Ok(_) => return Ok(files),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        if child.try_wait()?.is_some() || start.elapsed() > STARTING {
            let _ = child.kill(); // it may have ended
            let _ = child.wait();
            let said = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
            let said = said.lines().last().unwrap_or("it did not answer").to_owned();
            return Err(io::Error::other(said));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The beginning of the names of folders for a store.
fn prefix(places: &Places) -> io::Result<String> {
    let own = places.folder.parent().unwrap_or(&places.folder).metadata()?;
    Ok(format!("nix-cache-stream-{}-{}.", own.dev(), own.ino()))
}

/// The folders of streams for a store; there is at most one, except after a crash.
fn folders(places: &Places) -> Vec<PathBuf> {
    let Ok(prefix) = prefix(places) else { return Vec::new() };
    let listed = fs::read_dir(FOLDERS).into_iter().flatten().flatten();
    let ours = listed.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|entry| entry.path()).collect()
}

/// Returns whether a stream for a store is there, running or not.
pub(crate) fn exists(places: &Places) -> bool {
    !folders(places).is_empty()
}

/// Returns whether layers are streamed to a store.
pub(crate) fn is_running(dirs: &StoreDirs) -> bool {
    exists(&places(dirs))
}

/// The files of the layers that are streamed to a store.
pub(crate) fn files(places: &Places) -> Vec<PathBuf> {
    let listed = folders(places).into_iter().filter_map(|folder| fs::read_dir(folder.join(FILES)).ok());
    let is_layer = |file: &PathBuf| {
        file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<Sha>().is_ok())
    };
    listed.flatten().flatten().map(|entry| entry.path()).filter(is_layer).collect()
}

/// Returns whether a file is one of a stream: it cannot be moved, and nobody but root could have put it there.
pub(crate) fn is_streamed(file: &Path) -> bool {
    let folder = file.parent().filter(|files| files.ends_with(FILES)).and_then(Path::parent);
    folder.is_some_and(|folder| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        folder.parent() == Some(Path::new(FOLDERS)) && name.starts_with("nix-cache-stream-")
    })
}

/// Ends the streams of a store. Nothing must be mounted from them any more.
pub(crate) fn end(places: &Places) {
    for folder in folders(places) {
        end_at(&folder);
    }
}

fn end_at(folder: &Path) {
    // Copies of the mount in other namespaces must not keep the worker.
    if let Err(error) = command(&folder.join(FILES), &Command::End) {
        tracing::debug!("the stream at {} does not take a command: {error}", folder.display());
    }
    let _ = unmount(folder.join(FILES), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW); // it may not be mounted
    // A self-test that was cut off.
    let _ = unmount(folder.join(PROBE), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW); // it may not be there
    let _ = fs::remove_dir(folder.join(PROBE)); // nor this
    // What was killed while it began may have made only a part of it.
    let _ = fs::remove_file(folder.join(LOG));
    let _ = fs::remove_dir(folder.join(FILES));
    if let Err(error) = fs::remove_dir(folder) {
        tracing::debug!("{} stays: {error}", folder.display());
    }
}

/// Sends a command, if there is one, to the worker of the stream of a store, and returns its state; None if there is no stream.
pub(super) fn control(places: &Places, order: Option<&Command>) -> Option<Status> {
    folders(places).into_iter().find_map(|folder| {
        let files = folder.join(FILES);
        if let Some(order) = order
            && let Err(error) = command(&files, order)
        {
            tracing::debug!("the stream does not take the command {order:?}: {error}");
        }
        // A folder that something killed has left behind has no server.
        control::status(&files)
    })
}

/// Asks for parts of a streamed layer that are probably read.
pub(crate) fn fetch_first(places: &Places, layer: Sha, spans: &[(u64, u64)]) {
    for folder in folders(places) {
        if let Err(error) = control::fetch_first(&folder.join(FILES), layer, spans) {
            tracing::debug!("the stream does not take what is probably read: {error}");
        }
    }
}

/// Lets the stream of a store fetch everything else, besides what is asked for.
pub(crate) fn fill(places: &Places) {
    for folder in folders(places) {
        if let Err(error) = command(&folder.join(FILES), &Command::Fill) {
            tracing::debug!("the stream begins with the rest only later: {error}");
        }
    }
}
