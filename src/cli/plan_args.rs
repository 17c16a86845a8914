//! The arguments of `nix-cache plan`.

use clap::{Args, ValueEnum};

use super::args::{ProjectArgs, RootArgs, SigningArgs};
use crate::app::settings::PlanArgs;
use crate::base::env_vars;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanFormat {
    /// For people
    Text,
    /// For programs: every decision, and the matrix
    Json,
    /// The matrix alone, as GitHub takes it
    Matrix,
}

#[derive(Debug, Args)]
pub(super) struct PlanCommand {
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Like `--base`, but assumed to be built only if it or an earlier commit was planned
    #[arg(long, value_name = "COMMIT", conflicts_with = "base", help_heading = "Plan")]
    pub before: Option<String>,
    /// Where snapshots and earlier plans are stored: `dir:PATH`, or `github` inside an action [default: nowhere]
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE, help_heading = "Cache")]
    pub remote: Option<String>,
    /// Save the derivations there that the jobs build, and put them into the matrix: `build --drvs` builds them without evaluating
    #[arg(long, requires = "remote", help_heading = "Cache")]
    pub save_drvs: bool,
    /// Store this plan there, for later plans to compare with
    #[arg(long, requires = "remote", help_heading = "Cache")]
    pub keep: bool,
    #[command(flatten)]
    pub signing: SigningArgs,
    #[command(flatten)]
    pub root: RootArgs,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t = PlanFormat::Text, help_heading = "Output")]
    pub format: PlanFormat,
}
