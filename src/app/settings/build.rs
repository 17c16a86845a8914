//! The settings of a build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::values::{check, duration, limit, whole};
use crate::app::build::absolute;
use crate::building::artifacts::{ArtifactRequest, Format};
use crate::building::checks::{CheckRequest, defaults};
use crate::building::limits::Limit;
use crate::building::{Request, Retry};

/// What to build, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Build")]
pub(crate) struct BuildArgs {
    /// What to build: attributes of the flake, such as `hello` or `checks.x86_64-linux.unit`, or whole installables
    /// [default: default, or nothing with --checks]
    #[arg(value_name = "ATTR")]
    pub targets: Vec<String>,
    /// The flake that contains the targets, as `nix build` takes it
    #[arg(long, value_name = "FLAKE", default_value = ".")]
    pub flake: String,
    /// Further arguments for `nix build`, such as `--impure` or `--option NAME VALUE`
    #[arg(last = true, value_name = "NIX ARGUMENTS")]
    pub nix_args: Vec<String>,
    /// The link to the results; if empty, no link is made
    #[arg(long, value_name = "LINK", default_value = "result")]
    pub out_link: PathBuf,
    #[command(flatten)]
    pub limits: Limits,
    /// Also run the standard checks before the build: formatter, statix, deadnix, `nix flake check`
    #[arg(long)]
    pub checks: bool,
    /// Further checks, such as `lint: ./lint.sh`; one with the name of a standard check replaces it
    #[arg(long, value_name = "NAME: COMMAND", value_parser = check, alias = "check-commands")]
    pub check_command: Vec<CheckRequest>,
    /// Folder for compressed NARs of what was built [default: none]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// How artifacts are compressed
    #[arg(long, value_enum, default_value_t)]
    pub artifact_format: Format,
}

/// Parallelism, retries and timeouts.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Number of builds that run at once: `auto` (from free processors and memory), `config` (as in nix.conf) or a number
    #[arg(long, value_name = "N", default_value = "auto", value_parser = limit)]
    pub max_jobs: Limit,
    /// Number of cores that each build may use: `auto`, `config` or a number; 0 means all
    #[arg(long, value_name = "N", default_value = "auto", value_parser = limit)]
    pub cores: Limit,
    /// Stop at the first failure
    #[arg(long)]
    pub no_keep_going: bool,
    /// How often to retry after a temporary failure (network, substituters), 0 to 20
    #[arg(long, value_name = "N", default_value = "2", value_parser = whole::<u32>(0, 20))]
    pub retries: u32,
    /// Pause before the first retry; it doubles with each retry
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = duration)]
    pub retry_delay: Duration,
    /// Time after the first failure during which retries may start
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub retry_budget: Duration,
    /// Longest time for the whole build [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Longest time for one derivation [default: as in nix.conf]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub derivation_timeout: Option<Duration>,
    /// Longest time that a builder may print nothing [default: as in nix.conf]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_silent_time: Option<Duration>,
}

impl BuildArgs {
    /// Returns the build for these arguments in `folder`. Relative folders of artifacts are not changed.
    pub(crate) fn request(&self, folder: PathBuf, store_root: Option<&Path>) -> Request {
        let limits = &self.limits;
        Request {
            targets: self.targets.clone(),
            derivations: BTreeMap::new(),
            flake: self.flake.clone(),
            nix_args: self.nix_args.clone(),
            jobs: limits.max_jobs,
            cores: limits.cores,
            keep_going: !limits.no_keep_going,
            dry_run: false,
            retry: Retry { times: limits.retries, delay: limits.retry_delay, budget: limits.retry_budget },
            timeout: limits.timeout,
            derivation_timeout: limits.derivation_timeout,
            silent_timeout: limits.max_silent_time,
            store_root: store_root.map(absolute),
            out_link: Some(self.out_link.clone()).filter(|link| !link.as_os_str().is_empty()),
            workspace: folder.clone(),
            folder,
            state: None,
            artifacts: self.artifacts.clone().map(|folder| ArtifactRequest { folder, format: self.artifact_format }),
            checks: self.checks(),
        }
    }

    /// The checks to run: the user's replace standard ones of the same name.
    pub(crate) fn checks(&self) -> Vec<CheckRequest> {
        let mut checks = if self.checks { defaults() } else { Vec::new() };
        checks.retain(|standard| self.check_command.iter().all(|own| own.name != standard.name));
        checks.extend(self.check_command.iter().cloned());
        checks
    }
}
