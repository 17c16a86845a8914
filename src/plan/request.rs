//! What a plan is asked for.

use std::path::PathBuf;

use clap::ValueEnum;

use super::decide::Policy;
use super::matrix::RunnerMap;
use super::{Filter, Nix, Repository, Rules, Wish};

/// Which targets are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Evaluate {
    /// Those that the rules do not rule out, or all if there are no rules
    #[default]
    Auto,
    /// All targets; the rules alone skip nothing then
    Always,
    /// None; the rules decide alone
    Never,
}

/// When the base is evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvaluateBase {
    /// If no plan of it or of an earlier commit is cached; only targets whose outputs are in no cache
    #[default]
    Auto,
    /// Whenever it is assumed to be built
    Always,
    /// Not at all
    Never,
}

/// What to plan, and how.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The folder of the flake.
    pub project: PathBuf,
    /// The repository that it is in, or why there is none.
    pub repository: Result<Repository, String>,
    /// How Nix is called.
    pub nix: Nix,
    /// The user's rules; None for the defaults.
    pub rules: Option<Rules>,
    /// Which targets are looked at.
    pub filter: Filter,
    /// What to compare with.
    pub base: Wish,
    /// Which targets are evaluated.
    pub evaluate: Evaluate,
    /// When the base is.
    pub evaluate_base: EvaluateBase,
    /// What caches and earlier plans have to say.
    pub policy: Policy,
    /// How many evaluate at a time; None for as many as there are cores and memory for.
    pub workers: Option<usize>,
    /// Most bytes of memory of each.
    pub worker_memory: u64,
    /// Which runners there are.
    pub runners: RunnerMap,
    /// Most small targets in one job.
    pub group: usize,
}
