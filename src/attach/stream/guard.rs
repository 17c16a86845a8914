//! The guard: holds what must not be lost while a job runs, and starts a worker again when it dies.
//!
//! It does nothing else, so that there is little that can make it fail. It ends when the worker ends by itself: after an unmount, or
//! on a command. If workers keep dying at once, it gives up, and reads fail instead of waiting forever.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::plan::{Layout, StreamPlan};
use super::{FILES, LOG, fuse};
use crate::base::env_vars;
use crate::base::platform::{MountFlags, UnmountFlags, mount, needed_for_memory, unmount};
use crate::base::printing;

/// A worker that dies sooner than this did nothing useful.
const USEFUL: Duration = Duration::from_secs(2);
/// After this time with nothing but such workers, the guard gives up. A machine without memory for a process may have some again before.
const HOPELESS: Duration = Duration::from_mins(5);
/// Number of such workers in a row that something killed, after which it gives up.
const KILLED: u32 = 1000;
/// The pause for each that failed by itself, and the longest one.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a guard is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Order {
    /// The folder of the stream.
    #[serde(with = "crate::attach::raw_path")]
    pub folder: PathBuf,
    /// A folder on the disk for the local file.
    #[serde(with = "crate::attach::raw_path")]
    pub disk: PathBuf,
    /// User and group of workers; None for those of the guard.
    pub worker: Option<(u32, u32)>,
    /// What is streamed.
    pub plan: StreamPlan,
}

/// Guards the stream that standard input describes, until it ends.
///
/// # Errors
/// When it cannot begin.
pub(crate) fn guard() -> Result<(), String> {
    let order: Order = serde_json::from_reader(io::stdin().lock()).map_err(|error| error.to_string())?;
    if !order.plan.is_sound() {
        return Err("the plan contradicts itself".into());
    }
    detach_from_caller();
    let prepared = prepare(&order).map_err(|error| error.to_string());
    let (fuse, local) = prepared?;
    watch(&order, &fuse, &local);
    // Readers that are left get an error when the descriptor closes.
    drop(fuse);
    let _ = unmount(order.folder.join(FILES), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW); // a detach was faster
    let _ = fs::remove_file(order.folder.join(LOG));
    let _ = fs::remove_dir(order.folder.join(FILES)).and_then(|()| fs::remove_dir(&order.folder));
    Ok(())
}

/// Survives the end of the step that started it, and the lack of memory.
fn detach_from_caller() {
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!("no session of its own: {error}");
    }
    // Writing back to the disk may have to wait for this process when memory is short.
    if let Err(error) = needed_for_memory() {
        tracing::debug!("not marked as needed for memory: {error}");
    }
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-1000") {
        tracing::debug!("not protected from the lack of memory: {error}");
    }
}

/// Mounts the folder with the files, and creates the local file.
fn prepare(order: &Order) -> io::Result<(OwnedFd, File)> {
    let local = tempfile::tempfile_in(&order.disk)?;
    local.set_len(Layout::of(&order.plan).size)?;
    let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40555,user_id=0,group_id=0,allow_other,default_permissions,max_read={}",
        fuse.as_raw_fd(),
        fuse::MAX_READ
    );
    let options = std::ffi::CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    mount("nix-cache", order.folder.join(FILES), "fuse.nix-cache", flags, &*options)?;
    Ok((fuse.into(), local))
}

/// Starts workers until one ends by itself.
fn watch(order: &Order, fuse: &OwnedFd, local: &File) {
    let plan = serde_json::to_vec(&order.plan).unwrap_or_default();
    let (mut failed, mut killed, mut useful) = (0, 0, Instant::now());
    loop {
        let start = Instant::now();
        match work(order, &plan, fuse, local) {
            Ok(End::Done) => return,
            Ok(End::Killed) => {
                tracing::warn!("The worker was killed and is started again.");
                killed += 1;
            }
            Ok(End::Failed) => {
                tracing::warn!("The worker failed and is started again.");
                failed += 1;
            }
            Err(error) => {
                tracing::warn!("No worker can be started: {error}");
                failed += 1;
            }
        }
        if start.elapsed() >= USEFUL {
            (failed, killed, useful) = (0, 0, Instant::now());
        }
        if (failed > 0 && useful.elapsed() >= HOPELESS) || killed >= KILLED {
            tracing::error!("Workers keep dying. Nothing more of the layers can be read.");
            return;
        }
        std::thread::sleep((PAUSE * failed).min(LONGEST_PAUSE));
    }
}

/// The end of a worker.
enum End {
    /// Nothing is left to do.
    Done,
    Failed,
    /// By another process, or for lack of memory.
    Killed,
}

/// Runs one worker to its end.
#[allow(clippy::disallowed_methods, reason = "what it prints is relayed")]
fn work(order: &Order, plan: &[u8], fuse: &OwnedFd, local: &File) -> io::Result<End> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["stream", "worker"]).env_clear().current_dir("/");
    // glibc would keep tens of megabytes of freed buffers, for each thread. But those of a few MiB are used again: if they were returned
    // each time, the kernel would fill three times as many bytes with zeros as are streamed.
    let tunables = "glibc.malloc.mmap_threshold=8388608:glibc.malloc.trim_threshold=8388608:glibc.malloc.arena_max=1";
    command.env(env_vars::GLIBC_TUNABLES, tunables);
    command.envs(std::env::var_os(env_vars::NIX_CACHE_LOG).map(|value| (env_vars::NIX_CACHE_LOG, value)));
    // It takes these rights itself. A process that starts with a user's rights can be inspected by that user until it forbids it.
    if let Some((user, group)) = order.worker {
        command.args([user.to_string(), group.to_string()]);
    }
    command.stdin(Stdio::from(fuse.try_clone()?)).stdout(Stdio::from(local.try_clone()?));
    let mut child = command.stderr(Stdio::from(OwnedFd::from(theirs))).spawn()?;
    // Our copy of the other end must close, or the relay never ends.
    drop(command);
    let sent = ours.write_all(plan).and_then(|()| ours.shutdown(Shutdown::Write));
    let relay = printing::relay(ours);
    let status = child.wait()?;
    let _ = relay.join();
    sent?;
    Ok(match status.signal() {
        _ if status.success() => End::Done,
        Some(9) => End::Killed,
        _ => End::Failed,
    })
}
