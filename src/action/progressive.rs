//! Saving while the job runs: the main step starts a process for it ([`super::checkpoints`]), and the post step ends it.
//!
//! 1. It starts only where the post step would save, whether or not the job fails: not with `save: on-success`, without the right to
//!    write, or where the cost guard keeps from saving.
//! 2. Tokens, addresses, keys and logins for binary caches reach it through a socket. They are in no argument, environment or file, and
//!    no other process of the user can read its memory.
//! 3. The post step asks it to end with a file in our folder, and waits until it has released its lock.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::checkpoints::take_turn;
use super::inputs::{ProgressiveWhen, SaveWhen};
use super::job::{Job, Lookup, Place, STATE_KEY, style};
use super::{fill, guard};
use crate::app::Failure;
use crate::base::child::{is_login, without_secrets};
use crate::base::env_vars;
use crate::base::process::Process;
use crate::base::secrets;
use crate::cache;
use crate::github::{annotate, state};
use crate::report::Action;
use crate::store::own::{self, CHECKPOINTS_LOG, OwnFolder};

/// Longest wait for the process to end: the time that it has for a save under way, and some for the rest.
const WAIT: Duration = Duration::from_secs(15);
/// Most of its log that is shown.
const SHOWN: usize = 64 << 10;

/// Starts to save while the job runs, where that is wanted and possible.
pub(super) fn start(job: &Job, place: &Place, lookup: &Lookup) {
    if let Some(why) = obstacle(job, place) {
        tracing::debug!("nothing is saved while the job runs: {why}");
        return;
    }
    match spawn(job, lookup) {
        Ok(number) => tracing::info!("Process {number} saves new store paths while the job runs (`progressive`)."),
        Err(failure) => {
            tracing::info!("Nothing is saved before the job ends: {}.", failure.message.trim_end_matches('.'));
        }
    }
}

/// Why nothing is saved before the job ends.
fn obstacle(job: &Job, place: &Place) -> Option<&'static str> {
    let inputs = &job.inputs;
    let obstacles = [
        (inputs.progressive.when == ProgressiveWhen::Off, "`progressive` is `off`"),
        (!cfg!(target_os = "linux"), "this system cannot keep its memory from other processes"),
        (inputs.action != Action::Both || inputs.lookup_only, "this action does not save"),
        (!matches!(inputs.save.when, SaveWhen::Auto | SaveWhen::Always | SaveWhen::True), "`save` may not allow it"),
        (!place.remote.is_readable(), "the job may not read the cache"),
        (!place.may_write(), "the job may not write to the cache"),
        (place.unsigned.is_some() && !job.keys.can_sign(), "nothing would be signed"),
        (guard::keeps_from_saving(job), "the cost guard keeps from saving"),
        (cache::objection(&job.dirs, &job.keys).is_some(), "a save would not be signed"),
    ];
    obstacles.into_iter().find_map(|(is_there, why)| is_there.then_some(why))
}

#[allow(clippy::disallowed_methods, reason = "it prints to a file of its own")]
fn spawn(job: &Job, lookup: &Lookup) -> Result<u32, Failure> {
    let folder = OwnFolder::work(&job.dirs).map_err(Failure::work)?;
    let log = folder.create_private(CHECKPOINTS_LOG).map_err(Failure::work)?;
    // The lock file can change while the job runs.
    let key = serde_json::to_string(lookup).map_err(Failure::work)?;
    let mut more = vec![];
    more.extend(job_process().map(|process| (env_vars::NIX_CACHE_JOB_PROCESS, process.to_string())));
    let (mut ours, theirs) = UnixStream::pair().map_err(Failure::work)?;
    // The file of this program may be replaced or removed while the job runs.
    let mut command = Command::new("/proc/self/exe");
    without_secrets(&mut command).args(["action", "checkpoints"]).env(state::variable(STATE_KEY), key);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_login)) {
        command.env_remove(name);
    }
    command.env(env_vars::NIX_CACHE_SECRETS, "stdin");
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(log);
    let child = command.spawn().map_err(Failure::work)?;
    // Our copy of the other end must close, or the process never reads to the end.
    drop(command);
    let sent = ours.write_all(secrets::to_hand_on(more).as_bytes()).and_then(|()| ours.shutdown(Shutdown::Write));
    sent.map_err(Failure::work)?;
    Ok(child.id())
}

/// The process that ends with the job. The hook, which passes tokens on standard input, is one step of it; its parent is the worker of
/// the runner. In a container, it cannot be seen, and ours ends with the container.
fn job_process() -> Option<Process> {
    let parent = Process::own()?.parent()?;
    let is_hook = std::env::var_os(env_vars::NIX_CACHE_SECRETS).is_some_and(|how| how == "stdin");
    if is_hook { parent.parent() } else { Some(parent) }
}

/// Ends the process that saves while the job runs, if there is one: at the latest at `end`, as far as we wait for it. Shows its log.
pub(super) async fn stop(job: &Job, end: Instant) {
    let log = own::work_dir(&job.dirs).join(CHECKPOINTS_LOG);
    if !log.exists() {
        return;
    }
    let Ok(folder) = OwnFolder::work(&job.dirs) else { return };
    match take_turn(&folder, end.min(Instant::now() + WAIT)).await {
        Ok(Some(_)) => {}
        Ok(None) => tracing::info!("The process that saves while the job runs has not ended yet."),
        Err(error) => tracing::debug!("cannot end the process that saves while the job runs: {error}"),
    }
    let text = fs::read(&log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]);
    if !text.trim().is_empty() {
        annotate::fold(style(), "Saved while the job ran", text.trim_end());
    }
    if let Err(error) = folder.remove(CHECKPOINTS_LOG) {
        tracing::debug!("{} stays: {error}", log.display());
    }
}

/// Adds what was saved while the job ran to the report, after the save of the post step.
pub(super) fn report(job: &mut Job, context: &cache::Context) {
    if let Some(checkpoints) = cache::checkpoints(context) {
        fill::checkpoints(job, &checkpoints);
    }
}
