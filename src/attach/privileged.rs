//! Steps that may need root's rights: run in this process, or by the same program through `sudo`.
//!
//! The request is passed as JSON on standard input, and the answer as JSON on standard output. There is no shell, nothing in the
//! arguments, and nothing in the environment except what is needed to find `sudo`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

use super::detach::{Detached, detach};
use super::stream::{self, Status, StreamRequest};
use super::{CacheError, Mode, as_owner, mounted, readonly};
use crate::attach::layers::{AttachRequest, Attached, attach};
use crate::base::env_vars;
use crate::base::printing;
use crate::store::own::{LOCK, OwnFolder, work_dir};
use crate::store::{StoreDirs, ensure, own_lock};

/// A step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Create our folder beside the store, for the owner of the store, with a part of it for the calling user.
    Prepare {
        /// The store's root.
        #[serde(with = "super::raw_path::optional", default)]
        store_root: Option<PathBuf>,
        /// The calling user and group. Those that `sudo` reports take precedence.
        owner: (u32, u32),
    },
    /// Check whether layers could be attached.
    Check {
        /// The store's root.
        #[serde(with = "super::raw_path::optional", default)]
        store_root: Option<PathBuf>,
    },
    /// Start to stream layers.
    Stream(StreamRequest),
    /// Return the state of a stream.
    StreamStatus {
        /// The store's root.
        #[serde(with = "super::raw_path::optional", default)]
        store_root: Option<PathBuf>,
        /// A command that is given to it first.
        #[serde(default)]
        order: Option<stream::Command>,
    },
    /// End a stream that nothing is mounted from.
    EndStream {
        /// The store's root.
        #[serde(with = "super::raw_path::optional", default)]
        store_root: Option<PathBuf>,
    },
    /// Attach layers.
    Attach(AttachRequest),
    /// Unmount layers.
    Detach {
        /// The store's root.
        #[serde(with = "super::raw_path::optional", default)]
        store_root: Option<PathBuf>,
        /// Threads that unpack.
        threads: usize,
    },
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Prepare`].
    Prepared,
    /// To [`Request::Check`].
    Checked,
    /// To [`Request::Stream`]: the folder with the files of the layers.
    Streaming {
        /// The folder.
        #[serde(with = "super::raw_path")]
        files: PathBuf,
    },
    /// To [`Request::StreamStatus`]; None if there is no stream.
    StreamStatus(Option<Status>),
    /// To [`Request::EndStream`].
    StreamEnded,
    /// To [`Request::Attach`].
    Attached(Attached),
    /// To [`Request::Detach`].
    Detached(Detached),
    /// To any of them: why it failed.
    Refused(String),
}

/// Performs a step with the rights of this process.
///
/// # Errors
/// Those of the step.
pub fn perform(request: &Request, progress: &AtomicU64) -> Result<Answer, CacheError> {
    match request {
        Request::Prepare { store_root, owner } => {
            prepare(&StoreDirs::new(store_root.as_deref()), *owner)?;
            Ok(Answer::Prepared)
        }
        Request::Check { store_root } => {
            readonly::with_writable_store(&StoreDirs::new(store_root.as_deref()), || Ok(Answer::Checked))
        }
        Request::Stream(request) => {
            own_folder(&StoreDirs::new(request.store_root.as_deref()))?;
            Ok(Answer::Streaming { files: stream::start(request)? })
        }
        Request::StreamStatus { store_root, order } => {
            let places = mounted::places(&StoreDirs::new(store_root.as_deref()));
            Ok(Answer::StreamStatus(stream::control(&places, order.as_ref())))
        }
        Request::EndStream { store_root } => {
            stream::end(&mounted::places(&StoreDirs::new(store_root.as_deref())));
            Ok(Answer::StreamEnded)
        }
        Request::Attach(request) => {
            own_folder(&StoreDirs::new(request.store_root.as_deref()))?;
            Ok(Answer::Attached(attach(request, progress)?))
        }
        Request::Detach { store_root, threads } => {
            let dirs = StoreDirs::new(store_root.as_deref());
            own_folder(&dirs)?;
            Ok(Answer::Detached(detach(&dirs, *threads)?))
        }
    }
}

fn prepare(dirs: &StoreDirs, caller: (u32, u32)) -> Result<(), CacheError> {
    as_owner(dirs, || ensure(dirs))?;
    let folder = own_folder(dirs)?;
    let failed = |error| CacheError::File { what: "Cannot make", path: dirs.own_dir(), error };
    folder.lock_file().map_err(failed)?;
    let (user, group) = sudo_caller().unwrap_or(caller);
    if rustix::process::geteuid().is_root() && user != 0 && dirs.owner()?.0 != user {
        folder.make_for_user(user, group).map_err(failed)?;
    }
    if mounted::is_stale(dirs) || mounted::is_unfinished(dirs) {
        // Another restore may be about to mount, or a detach may be running: check its leftovers after it has finished.
        let _lock = own_lock(dirs)?;
        if mounted::is_stale(dirs) {
            tracing::info!("Layers that were mounted are no longer mounted, so their paths are no longer valid.");
            detach(dirs, threads())?;
        } else if mounted::is_unfinished(dirs) {
            tracing::info!("An earlier detach was interrupted and is finished first.");
            // This fails while the store is in use. Nothing is lost, and restored paths are unpacked beside it.
            if let Err(error) = detach(dirs, threads()) {
                tracing::warn!("{error} Run `nix-cache detach` when the store is not in use.");
            }
        }
    }
    Ok(())
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Opens our folder as its owner, and creates it if missing.
fn own_folder(dirs: &StoreDirs) -> Result<OwnFolder, CacheError> {
    let failed = |error| CacheError::File { what: "Cannot make", path: dirs.own_dir(), error };
    // The owner of the store may not own the folder above it.
    let made = as_owner(dirs, || OwnFolder::make(dirs).map(drop).map_err(failed));
    let folder = OwnFolder::make(dirs).map_err(failed);
    let folder = folder.or_else(|error| made.and(Err(error)))?;
    folder.hand_over().map_err(failed)?;
    Ok(folder)
}

/// The user and group that called `sudo`, if this process was started that way.
pub(super) fn sudo_caller() -> Option<(u32, u32)> {
    let read = |name| std::env::var(name).ok()?.parse().ok();
    Some((read(env_vars::SUDO_UID)?, read(env_vars::SUDO_GID)?)).filter(|_| rustix::process::geteuid().is_root())
}

/// The user who called `sudo`, who may do everything that root may.
pub(crate) fn sudo_user() -> Option<u32> {
    sudo_caller().map(|(user, _)| user)
}

/// Performs a step, through `sudo` if this process lacks the rights. Layers that cannot be mounted then are unpacked, if this
/// process may do that.
///
/// # Errors
/// Those of the step, and that of `sudo` where it is needed and does not work without a password.
pub(crate) fn run(dirs: &StoreDirs, request: &Request, progress: &AtomicU64) -> Result<Answer, CacheError> {
    if may_run(dirs, request) {
        return perform(request, progress);
    }
    match (through_sudo(request), request) {
        (Err(error @ (CacheError::Privilege(_) | CacheError::Step(_))), Request::Attach(request))
            if may_unpack(dirs) =>
        {
            let mut attached = attach(&AttachRequest { mode: Mode::Unpack, ..request.clone() }, progress)?;
            attached.not_mounted = Some(match error {
                CacheError::Privilege(why) => format!("It needs root's rights, but `sudo` failed: {why}"),
                error => error.to_string().trim_end_matches('.').to_owned(),
            });
            Ok(Answer::Attached(attached))
        }
        (answer, _) => answer,
    }
}

fn may_run(dirs: &StoreDirs, request: &Request) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    match request {
        Request::Prepare { .. } => {
            let (own, work) = (dirs.own_dir(), work_dir(dirs));
            let may_make = own.parent().is_none_or(|parent| is_writable(parent) || !parent.exists());
            let has_lock = own.join(LOCK).exists() || is_writable(&own);
            ((is_writable(&work) && has_lock) || (!own.exists() && may_make))
                && (!mounted::is_stale(dirs) || may_unpack(dirs))
                && !mounted::is_unfinished(dirs)
        }
        Request::Check { .. } => may_unpack(dirs),
        Request::Stream(_) | Request::EndStream { .. } => false,
        Request::StreamStatus { .. } => !stream::exists(&mounted::places(dirs)),
        Request::Attach(request) => request.mode == Mode::Unpack && may_unpack(dirs),
        Request::Detach { .. } => mounted::is_plain(dirs) || (mounted::is_stale(dirs) && may_unpack(dirs)),
    }
}

/// Returns whether there is nothing to detach, and not even our folder.
pub(crate) fn is_plain(dirs: &StoreDirs) -> bool {
    dirs.own_dir().symlink_metadata().is_err() && mounted::is_plain(dirs)
}

fn may_unpack(dirs: &StoreDirs) -> bool {
    is_writable(&dirs.real_store()) && is_writable(&dirs.state_dir().join("db"))
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

fn through_sudo(request: &Request) -> Result<Answer, CacheError> {
    let failed = |why: String| CacheError::Privilege(why);
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new("sudo");
    command.args(["-n", "--"]).arg(program).args(["privileged"]).env_clear();
    for name in [env_vars::PATH, env_vars::HOME, env_vars::TERM, env_vars::NIX_CACHE_LOG] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[allow(clippy::disallowed_methods, reason = "all it prints goes through pipes")]
    let started = command.spawn();
    let mut child = started.map_err(|error| failed(format!("`sudo` cannot be run: {error}")))?;
    let said = child.stderr.take().map(printing::relay);
    let body = serde_json::to_vec(request).map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // If it exits before it has read everything, its exit code says why.
        let _ = input.write_all(&body);
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    // Print all of its log before reporting its result.
    let _ = said.map(std::thread::JoinHandle::join);
    if !output.status.success() {
        return Err(failed(format!("the step that needs root ended with {}", output.status)));
    }
    match serde_json::from_slice(&output.stdout) {
        // It had the rights, so the cause is something else.
        Ok(Answer::Refused(why)) => Err(CacheError::Step(why)),
        answer => answer.map_err(|error| failed(format!("its answer is invalid: {error}"))),
    }
}
