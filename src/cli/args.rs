//! What can be typed.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::base::env_vars;
use crate::base::typed::duration;
use crate::building::checks::{CheckRequest, parse as parse_check};
use crate::building::limits::Limit;
use crate::layer::pack::DEFAULT_LEVEL;
use crate::snapshot::names;

/// Gives a job the Nix store of the last one.
///
/// The store is kept in layers (squashfs images) under a key made from flake.lock. `restore` attaches what the newest
/// fitting snapshot has; `save` adds what is new since then.
#[derive(Debug, Parser)]
#[command(name = "nix-cache", version = VERSION.as_str(), after_help = EXIT_CODES, max_term_width = 110)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub logging: LoggingArgs,
}

/// The version, and which source it was built from: the hash that `scripts/source-hash.sh` prints, put there by
/// `scripts/build-dist.sh`. It is the hash of the files and not a commit, so that a commit can hold the source and what was
/// built from it.
static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("NIX_CACHE_SOURCE_HASH") {
    Some(hash) => format!("{} (source {hash})", env!("CARGO_PKG_VERSION")),
    None => concat!(env!("CARGO_PKG_VERSION"), " (unreleased)").to_owned(),
});

const EXIT_CODES: &str = "Exit codes:
  0  done; a cache miss, or trouble with the cache, is a warning and no failure
  1  the work could not be done, `verify` found damage, `build` failed, or `--fail-on-miss` met a miss
  2  wrong arguments, or a setting or file that makes no sense";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the key, the restore prefixes from near to far, and what they are made of
    Key(KeyCommand),
    /// Attach what the newest fitting snapshot has to the store here
    Restore(RestoreCommand),
    /// Save what is new in the store here
    Save(SaveCommand),
    /// Show what a snapshot holds: paths, sizes, layers, lanes
    Inspect(InspectCommand),
    /// Hash what was restored once more and compare it with the Nix database
    Verify(VerifyCommand),
    /// Build with Nix, and explain what failed
    Build(BuildCommand),
    /// Unmount what restores have mounted over the store; what is new stays, with all it refers to
    Detach(DetachCommand),
    /// Find out which targets of a flake a change affects, and which jobs build them
    Plan(super::plan_args::PlanCommand),
    /// The steps of the GitHub action, with settings from the environment
    #[command(hide = true)]
    Action(crate::action::ActionCommand),
    /// The steps that need root, for the program itself
    #[command(hide = true)]
    Privileged,
}

#[derive(Debug, Args)]
pub(super) struct LoggingArgs {
    /// Say more about what happens (environment: `NIX_CACHE_LOG`, as in `debug` or `nix_cache=trace`)
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Say nothing but warnings and errors
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

/// How the key is made; the same for every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Key")]
pub(super) struct KeyArgs {
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub project: PathBuf,
    /// A lock file, or a glob of them [default: flake.lock in the project, if there is one]
    #[arg(long, value_name = "FILE")]
    pub flake_lock: Vec<PathBuf>,
    /// The first word of the key
    #[arg(long, value_name = "WORD", default_value = "nix")]
    pub prefix_key: String,
    /// Files that the key depends on as well: globs in the project's folder, `!` in front of what to leave out
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
    /// A key to use as it is; nothing is computed then
    #[arg(long, value_name = "KEY", alias = "key")]
    pub primary_key: Option<String>,
    /// Prefixes of keys to fall back on, used as they are, the first one first
    #[arg(long, value_name = "PREFIX", aliases = ["restore-key", "restore-prefix"])]
    pub restore_prefixes_first_match: Vec<String>,
}

/// Where the cache is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cache")]
pub(super) struct RemoteArgs {
    /// Where layers and snapshots live: `dir:PATH`, or `github` inside of an action
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE)]
    pub remote: String,
    /// The job's name among those that share the key: who used what
    #[arg(long, value_name = "NAME", env = env_vars::NIX_CACHE_LANE, default_value = "default", value_parser = lane)]
    pub lane: String,
}

/// Whose snapshots are trusted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signatures")]
pub(super) struct TrustArgs {
    /// Use only what one of these keys signed, written as NAME:BASE64 with white space between them [default: trust all]
    #[arg(long, value_name = "KEYS")]
    pub trusted_public_keys: Vec<String>,
    /// Use nothing that is not signed by a trusted key, even if there is none
    #[arg(long)]
    pub require_signatures: bool,
}

/// Where the store is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreArgs {
    /// A store under another root, as `nix --store DIR`; made if it is not there [default: the store at /nix]
    #[arg(long, value_name = "DIR")]
    pub store_root: Option<PathBuf>,
    /// Threads that pack, unpack and hash [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}

