//! The settings of warming.

use std::time::Duration;

use clap::Args;

use super::values::{duration, wanted_pull_request};
use crate::app::feeds::NVD;
use crate::app::warm::WantedPull;

/// What to warm.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Warm")]
pub(crate) struct WarmArgs {
    /// What to build: attributes of the flake, such as `hello` or `checks.x86_64-linux.unit`, or whole installables [default: all
    /// packages, checks, shells, machines and homes for this system, as far as nix-cache.toml has no `include` and `exclude` for
    /// plans, and the formatter]
    #[arg(long, value_name = "ATTR", value_delimiter = ' ')]
    pub targets: Vec<String>,
    /// Do not fetch the inputs of the flake
    #[arg(long)]
    pub no_flake_inputs: bool,
    /// Longest time for fetching and building; what is left then is left to the next run
    #[arg(long, value_name = "TIME", default_value = "5h", value_parser = duration)]
    pub warm_timeout: Duration,
    /// Do not read the newest snapshots and their layers, so that they can be evicted for their age
    #[arg(long)]
    pub no_touch: bool,
    /// Where vulnerability feeds are fetched from, if nix-cache.toml names a folder for them: an address that the file names are
    /// added to, or a folder
    #[arg(long, value_name = "URL|DIR", default_value = NVD)]
    pub feeds_from: String,
    /// Do not fetch vulnerability feeds
    #[arg(long)]
    pub no_feeds: bool,
    /// Build with the flake.lock of this open pull request, if it changes no other file: its number, or `newest` for the newest
    /// one that does and whose author is trusted [default: none]
    #[arg(long, value_name = "NUMBER", value_parser = wanted_pull_request)]
    pub pull_request: Option<WantedPull>,
    /// Who may open such a pull request, as GitHub names them
    #[arg(
        long,
        value_name = "LOGIN",
        value_delimiter = ' ',
        default_value = "dependabot[bot] github-actions[bot] renovate[bot]"
    )]
    pub trusted_authors: Vec<String>,
    /// Further arguments for Nix, such as `--accept-flake-config`
    #[arg(
        id = "warm_nix_arg",
        long = "nix-arg",
        value_name = "ARGUMENT",
        allow_hyphen_values = true,
        alias = "nix-args"
    )]
    pub nix_arg: Vec<String>,
}
