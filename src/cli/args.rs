//! The command line as clap reads it.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::app::settings::{
    BuildArgs, DrvsArgs, FailArgs, KeyArgs, LaneArgs, PackingArgs, RestoreArgs, ShareArgs, TrustArgs, whole,
};
use crate::base::env_vars;

/// Starts each job with the Nix store of the last one.
///
/// The store is kept in layers (squashfs images) under a key computed from flake.lock. `restore` attaches the layers of the
/// newest matching snapshot; `save` adds what is new since then.
#[derive(Debug, Parser)]
#[command(name = "nix-cache", version = VERSION.as_str(), after_help = EXIT_CODES, max_term_width = 110)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub logging: LoggingArgs,
}

/// The version and the hash of the source it was built from, as `scripts/source-hash.sh` prints it; `scripts/build-dist.sh`
/// sets it. It is a hash of the files instead of a commit so that one commit can hold the source and the binaries built from it.
static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("NIX_CACHE_SOURCE_HASH") {
    Some(hash) => format!("{} (source {hash})", env!("CARGO_PKG_VERSION")),
    None => concat!(env!("CARGO_PKG_VERSION"), " (unreleased)").to_owned(),
});

const EXIT_CODES: &str = "Exit codes:
  0  success; cache misses and cache problems are warnings, not failures
  1  the work failed, `verify` found damage, `build` failed, `audit` found what the policy
     forbids, `push` could not push everything, or there was a miss with `--fail-on-miss`
  2  invalid arguments, settings or files";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a workflow and settings for a flake, and say what they replace
    Init(super::init::InitCommand),
    /// Print the key, its restore prefixes from near to far, and what they are computed from
    Key(KeyCommand),
    /// Restore the newest matching snapshot into the store
    Restore(RestoreCommand),
    /// Save what is new in the store
    Save(SaveCommand),
    /// Show the paths, sizes, layers and lanes of a snapshot
    Inspect(InspectCommand),
    /// Show, export or import the history of jobs
    History(super::history::HistoryCommand),
    /// Comment on a pull request: what the jobs of a run took from the cache and built, compared with the base branch
    Comment(super::comment::CommentCommand),
    /// Write a page about the history of jobs: hit rates, times, savings, failures and goals
    Dashboard(super::dashboard::DashboardCommand),
    /// Hash the restored paths again and compare them with the Nix database
    Verify(VerifyCommand),
    /// Build with Nix and explain what failed
    Build(BuildCommand),
    /// Unmount restored layers; new paths stay, with everything they refer to
    Detach(DetachCommand),
    /// Find out which targets of a flake a change affects and which jobs build them
    Plan(super::plan_args::PlanCommand),
    /// Delete entries of a cache that no job reads any more
    Prune(super::prune::PruneCommand),
    /// Fetch and build what other jobs will need, and keep what they use from being evicted
    Warm(Box<super::warm::WarmCommand>),
    /// Push what was built here to binary caches
    Push(super::push::PushCommand),
    /// Audit a flake's lock file and packages against a policy
    Audit(super::audit::AuditCommand),
    /// Fetch vulnerability feeds and reduce them to what an audit needs
    Feeds(super::feeds::FeedsCommand),
    /// Run a step of the GitHub action, with settings from the environment
    #[command(hide = true)]
    Action(crate::action::ActionCommand),
    /// Run a step that needs root, for the program itself
    #[command(hide = true)]
    Privileged,
    /// Show what of streamed layers is here, or stop fetching them
    Stream(StreamCommand),
}

#[derive(Debug, Args)]
pub(super) struct StreamCommand {
    /// What to do
    #[arg(value_enum)]
    pub part: StreamPart,
    /// For a worker: the user and group whose rights it takes
    #[arg(num_args = 2, hide = true)]
    pub rights: Vec<u32>,
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StreamPart {
    /// Show what is here, what waits, and what was lost
    Status,
    /// Stop fetching in the background; what is read is still fetched
    Finish,
    /// Stop fetching: reads that wait fail, and so do later ones of what is not here; to end processes that wait for bytes
    Abort,
    /// Hold what a worker needs, for the program itself
    #[value(hide = true)]
    Guard,
    /// Serve the files of streamed layers, for the program itself
    #[value(hide = true)]
    Worker,
}

#[derive(Debug, Args)]
pub(super) struct LoggingArgs {
    /// Log more (environment: `NIX_CACHE_LOG`, such as `nix_cache=debug`, or `debug` for the libraries too)
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Log only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// How to print.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs, with every detail
    Json,
}

/// Which project, and how its key is computed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Key")]
pub(super) struct ProjectArgs {
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
    /// The Nix system [default: that of this machine]
    #[arg(long, value_name = "SYSTEM", default_value = "", hide_default_value = true)]
    pub system: String,
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Where the cache is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cache")]
pub(super) struct RemoteArgs {
    /// Where layers and snapshots are stored: `dir:PATH`, `s3://BUCKET/PREFIX?endpoint=…&region=…` with keys from the
    /// variables `AWS_*`, or `github` inside an action. Further ones that are only read stand on lines of their own, each with
    /// `read-only` behind it
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE)]
    pub remote: String,
    #[command(flatten)]
    pub share: ShareArgs,
    #[command(flatten)]
    pub lane: LaneArgs,
}

/// Where the store is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(super) struct RootArgs {
    /// A store under another root, as in `nix --store DIR`; created if it does not exist [default: the store at /nix]
    #[arg(long, value_name = "DIR")]
    pub store_root: Option<PathBuf>,
}

/// Where the store is, and how much of the machine to use.
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    #[command(flatten)]
    pub root: RootArgs,
    /// Number of threads that pack, unpack and hash [default: one per core]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 256))]
    pub threads: Option<usize>,
}

/// Whom to trust, and how to sign.
#[derive(Debug, Args)]
pub(super) struct SigningArgs {
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Sign what is saved with the secret keys in this file, as printed by `nix key generate-secret`; only what is signed by
    /// them or by the trusted keys is extended then
    #[arg(long, value_name = "FILE")]
    pub signing_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct KeyCommand {
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub restore: RestoreArgs,
    #[command(flatten)]
    pub fail: FailArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct SaveCommand {
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub signing: SigningArgs,
    #[command(flatten)]
    pub packing: PackingArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct InspectCommand {
    #[command(flatten)]
    pub project: ProjectArgs,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// List every path
    #[arg(long, help_heading = "Output")]
    pub paths: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct VerifyCommand {
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct BuildCommand {
    #[command(flatten)]
    pub build: BuildArgs,
    #[command(flatten)]
    pub drvs: DrvsArgs,
    /// Where the plan saved derivations, such as `dir:PATH` [default: they are in the store]
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE, help_heading = "Derivations of a plan")]
    pub remote: Option<String>,
    /// Make no link to the results
    #[arg(long, conflicts_with = "out_link", help_heading = "Build")]
    pub no_link: bool,
    #[command(flatten)]
    pub root: RootArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct DetachCommand {
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}
