//! The settings of pruning.

use clap::Args;

use super::values::{size, whole};
use crate::prune::Rules;

/// What to keep.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Prune")]
pub(crate) struct PruneArgs {
    /// Delete what the plan says [default: a dry run that only prints the plan]
    #[arg(long)]
    pub apply: bool,
    /// Number of newest generations of each key and branch to keep
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = whole::<usize>(1, 1000))]
    pub keep_generations: usize,
    /// Number of days after which a key that no job used is dropped
    #[arg(long, value_name = "DAYS", default_value_t = 14, value_parser = whole::<u64>(1, 36500))]
    pub keep_days: u64,
    /// Largest size of the cache, other tools' entries included; least recently used keys are dropped until it fits [default: 8G,
    /// which is 80 % of the space that GitHub gives a repository; no limit for a directory or an object store]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_total: Option<u64>,
}

impl PruneArgs {
    /// The rules; `quota` is the size of the remote, if it has one.
    pub(crate) fn rules(&self, quota: Option<u64>) -> Rules {
        Rules {
            keep_generations: self.keep_generations,
            keep_days: self.keep_days,
            max_total: self.max_total.or(quota.map(|quota| quota / 10 * 8)),
        }
    }
}
