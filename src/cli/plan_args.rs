//! The arguments of `nix-cache plan`.

use clap::{Args, ValueEnum};

use super::args::{KeyArgs, TrustArgs};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// If needed
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a flag that can be typed")]
#[derive(Debug, Args)]
pub(super) struct PlanCommand {
    #[command(flatten)]
    pub key: KeyArgs,
    /// The commit to compare with, assumed to be built [default: HEAD if files differ from it, otherwise its parent]
    #[arg(long, value_name = "COMMIT")]
    pub base: Option<String>,
    /// Like `--base`, but assumed to be built only if it or an earlier commit was planned
    #[arg(long, value_name = "COMMIT", conflicts_with = "base")]
    pub before: Option<String>,
    /// Patterns of the targets to consider, such as `nixosConfigurations.*` or `checks.x86_64-linux` [default: all]
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Patterns of the targets to ignore
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The rules file [default: nix-cache.toml at the top of the repository, if it exists]
    #[arg(long, value_name = "FILE")]
    pub rules: Option<std::path::PathBuf>,
    /// Which targets to evaluate
    #[arg(long, value_enum, default_value_t = When::Auto)]
    pub evaluate: When,
    /// Whether to evaluate the base if its derivations are not known
    #[arg(long, value_enum, default_value_t = When::Auto)]
    pub evaluate_base: When,
    /// JSON object from systems to `runs-on` values
    #[arg(long, value_name = "JSON")]
    pub runner_map: Option<String>,
    /// Largest number of packages, checks and shells that share one job
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub group_size: u16,
    /// Number of targets to evaluate at the same time [default: as many as there are cores and memory for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Memory that one evaluation may use
    #[arg(long, value_name = "SIZE", default_value = "4G")]
    pub worker_memory: String,
    /// Build changed targets even if their outputs are cached
    #[arg(long)]
    pub build_cached: bool,
    /// Skip unchanged targets even if they may never have been built
    #[arg(long)]
    pub no_retry: bool,
    /// Do not ask the substituters that Nix is configured with
    #[arg(long)]
    pub no_substituters: bool,
    /// One more argument for `nix eval`
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub nix_arg: Vec<String>,
    /// Where snapshots and earlier plans are stored: `dir:PATH`, or `github` inside an action [default: nowhere]
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE, help_heading = "Cache")]
    pub remote: Option<String>,
    /// Store this plan there, for later plans to compare with
    #[arg(long, requires = "remote", help_heading = "Cache")]
    pub keep: bool,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Sign the stored plan with the secret keys in this file
    #[arg(long, value_name = "FILE", help_heading = "Signatures")]
    pub signing_key_file: Option<std::path::PathBuf>,
    /// A store under another root to evaluate in, as in `nix --store DIR`
    #[arg(long, value_name = "DIR", help_heading = "Store")]
    pub store_root: Option<std::path::PathBuf>,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
}
