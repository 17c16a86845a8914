//! The command line as clap reads it.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::base::env_vars;
use crate::base::typed::duration;
use crate::building::checks::{CheckRequest, parse as parse_check};
use crate::building::limits::Limit;
use crate::layer::pack::DEFAULT_LEVEL;
use crate::series::names;

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
     forbids, or there was a miss with `--fail-on-miss`
  2  invalid arguments, settings or files";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the key, its restore prefixes from near to far, and what they are computed from
    Key(KeyCommand),
    /// Restore the newest matching snapshot into the store
    Restore(RestoreCommand),
    /// Save what is new in the store
    Save(SaveCommand),
    /// Show the paths, sizes, layers and lanes of a snapshot
    Inspect(InspectCommand),
    /// Hash the restored paths again and compare them with the Nix database
    Verify(VerifyCommand),
    /// Build with Nix and explain what failed
    Build(BuildCommand),
    /// Unmount restored layers; new paths stay, with everything they refer to
    Detach(DetachCommand),
    /// Find out which targets of a flake a change affects and which jobs build them
    Plan(super::plan_args::PlanCommand),
    /// Audit a flake's lock file against a policy
    Audit(super::audit::AuditCommand),
    /// Run a step of the GitHub action, with settings from the environment
    #[command(hide = true)]
    Action(crate::action::ActionCommand),
    /// Run a step that needs root, for the program itself
    #[command(hide = true)]
    Privileged,
}

#[derive(Debug, Args)]
pub(super) struct LoggingArgs {
    /// Log more (environment: `NIX_CACHE_LOG`, such as `debug` or `nix_cache=trace`)
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Log only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// How the key is computed; the same for every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Key")]
pub(super) struct KeyArgs {
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
    /// A lock file, or a glob for several [default: flake.lock in the project, if there is one]
    #[arg(long, value_name = "FILE")]
    pub flake_lock: Vec<PathBuf>,
    /// The first word of the key
    #[arg(long, value_name = "WORD", default_value = "nix")]
    pub prefix_key: String,
    /// Globs of further files that the key depends on, in the project's folder; `!` in front excludes files
    #[arg(long, value_name = "GLOB")]
    pub key_files: Vec<String>,
    /// Environment variables whose values the key depends on
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub env_vars: Vec<String>,
    /// Text that the key depends on
    #[arg(long, value_name = "TEXT")]
    pub extra_key: Option<String>,
    /// The Nix system [default: that of this machine]
    #[arg(long, value_name = "SYSTEM", default_value = "", hide_default_value = true)]
    pub system: String,
    /// Use this key as it is instead of computing one
    #[arg(long, value_name = "KEY", alias = "key")]
    pub primary_key: Option<String>,
    /// Key prefixes to fall back to, used as they are, in this order
    #[arg(long, value_name = "PREFIX", aliases = ["restore-key", "restore-prefix"])]
    pub restore_prefixes_first_match: Vec<String>,
}

/// Where the cache is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cache")]
pub(super) struct RemoteArgs {
    /// Where layers and snapshots are stored: `dir:PATH`, or `github` inside an action
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE)]
    pub remote: String,
    /// The name that distinguishes this job from others with the same key
    #[arg(long, value_name = "NAME", env = env_vars::NIX_CACHE_LANE, default_value = "default", value_parser = lane)]
    pub lane: String,
}

/// Whose snapshots are trusted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signatures")]
pub(super) struct TrustArgs {
    /// Use only what is signed by one of these keys, as NAME:BASE64, separated by white space [default: trust everything]
    #[arg(long, value_name = "KEYS")]
    pub trusted_public_keys: Vec<String>,
    /// Use only what is signed by a trusted key, even if no key is given
    #[arg(long)]
    pub require_signatures: bool,
}

/// Where the store is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreArgs {
    /// A store under another root, as in `nix --store DIR`; created if it does not exist [default: the store at /nix]
    #[arg(long, value_name = "DIR")]
    pub store_root: Option<PathBuf>,
    /// Number of threads that pack, unpack and hash [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}

