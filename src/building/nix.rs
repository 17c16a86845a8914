//! One run of `nix build`, followed from start to end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

use super::event::{Line, parse};
use super::limits::Limits;
use super::live::Live;
use super::watch::{Build, Ending, Known, Shown, Watch};
use super::{BuildError, Request};
use crate::base::bounds::{MAX_OUTPUT, MAX_TEXT, read_text};
use crate::base::child::without_secrets;

/// How long Nix has to end after it was asked to. A cancelled job has 7.5 seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long output may still come after Nix has ended.
const REST: Duration = Duration::from_secs(2);
/// Lines outside of Nix's own log that are kept.
const STRAY: usize = 50;
/// A longer line of Nix's log is of no use.
const LONGEST_LINE: u64 = 16 << 20;

/// Why Nix was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody wanted it.
    Cancelled,
    /// The time is up.
    Deadline,
}

/// The result of one run.
#[derive(Debug)]
pub(super) struct Attempt {
    pub watch: Watch,
    pub elapsed: Duration,
    pub status: ExitStatus,
    pub stop: Option<Stop>,
    /// Built store paths.
    pub paths: Vec<String>,
    /// Lines that are not events.
    pub stray: VecDeque<String>,
}

/// Settings for Nix besides the request.
#[derive(Debug)]
pub(super) struct Settings {
    pub limits: Limits,
    /// For `--option substituters`.
    pub substituters: Option<String>,
}

/// Runs `nix build` until it ends, `deadline` comes or somebody cancels it.
pub(super) async fn run(
    request: &Request,
    settings: &Settings,
    live: &mut Live,
    cancelled: &mut watch::Receiver<bool>,
    deadline: Option<Instant>,
) -> Result<Attempt, BuildError> {
    let start = Instant::now();
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut child = spawn(request, settings)?;
    let (sender, mut lines) = channel(1024);
    let reader = tokio::spawn(read_lines(child.stderr.take(), sender, start));
    let output = tokio::spawn(read_all(child.stdout.take()));
    let mut watch = Watch::default();
    let mut stray = VecDeque::new();
    let (status, stop) = follow(&mut child, &mut lines, cancelled, deadline, |line| match line {
        Some((at, told)) => {
            let shown = take_in(&told, at, &mut watch, live, &mut stray);
            if let Shown::Ended(index) = shown {
                settle(&mut watch.builds[index], request, since);
            }
            live.show(&shown, &watch);
        }
        None => live.tick(&watch, start.elapsed()),
    })
    .await?;
    reader.abort();
    for index in watch.finish(start.elapsed()) {
        settle(&mut watch.builds[index], request, since);
        live.show(&Shown::Ended(index), &watch);
    }
    let printed = tokio::time::timeout(REST, output).await.ok().and_then(Result::ok).unwrap_or_default();
    Ok(Attempt { watch, elapsed: start.elapsed(), status, stop, paths: paths(&printed), stray })
}

fn spawn(request: &Request, settings: &Settings) -> Result<Child, BuildError> {
    let mut command = std::process::Command::new("nix");
    command.arg("build").args(request.installables());
    command.args(["--log-format", "internal-json", "--json", "--extra-experimental-features", "nix-command flakes"]);
    if request.dry_run {
        command.arg("--dry-run");
    }
    match &request.out_link {
        Some(link) => command.arg("--out-link").arg(link),
        None => command.arg("--no-link"),
    };
    if request.keep_going {
        command.arg("--keep-going");
    }
    if let Some(jobs) = request.jobs.or(settings.limits.jobs) {
        command.args(["--max-jobs", &jobs.to_string()]);
    }
    if let Some(cores) = request.cores.or(settings.limits.cores) {
        command.args(["--cores", &cores.to_string()]);
    }
    for (name, limit) in [("--timeout", request.derivation_timeout), ("--max-silent-time", request.silent_timeout)] {
        if let Some(limit) = limit {
            command.args([name, &limit.as_secs().to_string()]);
        }
    }
    if let Some(root) = &request.store_root {
        command.arg("--store").arg(crate::store::store_argument(root));
    }
    command.args(&request.nix_args);
    // Last, so that it counts.
    if let Some(substituters) = &settings.substituters {
        command.args(["--option", "substituters", substituters]);
    }
    tracing::debug!("{command:?}");
    without_secrets(&mut command).current_dir(&request.folder);
    let mut command = Command::from(command);
    // A separate process group: Ctrl-C reaches only us, and we ask Nix to stop, once.
    command.process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[allow(clippy::disallowed_methods, reason = "all it prints goes through pipes")]
    command.spawn().map_err(|error| BuildError::NoNix { error })
}

