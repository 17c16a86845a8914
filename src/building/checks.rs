//! Commands that check the project (formatting, lints, `nix flake check`), run side by side. All results are shown, even after a
//! failure, and a check that could not run has not passed.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::live::Live;
use super::log::Log;
use super::nix::asked;
use super::text;
use crate::base::bounds::{MAX_TEXT, read_file};
use crate::base::child::without_secrets;

mod format;

/// Last lines of a check that failed that are kept.
const SHOWN: usize = 40;

/// A check that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckRequest {
    /// Its name.
    pub name: String,
    /// What it does.
    pub work: Work,
}

/// The work of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Whether the flake's formatter would change a file.
    Format,
    /// A program with arguments, if there is one.
    Program(Vec<String>),
    /// `nix` with arguments, for a folder with a flake.
    Flake(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// The verdict of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// All is well.
    Passed,
    /// Something is not.
    Failed,
    /// It could not be looked at.
    #[default]
    NotRun,
}

/// One check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Check {
    /// Its name.
    pub name: String,
    /// The command.
    pub command: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it could not run, or how it failed; empty when it passed.
    pub reason: String,
    /// How long it took.
    pub ms: u64,
    /// The last lines that it printed.
    pub log: Vec<String>,
}

/// The standard checks.
#[must_use]
pub(crate) fn defaults() -> Vec<CheckRequest> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let check = |name: &str, work| CheckRequest { name: name.to_owned(), work };
    vec![
        check("format", Work::Format),
        check("statix", Work::Program(words(&["statix", "check", "."]))),
        check("deadnix", Work::Program(words(&["deadnix", "--fail", "."]))),
        check("flake-check", Work::Flake(words(&["flake", "check", "--print-build-logs"]))),
    ]
}

/// Reads a line such as `lint: ./lint.sh --all`. None where no name stands in front.
#[must_use]
pub(crate) fn parse(line: &str) -> Option<CheckRequest> {
    let (name, command) = line.split_once(':')?;
    let (name, command) = (name.trim(), command.trim());
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    let good = !name.is_empty() && !command.is_empty() && name.chars().all(is_name);
    good.then(|| CheckRequest { name: name.to_owned(), work: Work::Shell(command.to_owned()) })
}

/// The environment of a command.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The flake's folder.
    pub folder: PathBuf,
    pub store_root: Option<PathBuf>,
    pub nix_args: Vec<String>,
}

/// Runs all checks at once and shows each when it ends.
pub(super) async fn run(
    requests: &[CheckRequest],
    setting: &Setting,
    live: &mut Live,
    cancelled: &watch::Receiver<bool>,
) -> Vec<Check> {
    let mut running = tokio::task::JoinSet::new();
    for (index, request) in requests.iter().cloned().enumerate() {
        let (setting, cancelled) = (setting.clone(), cancelled.clone());
        running.spawn(async move { (index, one(request, &setting, cancelled).await) });
    }
    let mut done = Vec::new();
    while let Some(ended) = running.join_next().await {
        let (index, (check, log)) = ended.unwrap_or_else(|error| {
            let (name, reason) = ("?".to_owned(), format!("it failed unexpectedly: {error}"));
            (usize::MAX, (Check { name, verdict: Verdict::Failed, reason, ..Check::default() }, Log::default()))
        });
        show(&check, &log, live);
        done.push((index, check));
    }
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, check)| check).collect()
}

fn show(check: &Check, log: &Log, live: &mut Live) {
    let time = super::live::seconds(std::time::Duration::from_millis(check.ms));
    let lines = log.lines().map(|line| format!("{}> {line}", check.name));
    match check.verdict {
        Verdict::Passed => live.group(&format!("check {}: passed in {time}", check.name), lines),
        Verdict::Failed => live.open_group(&format!("check {}: failed, {}", check.name, check.reason), lines),
        Verdict::NotRun => live.line(&format!("check {}: not run, {}", check.name, check.reason)),
    }
}

async fn one(request: CheckRequest, setting: &Setting, mut cancelled: watch::Receiver<bool>) -> (Check, Log) {
    let mut check = Check { name: request.name.clone(), ..Check::default() };
    let start = Instant::now();
    let mut log = Log::default();
    let ended = async {
        let prepared = prepare(&request.work, setting).await?;
        check.command.clone_from(&prepared.shown);
        let ran = execute(prepared.command, &mut log, &mut cancelled).await.map_err(|error| {
            let program = prepared.shown.split_whitespace().next().unwrap_or_default();
            match error.kind() {
                io::ErrorKind::NotFound => format!("`{program}` is not installed"),
                _ => format!("`{program}` cannot be started: {error}"),
            }
        })?;
        Ok::<_, String>((ran, prepared.copy))
    }
    .await;
    check.ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    check.log = log.tail(SHOWN).into_iter().map(str::to_owned).collect();
    (check.verdict, check.reason) = match ended {
        Err(why) => (Verdict::NotRun, why),
        Ok((Ran::Cancelled, _)) => (Verdict::NotRun, "it was cancelled".to_owned()),
        Ok((Ran::Failed(_), _)) if request.work == Work::Format && format::is_missing(&check.log) => {
            (Verdict::NotRun, "the flake has no formatter".to_owned())
        }
        Ok((Ran::Failed(how), _)) => (Verdict::Failed, how),
        Ok((Ran::Passed, Some(copy))) => match format::changed(&setting.folder, copy.path()) {
            changed if changed.is_empty() => (Verdict::Passed, String::new()),
            changed => {
                let reason = format!("the formatter would change {}", changed.join(", "));
                for line in changed.iter().map(|file| format!("{file} is not formatted")) {
                    check.log.push(line.clone());
                    log.push(line);
                }
                (Verdict::Failed, reason)
            }
        },
        Ok((Ran::Passed, None)) => (Verdict::Passed, String::new()),
    };
    (check, log)
}

