//! `nix-cache history`: shows, exports and imports the history of jobs.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::SigningArgs;
use super::verbs;
use crate::app::Failure;
use crate::app::artifacts::collect;
use crate::app::comment::requests;
use crate::app::place::remote;
use crate::app::print::{print, print_json};
use crate::app::runs::read_runs;
use crate::base::{env_vars, human, secrets};
use crate::history::{self, History, Import, Run, history_key, to_csv};
use crate::remote::Remote;
use crate::report::text;
use crate::series::Loaded;
use crate::series::sign::Keyring;

#[derive(Debug, Args)]
pub(super) struct HistoryCommand {
    /// What to do
    #[arg(value_enum, default_value_t)]
    what: What,
    /// What to import: files exported with `--format jsonl`, artifacts of `history: artifact` as zip archives, or folders with both
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Import the records that jobs left as artifacts of their runs, from the repository in `GITHUB_REPOSITORY`; needs a token with
    /// `actions: read` in `GITHUB_TOKEN`, and up to three requests for each record, of at most 200
    #[arg(long)]
    github: bool,
    /// Where the history is stored: `dir:PATH`, or `github` inside an action
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE, help_heading = "Cache")]
    remote: String,
    /// The first word of the keys of the jobs, if they set `prefix-key`
    #[arg(long, value_name = "WORD", default_value = "nix", help_heading = "Cache")]
    prefix_key: String,
    /// Only jobs of this lane
    #[arg(long, value_name = "NAME")]
    lane: Option<String>,
    /// Only the last runs, this many
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    #[command(flatten)]
    signing: SigningArgs,
    /// How to print the runs [default: text to show, jsonl to export]
    #[arg(long, value_enum, help_heading = "Output")]
    format: Option<RunFormat>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum What {
    /// Print the runs, oldest first
    #[default]
    Show,
    /// Print the runs for other programs
    Export,
    /// Add the runs in files and folders, or those in artifacts on GitHub; runs that are there already stay as they are
    Import,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RunFormat {
    /// A table for people
    Text,
    /// A JSON array
    Json,
    /// JSON Lines: one object per line
    Jsonl,
    /// Comma-separated values with a head
    Csv,
}

/// Shows, exports or imports.
pub(super) async fn history(command: &HistoryCommand) -> Result<(), Failure> {
    let remote = remote(&command.remote)?;
    let keys = verbs::keys(command.signing.signing_key_file.as_deref(), &command.signing.trust)?;
    let key = history_key(&command.prefix_key);
    if command.what == What::Import {
        return import(command, &*remote, &keys, &key).await;
    }
    if !command.files.is_empty() || command.github {
        return Err(Failure::usage("Files and artifacts can only be imported: `nix-cache history import`."));
    }
    let known = history::load(&*remote, &key, &keys).await.map_err(Failure::work)?.record;
    let wanted = |run: &&Run| command.lane.as_ref().is_none_or(|lane| *lane == run.lane);
    let runs: Vec<&Run> = known.by_time().into_iter().filter(wanted).collect();
    let runs = &runs[runs.len().saturating_sub(command.last.unwrap_or(usize::MAX))..];
    let otherwise = if command.what == What::Show { RunFormat::Text } else { RunFormat::Jsonl };
    match command.format.unwrap_or(otherwise) {
        RunFormat::Text => print(&table(runs)),
        RunFormat::Json => print_json(&runs)?,
        RunFormat::Csv => print(&to_csv(runs.iter().copied())),
        RunFormat::Jsonl => {
            let lines = runs.iter().map(|run| serde_json::to_string(run).map(|line| line + "\n"));
            print(&lines.collect::<Result<String, _>>().map_err(Failure::work)?);
        }
    }
    Ok(())
}

async fn import(command: &HistoryCommand, remote: &dyn Remote, keys: &Keyring, key: &str) -> Result<(), Failure> {
    if command.files.is_empty() && !command.github {
        return Err(Failure::usage(
            "Name the files to import, such as `nix-cache history import runs.jsonl`, or import what jobs left on GitHub with `--github`.",
        ));
    }
    let mut runs = command.files.iter().map(|file| read_runs(file)).collect::<Result<Vec<_>, _>>()?.concat();
    let loaded = if remote.is_readable() {
        history::load(remote, key, keys).await.map_err(Failure::work)?
    } else {
        Loaded::default()
    };
    if command.github {
        let collected = collect(requests(secrets::var)?, &loaded.record).await;
        if let (0, Some(why)) = (collected.total, &collected.why) {
            return Err(Failure::work(why));
        }
        collected.tell();
        runs.extend(collected.runs);
    }
    if runs.is_empty() {
        tracing::info!("There is nothing to import.");
        return Ok(());
    }
    let runs = History::of(runs);
    let import = Import::of(&loaded.record, &runs);
    if import.is_nothing() {
        tracing::info!("{} The history stays as it is.", import.sentence());
        return Ok(());
    }
    let added = history::append(remote, key, keys, (Some(loaded), runs), &mut Vec::new()).await;
    let added = added.map_err(Failure::work)?;
    tracing::info!("{} The history is generation {} of {key}.", import.sentence(), added.number);
    Ok(())
}

/// A line for each run.
fn table(runs: &[&Run]) -> String {
    let Some(last) = runs.last() else { return "There is no run in the history.\n".to_owned() };
    let lanes: BTreeSet<&str> = runs.iter().map(|run| &*run.lane).collect();
    let mut out = format!(
        "{:<16}  {:>12}  {:<5}  {:<7}  {:>7}  {:>12}  {:>10}  lane\n",
        "time (UTC)", "run", "kind", "hit", "rate", "job", "uploaded"
    );
    for run in runs {
        let moment = chrono::DateTime::from_timestamp(i64::try_from(run.time).unwrap_or(0), 0).unwrap_or_default();
        let rate = run.hit_rate().map_or("-".to_owned(), text::percent);
        let job = run.job_ms.map_or("-".to_owned(), text::time);
        let (time, uploaded) = (moment.format("%Y-%m-%d %H:%M"), text::bytes(run.uploaded));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{time:<16}  {:>12}  {:<5}  {:<7}  {rate:>7}  {job:>12}  {uploaded:>10}  {}{}",
            run.run,
            run.kind.word(),
            if run.hit.is_empty() { "-" } else { &run.hit },
            run.lane,
            decided(run)
        );
    }
    let (count, lanes) = (human::count(runs.len() as u64, "run"), human::count(lanes.len() as u64, "lane"));
    let version = &last.version;
    let with = if version.is_empty() { String::new() } else { format!("; the last one with nix-cache {version}") };
    out + &format!("{count} of {lanes}{with}.\n")
}

/// What a plan decided, and what an audit found.
fn decided(run: &Run) -> String {
    let planned = run.targets.zip(run.skipped);
    let planned = planned.map(|(targets, skipped)| format!("{skipped} of {} skipped", human::count(targets, "target")));
    let found = run.audit.map(|audit| human::count(audit.findings(), "finding"));
    let all: Vec<String> = planned.into_iter().chain(found).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}