#[derive(Debug, Args)]
pub(super) struct KeyCommand {
    #[command(flatten)]
    pub key: KeyArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RestoreMode {
    /// Mount on GitHub-hosted machines where the kernel can, unpack everywhere else
    Auto,
    /// Mount layers below the store directory; unpack them where that does not work. Run `nix-cache detach` before the machine
    /// restarts, or after it: until then, or until the next restore, Nix takes paths for valid that are not there
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
    /// Longest time for all of it; what is complete by then is used
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub restore_timeout: Duration,
    /// End with exit code 1 when nothing fits
    #[arg(long)]
    pub fail_on_miss: bool,
    /// How to print what came of it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Include {
    /// Every path
    All,
    /// Only paths that none of Nix's substituters offers; a restore fetches the others from there
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
    /// Sign with the secret keys in this file, as `nix key generate-secret` makes them; only what they or the trusted keys
    /// signed is built upon then
    #[arg(long, value_name = "FILE", help_heading = "Signatures")]
    pub signing_key_file: Option<PathBuf>,
    /// What to save
    #[arg(long, value_enum, default_value_t = Include::All)]
    pub include: Include,
    /// Level of zstd for new layers
    #[arg(long, value_name = "1-22", default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub compression_level: i32,
    /// Most that the layers of one snapshot may take, such as 5G or 500M; what was used longest ago goes first
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Longest time that the save may wait for its cache [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub save_timeout: Option<Duration>,
    /// How many saves of its lane a path outlives that was replaced by a newer one of the same name; 0 keeps everything
    #[arg(long, value_name = "NUMBER", default_value_t = crate::cache::DEFAULT_KEEP_SAVES)]
    pub keep_saves: u32,
    /// How to print what came of it
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
    /// How to print it; JSON has every path
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct VerifyCommand {
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to print what came of it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct BuildCommand {
    /// What to build: attributes of the flake, such as `hello` or `checks.x86_64-linux.unit`, or whole installables
    /// [default: default, or nothing with --checks]
    #[arg(value_name = "ATTR")]
    pub targets: Vec<String>,
    /// The flake
    #[arg(long, value_name = "FLAKE", default_value = ".")]
    pub flake: String,
    /// Further arguments for `nix build`
    #[arg(last = true, value_name = "NIX ARGUMENTS")]
    pub nix_args: Vec<String>,
    /// A store under another root, as `nix --store DIR` [default: the store at /nix]
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
    /// Run the usual checks too: formatter, statix, deadnix, `nix flake check`
    #[arg(long)]
    pub checks: bool,
    /// Run this check too, such as `lint: ./lint.sh`
    #[arg(long, value_name = "NAME: COMMAND", value_parser = check)]
    pub check_command: Vec<CheckRequest>,
    /// A folder for compressed NARs of what was built
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// How they are compressed
    #[arg(long, value_enum, default_value_t = ArtifactFormat::NarZst)]
    pub artifact_format: ArtifactFormat,
    /// How to print what came of it; the log goes to standard error
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How much, how long, how often.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct BuildLimits {
    /// Builds at once: `auto` (from free processors and memory), `config` (as nix.conf has it) or a number
    #[arg(long, value_name = "N", default_value = "auto", value_parser = limit)]
    pub max_jobs: Limit,
    /// Processes that each build may use, likewise
    #[arg(long, value_name = "N", default_value = "auto", value_parser = limit)]
    pub cores: Limit,
    /// Stop at the first failure
    #[arg(long)]
    pub no_keep_going: bool,
    /// How often it is tried again after a failure that may pass (network, substituters)
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub retries: u32,
    /// The first pause before that, in seconds or as 10m; each one is twice as long as the one before it
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = time)]
    pub retry_delay: Duration,
    /// So long after the first failure, it is not tried again
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub retry_budget: Duration,
    /// Longest time for all of it
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
    Limit::parse(text).ok_or_else(|| format!("it takes {}", Limit::TAKES))
}

fn time(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "it takes a number of seconds above 0, or a time such as 10m or 1h30m".to_owned())
}

fn lane(text: &str) -> Result<String, String> {
    names::parse(text).ok_or_else(|| format!("a name takes {}", names::TAKES))
}

fn check(text: &str) -> Result<CheckRequest, String> {
    parse_check(text).ok_or_else(|| "it takes a name, a colon and a command, such as `lint: ./lint.sh`".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct DetachCommand {
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to print what came of it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}
