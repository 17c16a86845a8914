//! `nix-cache warm`: restore, build, save and touch, in one command.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::args::{Format, OutputArgs, ProjectArgs, RemoteArgs, SigningArgs, StoreArgs};
use super::verbs;
use crate::app::Failure;
use crate::app::place::limited;
use crate::app::print::{print, print_json};
use crate::app::settings::{PackingArgs, RestoreArgs, WarmArgs};
use crate::app::warm::lock_bump::{BumpRequest, Bumped, prepare};
use crate::app::warm::{State, TouchPlace, Touched, WarmReport, WarmRequest, realise, shelf, touch};
use crate::base::printing::Raw;
use crate::base::{env_vars, secrets};
use crate::building::{Live, Style};
use crate::cache::{self, Context, Packing};
use crate::plan::{Nix, Repository};
use crate::remote::github::{Pulls, RestConfig, Tuning};
use crate::remote::{Purpose, Remote};

#[derive(Debug, Args)]
pub(super) struct WarmCommand {
    #[command(flatten)]
    warm: WarmArgs,
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(flatten)]
    restore: RestoreArgs,
    #[command(flatten)]
    packing: PackingArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Warms and prints what was done. What failed makes the command fail, after the rest is saved.
pub(super) async fn warm(command: &WarmCommand) -> Result<(), Failure> {
    let here = command.project.project.clone();
    let Some(wanted) = &command.warm.pull_request else {
        return finish(command, &in_project(command, &here, None).await?);
    };
    let folder = tempfile::tempdir().map_err(Failure::work)?;
    let request = BumpRequest {
        wanted,
        authors: &command.warm.trusted_authors,
        project: &here,
        git_ref: None,
        into: folder.path(),
    };
    let report = match prepare(&pulls()?, &request).await {
        Ok(bumped) => in_copy(command, &here, bumped).await?,
        Err(why) => WarmReport::skipped(&why),
    };
    finish(command, &report)
}

async fn in_copy(command: &WarmCommand, here: &Path, bumped: Bumped) -> Result<WarmReport, Failure> {
    let folder =
        Repository::open(here, None).map_or_else(|_| String::new(), |repository| repository.folder().to_owned());
    let project = bumped.top.join(folder);
    let report = in_project(command, &project, Some("--no-update-lock-file")).await?;
    Ok(WarmReport { pull_request: Some(bumped.pull), ..report })
}

fn pulls() -> Result<Pulls, Failure> {
    let config = RestConfig::from_env(secrets::var).ok_or_else(|| {
        Failure::usage("--pull-request reads from GitHub: set GITHUB_TOKEN, and GITHUB_REPOSITORY to owner/name.")
    })?;
    Pulls::new(&config, Tuning::from_env(), env_vars::ca_file().as_deref()).map_err(Failure::usage)
}

/// Warms with the flake in `project`.
async fn in_project(command: &WarmCommand, project: &Path, nix_arg: Option<&str>) -> Result<WarmReport, Failure> {
    let settings = &command.warm;
    let keys = verbs::keys(command.signing.signing_key_file.as_deref(), &command.signing.trust)?;
    let place = ProjectArgs { project: project.to_owned(), ..command.project.clone() };
    let mut context = verbs::context(&place, (&command.remote, Purpose::Save), &command.store, keys)?;
    context.packing = Packing { threads: context.packing.threads, ..command.packing.packing() };
    let everywhere = context.place.remote.clone();
    restore(command, &mut context).await;
    let root = command.store.root.store_root.clone();
    let arguments = settings.nix_arg.iter().cloned().chain(nix_arg.map(str::to_owned)).collect();
    let request = WarmRequest {
        project: absolute(project)?,
        nix: Nix { store_root: root.map(|root| std::path::absolute(&root).unwrap_or(root)), arguments },
        targets: settings.targets.clone(),
        inputs: !settings.no_flake_inputs,
        feeds_from: (!settings.no_feeds && nix_arg.is_none()).then(|| settings.feeds_from.clone()),
        end: Instant::now() + settings.warm_timeout,
        state: None,
    };
    let mut live = Live::new(Box::new(Raw::err()), Style::Plain);
    let (mut report, _) = realise(&request, &mut live).await?;
    context.place.remote = limited(everywhere.clone(), command.packing.save_timeout);
    context.place.deadline = None;
    let saved = cache::save(&context).await.map_err(Failure::work)?;
    tracing::info!("{}", verbs::describe_save(&saved).trim_end());
    if !settings.no_touch && nix_arg.is_none() {
        report.touched = Some(touch_newest(command, &*everywhere, &context).await);
    }
    Ok(report)
}

async fn restore(command: &WarmCommand, context: &mut Context) {
    verbs::limit(context, &command.restore);
    match cache::restore(context).await {
        Ok(outcome) => tracing::info!("{}", verbs::describe_restore(&outcome).trim_end()),
        Err(error) => tracing::warn!("Nothing was restored: {error}"),
    }
}

async fn touch_newest(command: &WarmCommand, remote: &dyn Remote, context: &Context) -> Touched {
    let shelf = shelf(&command.remote.remote, RestConfig::from_env(secrets::var));
    let place = TouchPlace {
        remote,
        shelf: shelf.as_deref(),
        scope: "",
        keys: &context.place.keys,
        names: cache::snapshot_names(context),
    };
    touch(&place).await
}

fn absolute(project: &Path) -> Result<PathBuf, Failure> {
    let shown = project.display();
    project.canonicalize().map_err(|error| Failure::usage(format!("Cannot find the project {shown}: {error}.")))
}

fn finish(command: &WarmCommand, report: &WarmReport) -> Result<(), Failure> {
    match command.output.format {
        Format::Text => print(&report.text()),
        Format::Json => print_json(report)?,
    }
    match report.names(State::Failed).as_slice() {
        [] => Ok(()),
        failed => Err(Failure::work(format!("Not warmed, because it failed: {}.", failed.join(", ")))),
    }
}
