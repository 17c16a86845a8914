//! The settings of a plan.

use std::path::{Path, PathBuf};

use clap::Args;

use super::values::{runners, size, whole};
use crate::app::Failure;
use crate::plan::{
    Evaluate, EvaluateBase, FetchToken, Filter, Nix, Policy, RULES_FILE, Repository, Request, Rules, RulesFile,
    RunnerMap, Wish,
};

/// What to plan, and how.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag that can be typed")]
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Plan")]
pub(crate) struct PlanArgs {
    /// The commit to compare with, assumed to be built [default: in an action, depends on the event; on a command line, HEAD
    /// if files differ from it, otherwise its parent]
    #[arg(long, value_name = "COMMIT")]
    pub base: Option<String>,
    /// Patterns of the targets to consider, such as `nixosConfigurations.*` or `checks.x86_64-linux` [default: all]
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Patterns of the targets to ignore
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The rules file, which says which files affect which targets [default: nix-cache.toml at the top of the repository, if
    /// it exists]
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Which targets to evaluate
    #[arg(long, value_enum, default_value_t)]
    pub evaluate: Evaluate,
    /// When to evaluate the base as well
    #[arg(long, value_enum, default_value_t)]
    pub evaluate_base: EvaluateBase,
    /// JSON object from systems to `runs-on` values; targets of other systems are left out [default: GitHub's own
    /// runners for x86_64-linux, aarch64-linux, aarch64-darwin and x86_64-darwin]
    #[arg(long, value_name = "JSON", value_parser = runners)]
    pub runner_map: Option<RunnerMap>,
    /// Largest number of packages, checks and shells that share one job; machines and homes get a job each
    #[arg(long, value_name = "N", default_value = "8", value_parser = whole::<usize>(1, 256))]
    pub group_size: usize,
    /// Number of targets to evaluate at the same time [default: as many as there are cores and memory for]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 256))]
    pub workers: Option<usize>,
    // A large NixOS configuration needs about 2 GiB.
    /// Memory that one evaluation may use; a target that needs more is evaluated again at the end, alone
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = size)]
    pub worker_memory: u64,
    /// Build changed targets even if their outputs are already in the cache or at a substituter
    #[arg(long, alias = "no-skip-cached")]
    pub build_cached: bool,
    /// Skip unchanged targets even if they were to be built earlier and are in no cache
    #[arg(long, alias = "no-retry-unbuilt")]
    pub no_retry: bool,
    /// Leave out the substituters that Nix is configured with
    #[arg(long)]
    pub no_substituters: bool,
    /// Further arguments for `nix eval`, such as `--accept-flake-config`
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true, alias = "nix-args")]
    pub nix_arg: Vec<String>,
}

impl PlanArgs {
    /// Returns the plan for these arguments and the flake in `project`. The name of a rules file is relative to `from`, and `base`
    /// chooses the commit to compare with.
    pub(crate) fn request(
        &self,
        project: PathBuf,
        from: &Path,
        token: Option<FetchToken>,
        store_root: Option<&Path>,
        base: impl FnOnce(&Result<Repository, String>) -> Wish,
    ) -> Result<Request, Failure> {
        let repository = Repository::open(&project, token)
            .map_err(|why| format!("Git cannot tell what changed, so everything counts as changed: {why}."));
        let top = repository.as_ref().map_or(project.as_path(), Repository::top);
        let file = match &self.rules {
            Some(path) => Some(given_rules(&from.join(path), &path.display().to_string())?),
            None => RulesFile::read(&top.join(RULES_FILE), RULES_FILE).map_err(Failure::usage)?,
        };
        let (rules, filter) = rules_and_filter(file, &self.include, &self.exclude)?;
        Ok(Request {
            base: base(&repository),
            project,
            repository,
            nix: Nix { store_root: store_root.map(Into::into), arguments: self.nix_arg.clone() },
            rules,
            filter,
            evaluate: self.evaluate,
            evaluate_base: self.evaluate_base,
            policy: Policy { skip_cached: !self.build_cached, retry_unbuilt: !self.no_retry },
            workers: self.workers,
            worker_memory: self.worker_memory,
            runners: self.runner_map.clone().unwrap_or_default(),
            group: self.group_size,
        })
    }
}

/// Reads the rules file that the user named, which must exist.
fn given_rules(path: &Path, name: &str) -> Result<RulesFile, Failure> {
    let missing = || Failure::usage(format!("There is no rules file {name}. Correct its name, or leave it out."));
    RulesFile::read(path, name).map_err(Failure::usage)?.ok_or_else(missing)
}

/// Returns the rules of a file, and the filter of the file and the arguments: a given `include` replaces the file's, a given
/// `exclude` is added to it.
fn rules_and_filter(
    file: Option<RulesFile>,
    include: &[String],
    exclude: &[String],
) -> Result<(Option<Rules>, Filter), Failure> {
    let (rules, of_file, mut out) =
        file.map_or((None, Vec::new(), Vec::new()), |file| (file.rules, file.include, file.exclude));
    out.extend_from_slice(exclude);
    let include = if include.is_empty() { &of_file } else { include };
    Ok((rules, Filter::parse(include, &out).map_err(Failure::usage)?))
}
