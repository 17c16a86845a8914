//! `nix-cache dashboard`.

use std::path::Path;

use clap::Args;

use super::verbs;
use crate::app::Failure;
use crate::app::dashboard::{Scene, make, sentences};
use crate::app::place::remote;
use crate::app::settings::DashboardArgs;
use crate::base::{env_vars, secrets};

#[derive(Debug, Args)]
pub(super) struct DashboardCommand {
    #[command(flatten)]
    dashboard: DashboardArgs,
    /// Where the history is stored: `dir:PATH`, or `github` inside an action [default: only the runs in `--runs` are shown]
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE, help_heading = "Cache")]
    remote: Option<String>,
}

/// Writes a dashboard.
pub(super) async fn dashboard(command: &DashboardCommand) -> Result<(), Failure> {
    let args = &command.dashboard;
    if command.remote.is_none() && args.runs.is_empty() && !args.github_artifacts {
        return Err(Failure::usage(
            "There is nothing to show. Name the cache, such as `--remote dir:PATH`, or a file of runs with `--runs`.",
        ));
    }
    let remote = command.remote.as_deref().map(remote).transpose()?;
    let keys = verbs::keys(None, &args.trust)?;
    let scene = Scene {
        from: Path::new(""),
        remote: remote.as_deref(),
        keys: &keys,
        repository: "",
        server: None,
        held: Vec::new(),
        variable: &secrets::var,
    };
    for sentence in sentences(&make(args, scene).await?) {
        tracing::info!("{sentence}");
    }
    Ok(())
}
