//! `nix-cache init`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::args::RootArgs;
use crate::app::Failure;
use crate::app::print::print;
use crate::init::{Found, InitError, Proposal, State, propose};
use crate::plan::Nix;

/// Which flake, and whether to write.
#[derive(Debug, Args)]
pub(super) struct InitCommand {
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
    /// Print what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace files that exist and differ
    #[arg(long, conflicts_with = "dry_run")]
    pub force: bool,
    #[command(flatten)]
    pub root: RootArgs,
}

/// Proposes a workflow and settings, prints what was found, and writes them.
pub(super) async fn init(command: &InitCommand) -> Result<(), Failure> {
    let project = &command.project;
    let project = project
        .canonicalize()
        .map_err(|error| Failure::usage(format!("Cannot find the project {}: {error}.", project.display())))?;
    let nix = Nix { store_root: command.root.store_root.clone(), arguments: Vec::new() };
    let proposal = propose(&project, &nix).await.map_err(failure)?;
    if let Err(why) = &proposal.survey.targets {
        tracing::warn!("The flake could not be evaluated, so what it has is not known: {why}");
    }
    if command.dry_run {
        print(&(preview(&proposal) + &migration(&proposal.found)));
        return Ok(());
    }
    proposal.write(command.force).map_err(failure)?;
    print(&(written(&proposal) + &migration(&proposal.found)));
    Ok(())
}

fn failure(error: InitError) -> Failure {
    match error {
        InitError::File { .. } => Failure::work(error),
        _ => Failure::usage(error),
    }
}

fn preview(proposal: &Proposal) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for file in &proposal.files {
        let what = match file.state {
            State::New => "would be created",
            State::Same => "exists and would stay as it is",
            State::Differs => "exists and would be replaced with --force",
        };
        let _ = writeln!(text, "== {} {what}:\n\n{}", file.name, file.text);
    }
    text
}

fn written(proposal: &Proposal) -> String {
    let mut text = String::new();
    for file in &proposal.files {
        let what = match file.state {
            State::New => "created ",
            State::Same => "unchanged",
            State::Differs => "replaced",
        };
        let _ = writeln!(text, "{what:9} {}", file.name);
    }
    let is_written = proposal.files.iter().any(|file| file.state != State::Same);
    text.push_str(if is_written {
        "\nCommit both files and push: the first run of the default branch fills the cache.\n"
    } else {
        "\nBoth files are already as they would be written.\n"
    });
    text
}

/// What could be replaced in the workflows that exist.
fn migration(found: &[Found]) -> String {
    let mut text = String::new();
    for found in found {
        let _ = write!(text, "\n{}: {}\n  {}\n", found.place, found.uses, found.advice);
        let width = found.inputs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, becomes) in &found.inputs {
            match becomes {
                Some(becomes) => drop(writeln!(text, "  {name:width$}  {becomes}")),
                None => drop(writeln!(text, "  {name:width$}  unknown: it is not an input of {}", found.version)),
            }
        }
    }
    if !found.is_empty() {
        text.push_str("\nNothing in these workflows was changed. docs/migrate.md has every input of each action.\n");
    }
    text
}
