//! `nix-cache prune`.

use std::sync::Arc;

use clap::Args;

use super::args::{Format, OutputArgs};
use crate::app::Failure;
use crate::app::print::{print, print_json};
use crate::app::prune::{Target, prune as carry_out, verdict};
use crate::app::settings::PruneArgs;
use crate::base::{env_vars, secrets};
use crate::prune::table;
use crate::remote::github::{GithubConfig, GithubRemote, RestConfig};

#[derive(Debug, Args)]
pub(super) struct PruneCommand {
    /// The cache to prune: `dir:PATH`, `s3://BUCKET/PREFIX?endpoint=…&region=…` with keys from the variables `AWS_*`, or `github`, with a
    /// token in `GITHUB_TOKEN` and the repository in `GITHUB_REPOSITORY`
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE, help_heading = "Cache")]
    remote: String,
    #[command(flatten)]
    prune: PruneArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the plan, and carries it out if requested.
pub(super) async fn prune(command: &PruneCommand) -> Result<(), Failure> {
    let target = if let Some(target) = Target::elsewhere(&command.remote)? {
        target
    } else {
        // Only inside an action, the cache can be read too.
        let remote = GithubConfig::from_env(secrets::var).and_then(GithubRemote::new).ok().map(Arc::new);
        let git_ref = std::env::var(env_vars::GITHUB_REF).unwrap_or_default();
        Target::github(RestConfig::from_env(secrets::var), remote, &git_ref)?
    };
    let report = carry_out(&target, &command.prune).await?;
    match command.output.format {
        Format::Text => print(&table(&report)),
        Format::Json => print_json(&report)?,
    }
    verdict(&report)
}
