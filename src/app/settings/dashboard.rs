//! The settings of a dashboard.

use std::path::PathBuf;

use clap::Args;

use super::TrustArgs;
use super::values::whole;

/// What a dashboard is made of.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Dashboard")]
pub(crate) struct DashboardArgs {
    /// Folder to write the page, its data and the badges into; it is created
    #[arg(long, value_name = "DIR", default_value = "nix-cache-dashboard")]
    pub out: PathBuf,
    /// Heading of the page [default: the repository, or `Nix store cache`]
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// File with the goals, in the table `[goals]` [default: nix-cache.toml at the top of the repository, if it exists]
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Further runs: files as `nix-cache history export` prints them, artifacts of `history: artifact`, or folders with both
    #[arg(long, value_name = "FILE")]
    pub runs: Vec<PathBuf>,
    /// Number of days of GitHub's own records of jobs to read, for comparing the time before the cache with the time since; needs
    /// `actions: read`, and one request for each run, of at most 400; 0 reads none
    #[arg(long, value_name = "DAYS", default_value_t = 0, value_parser = whole::<u64>(0, 400))]
    pub github_days: u64,
    /// Also read the records that jobs without write access to the cache, such as those of forks, left as artifacts of their runs; needs
    /// `actions: read`, and up to three requests for each record, of at most 200
    #[arg(long)]
    pub github_artifacts: bool,
    /// The first word of the keys of the jobs, if they set `prefix-key`
    #[arg(long, value_name = "WORD", default_value = "nix")]
    pub prefix_key: String,
    #[command(flatten)]
    pub trust: TrustArgs,
}