/// Hands over lines until Nix has ended and all is read.
async fn follow(
    child: &mut Child,
    lines: &mut Receiver<(Duration, String)>,
    cancelled: &mut watch::Receiver<bool>,
    deadline: Option<Instant>,
    mut take: impl FnMut(Option<(Duration, String)>),
) -> Result<(ExitStatus, Option<Stop>), BuildError> {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let (mut stop, mut kill_at, mut ended, mut open) = (None, None, None, true);
    let mut rest = None;
    loop {
        if let (Some(status), false) = (ended, open) {
            return Ok((status, stop));
        }
        tokio::select! {
            line = lines.recv(), if open => match line {
                Some(line) => take(Some(line)),
                None => open = false,
            },
            status = child.wait(), if ended.is_none() => {
                ended = Some(status.map_err(|error| BuildError::NoNix { error })?);
                rest = Some(Instant::now() + REST);
            }
            () = until(deadline), if stop.is_none() => {
                stop = Some(Stop::Deadline);
                kill_at = Some(interrupt(pid));
            }
            () = asked(cancelled), if stop.is_none() => {
                stop = Some(Stop::Cancelled);
                kill_at = Some(interrupt(pid));
            }
            () = until(kill_at), if kill_at.is_some() && ended.is_none() => {
                kill_at = None;
                // It may have ended by itself in between.
                let _ = pid.map(|pid| kill_process_group(pid, Signal::KILL));
            }
            // Something that Nix left behind may hold its output open.
            () = until(rest), if rest.is_some() => open = false,
            _ = tick.tick() => take(None),
        }
    }
}

fn interrupt(pid: Option<Pid>) -> Instant {
    // It may have ended by itself in between.
    let _ = pid.map(|pid| kill_process(pid, Signal::INT));
    Instant::now() + PATIENCE
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until somebody cancels.
pub(super) async fn asked(cancelled: &mut watch::Receiver<bool>) {
    if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn read_lines(stderr: Option<impl AsyncRead + Unpin>, sender: Sender<(Duration, String)>, start: Instant) {
    let Some(stderr) = stderr else { return };
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        if sender.send((start.elapsed(), line)).await.is_err() {
            return;
        }
    }
}

async fn read_all(stdout: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    crate::base::child::read_up_to(stdout, MAX_OUTPUT).await.unwrap_or_default()
}

fn take_in(told: &str, at: Duration, watch: &mut Watch, live: &mut Live, stray: &mut VecDeque<String>) -> Shown {
    match parse(told) {
        Line::Event(event) => return watch.observe(event, at),
        Line::Text(text) if text.is_empty() => {}
        Line::Text(text) => {
            live.line(&text);
            watch.hear(text.clone());
            if stray.len() == STRAY {
                stray.pop_front();
            }
            stray.push_back(text);
        }
    }
    Shown::Nothing
}

/// Finds out how and when a build ended of which Nix did not say it: its outputs are there or not, and its log was closed
/// when it ended.
fn settle(build: &mut Build, request: &Request, began: Duration) {
    if build.known != Known::Not || build.ending == Ending::Stopped {
        return;
    }
    let root = request.store_root.as_deref().unwrap_or(Path::new("/"));
    let in_store = |path: &str| root.join(path.trim_start_matches('/'));
    if let Ok(derivation) = read_text(&in_store(&build.derivation), MAX_TEXT) {
        let all_there = outputs(&derivation).all(|output| in_store(output).symlink_metadata().is_ok());
        build.ending = if all_there { Ending::Built } else { Ending::Failed };
    }
    let base = build.derivation.rsplit('/').next().unwrap_or_default();
    let Some((first, rest)) = base.split_at_checked(2) else { return };
    let folder = root.join("nix/var/log/nix/drvs").join(first);
    let closed = [format!("{rest}.bz2"), rest.to_owned()].into_iter().find_map(|name| {
        let modified = fs::metadata(folder.join(name)).ok()?.modified().ok()?;
        modified.duration_since(UNIX_EPOCH).ok()?.checked_sub(began)
    });
    if let Some(closed) = closed.filter(|closed| (build.start..=build.end).contains(closed)) {
        build.end = closed;
    }
}

/// The paths of the outputs of a derivation, as its file has them: they stand in its first list.
fn outputs(derivation: &str) -> impl Iterator<Item = &str> {
    let list = derivation.split_once("],[").map_or(derivation, |(list, _)| list);
    list.split('"').filter(|text| text.starts_with("/nix/store/"))
}

/// The store paths in what `nix build --json` prints.
fn paths(json: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Built {
        #[serde(default)]
        outputs: BTreeMap<String, Option<String>>,
    }
    let built: Vec<Built> = crate::base::bounds::from_json(json).unwrap_or_default();
    let mut seen = BTreeSet::new();
    let all = built.into_iter().flat_map(|built| built.outputs.into_values().flatten());
    all.filter(|path| seen.insert(path.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_stand_in_the_first_list() {
        let text = r#"Derive([("doc","/nix/store/a","",""),("out","/nix/store/b","sha256","00")],[("/nix/store/c.drv",["out"])],[],"#;
        assert_eq!(outputs(text).collect::<Vec<_>>(), ["/nix/store/a", "/nix/store/b"]);
        assert_eq!(outputs("").count(), 0);
    }

    #[test]
    fn paths_of_both_versions_are_read() {
        let json = br#"[{"drvPath":"/d","outputs":{"out":"/nix/store/a","doc":"/nix/store/b"},"startTime":0},
            {"drvPath":"/d","outputs":{"out":"/nix/store/a","later":null}}]"#;
        assert_eq!(paths(json), ["/nix/store/b", "/nix/store/a"]);
        assert_eq!(paths(b""), [""; 0]);
    }
}