/// A command that is ready.
struct Prepared {
    command: Command,
    shown: String,
    /// The copy of the project that a formatter works on.
    copy: Option<tempfile::TempDir>,
}

async fn prepare(work: &Work, setting: &Setting) -> Result<Prepared, String> {
    let (words, copy) = match work {
        Work::Shell(line) => (vec!["sh".to_owned(), "-ec".to_owned(), line.clone()], None),
        Work::Program(words) => (words.clone(), None),
        Work::Flake(_) | Work::Format if !setting.folder.join("flake.nix").is_file() => {
            return Err(format!("there is no flake.nix in {}", setting.folder.display()));
        }
        Work::Flake(words) => (nix(words, setting), None),
        Work::Format => {
            let folder = setting.folder.clone();
            let copied =
                tokio::task::spawn_blocking(move || format::copy(&folder)).await.map_err(|error| error.to_string())?;
            let copy = copied.map_err(|error| format!("the project could not be copied: {error}"))?;
            (nix(&["fmt".to_owned(), "--".to_owned(), ".".to_owned()], setting), Some(copy))
        }
    };
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(copy.as_ref().map_or(setting.folder.as_path(), |copy| copy.path()));
    without_secrets(&mut command);
    let shown = match work {
        Work::Shell(line) => line.clone(),
        _ => words.join(" "),
    };
    Ok(Prepared { command, shown, copy })
}

/// `nix` with these words, on the store and with the settings of the build. What stands behind `--` stays there.
fn nix(words: &[String], setting: &Setting) -> Vec<String> {
    let (front, back) = words.split_at(words.iter().position(|word| word == "--").unwrap_or(words.len()));
    let mut all = vec!["nix".to_owned()];
    all.extend_from_slice(front);
    all.extend(["--extra-experimental-features", "nix-command flakes"].map(str::to_owned));
    if let Some(root) = &setting.store_root {
        all.extend(["--store".to_owned(), crate::store::store_argument(root).to_string_lossy().into_owned()]);
    }
    all.extend(setting.nix_args.iter().cloned());
    all.extend_from_slice(back);
    all
}

enum Ran {
    Passed,
    Failed(String),
    Cancelled,
}

/// Runs a command, with all that it prints in `log`.
async fn execute(command: Command, log: &mut Log, cancelled: &mut watch::Receiver<bool>) -> io::Result<Ran> {
    let (mut reader, writer) = io::pipe()?;
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    command.process_group(0).kill_on_drop(true);
    #[allow(clippy::disallowed_methods, reason = "all it prints goes through a pipe")]
    let mut child = command.spawn()?;
    // It holds our ends of the pipe, and the reader below waits until all are closed.
    drop(command);
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let mut log = Log::default();
        let mut piece = [0; 16 << 10];
        // What was read until something goes wrong is what there is.
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            bytes.extend_from_slice(&piece[..count]);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                log.push(text::line(&String::from_utf8_lossy(&bytes[..end])));
                bytes.drain(..=end);
            }
        }
        if !bytes.is_empty() {
            log.push(text::line(&String::from_utf8_lossy(&bytes)));
        }
        log
    });
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        () = asked(cancelled) => None,
    };
    if status.is_none() {
        // It may have ended by itself in between.
        let _ = pid.map(|pid| kill_process_group(pid, Signal::TERM));
        child.wait().await?;
    }
    if let Ok(Ok(read)) = tokio::time::timeout(std::time::Duration::from_secs(2), read).await {
        *log = read;
    }
    Ok(match status {
        None => Ran::Cancelled,
        Some(status) if status.success() => Ran::Passed,
        Some(status) => Ran::Failed(status.to_string()),
    })
}

/// Whether a path is below the folder and of interest to a formatter.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == ".git" || name == ".direnv")
}

/// Reads a file whole; nothing when it is not there.
fn content(path: &Path) -> Option<Vec<u8>> {
    read_file(path, MAX_TEXT).ok()
}

#[cfg(test)]
#[path = "checks_test.rs"]
mod tests;