#[derive(Debug, Args)]
pub(super) struct KeyCommand {
    #[command(flatten)]
    pub key: KeyArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RestoreMode {
    /// Mount on GitHub-hosted machines where the kernel can, unpack everywhere else
    Auto,
    /// Mount layers below the store directory; unpack them if that does not work. Run `nix-cache detach` before or after the
    /// machine restarts: until then, or until the next restore, Nix considers paths valid that are gone
    Mount,
    /// Write every path into the store directory
    Unpack,
}

#[derive(Debug, Args)]
pub(super) struct RestoreCommand {
    #[command(flatten)]
    pub key: KeyArgs,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// How layers get into the store
    #[arg(long, value_enum, default_value_t = RestoreMode::Auto)]
    pub restore_mode: RestoreMode,
    /// Longest time for the whole restore; what is complete by then is used
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub restore_timeout: Duration,
    /// Exit with code 1 if neither the key nor a prefix is found
    #[arg(long)]
    pub fail_on_miss: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Include {
    /// Every path
    All,
    /// Only paths that no substituter offers; a restore fetches the others from there
    NotUpstream,
}

#[derive(Debug, Args)]
pub(super) struct SaveCommand {
    #[command(flatten)]
    pub key: KeyArgs,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Sign with the secret keys in this file, as printed by `nix key generate-secret`; only snapshots signed by them or by
    /// the trusted keys are extended then
    #[arg(long, value_name = "FILE", help_heading = "Signatures")]
    pub signing_key_file: Option<PathBuf>,
    /// Which paths to save
    #[arg(long, value_enum, default_value_t = Include::All)]
    pub include: Include,
    /// zstd level of new layers
    #[arg(long, value_name = "1-22", default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub compression_level: i32,
    /// Largest size of the layers of one snapshot, such as 5G or 500M; the least recently used paths are dropped first
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Longest time that the save may wait for the cache [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub save_timeout: Option<Duration>,
    /// Number of saves of its lane after which an unused path is dropped once a newer path of the same name replaced it; 0
    /// keeps everything
    #[arg(long, value_name = "NUMBER", default_value_t = crate::cache::DEFAULT_KEEP_SAVES)]
    pub keep_saves: u32,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct InspectCommand {
    #[command(flatten)]
    pub key: KeyArgs,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// List every path
    #[arg(long)]
    pub paths: bool,
    /// How to print the result; JSON has every path
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct VerifyCommand {
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct BuildCommand {
    /// What to build: attributes of the flake, such as `hello` or `checks.x86_64-linux.unit`, or whole installables
    /// [default: default, or nothing with --checks]
    #[arg(value_name = "ATTR")]
    pub targets: Vec<String>,
    /// The flake that contains the targets
    #[arg(long, value_name = "FLAKE", default_value = ".")]
    pub flake: String,
    /// Further arguments for `nix build`
    #[arg(last = true, value_name = "NIX ARGUMENTS")]
    pub nix_args: Vec<String>,
    /// A store under another root, as in `nix --store DIR` [default: the store at /nix]
    #[arg(long, value_name = "DIR")]
    pub store_root: Option<PathBuf>,
    /// The link to the results
    #[arg(long, value_name = "LINK", default_value = "result")]
    pub out_link: PathBuf,
    /// Make no link to the results
    #[arg(long, conflicts_with = "out_link")]
    pub no_link: bool,
    #[command(flatten)]
    pub limits: BuildLimits,
    /// Also run the standard checks: formatter, statix, deadnix, `nix flake check`
    #[arg(long)]
    pub checks: bool,
    /// Also run this check, such as `lint: ./lint.sh`
    #[arg(long, value_name = "NAME: COMMAND", value_parser = check)]
    pub check_command: Vec<CheckRequest>,
    /// Folder for compressed NARs of what was built
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// How artifacts are compressed
    #[arg(long, value_enum, default_value_t = ArtifactFormat::NarZst)]
    pub artifact_format: ArtifactFormat,
    /// How to print the result; the log goes to standard error
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Parallelism, retries and timeouts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct BuildLimits {
    /// Number of builds that run at once: `auto` (from free processors and memory), `config` (as in nix.conf) or a number
    #[arg(long, value_name = "N", default_value = "auto", value_parser = limit)]
    pub max_jobs: Limit,
    /// Number of cores that each build may use: `auto`, `config` or a number; 0 means all
    #[arg(long, value_name = "N", default_value = "auto", value_parser = limit)]
    pub cores: Limit,
    /// Stop at the first failure
    #[arg(long)]
    pub no_keep_going: bool,
    /// How often to retry after a temporary failure (network, substituters)
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub retries: u32,
    /// Pause before the first retry, in seconds or as 10m; it doubles with each retry
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = time)]
    pub retry_delay: Duration,
    /// Time after the first failure during which retries may start
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub retry_budget: Duration,
    /// Longest time for the whole build
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,
    /// Longest time for one derivation
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub derivation_timeout: Option<Duration>,
    /// Longest time that a builder may print nothing
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub max_silent_time: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ArtifactFormat {
    /// zstd
    #[value(name = "nar.zst")]
    NarZst,
    /// gzip
    #[value(name = "nar.gz")]
    NarGz,
}

fn limit(text: &str) -> Result<Limit, String> {
    Limit::parse(text).ok_or_else(|| format!("expected {}", Limit::TAKES))
}

fn time(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "expected a number of seconds above 0, or a time such as 10m or 1h30m".to_owned())
}

fn lane(text: &str) -> Result<String, String> {
    names::parse(text).ok_or_else(|| format!("a name consists of {}", names::TAKES))
}

fn check(text: &str) -> Result<CheckRequest, String> {
    parse_check(text).ok_or_else(|| "expected a name, a colon and a command, such as `lint: ./lint.sh`".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct DetachCommand {
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}
