//! The settings of the cache: the key, the lane, how to restore, what to save, and trusted keys.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::{duration, lane, size, whole};
use crate::app::Failure;
use crate::base::env_vars;
use crate::cache::{DEFAULT_KEEP_SAVES, Include, ModeRequest, Packing};
use crate::flake::{Key, KeyRequest, escape};
use crate::layer::pack::DEFAULT_LEVEL;
use crate::series::Hit;
use crate::series::sign::Keyring;

/// How the key is computed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Key")]
pub(crate) struct KeyArgs {
    /// Use this key as it is [default: computed from the system, the nixpkgs revision and the whole flake.lock]
    #[arg(long, value_name = "KEY", alias = "key")]
    pub primary_key: Option<String>,
    /// Key prefixes to fall back to, used as they are: the newest snapshot under the first prefix that has one is restored
    /// [default: the prefixes of the key]
    #[arg(long, value_name = "PREFIX", aliases = ["restore-keys", "restore-key", "restore-prefix"])]
    pub restore_prefixes_first_match: Vec<String>,
    /// The first word of a computed key; change it to start with an empty cache
    #[arg(long, value_name = "WORD", default_value = "nix")]
    pub prefix_key: String,
    /// Text that a computed key depends on
    #[arg(long, value_name = "TEXT")]
    pub extra_key: Option<String>,
    /// Globs of further files that a computed key depends on, in the project's folder; `!` in front excludes files
    #[arg(long, value_name = "GLOB")]
    pub key_files: Vec<String>,
    /// Names of environment variables whose values a computed key depends on
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub env_vars: Vec<String>,
    /// The lock file to compute the key from, or a glob for several [default: flake.lock in the project, if there is one]
    #[arg(long, value_name = "FILE")]
    pub flake_lock: Vec<PathBuf>,
}

impl KeyArgs {
    /// Returns what the key is computed from, for a project and a system; an empty system is that of this machine.
    pub(crate) fn request(&self, project: &Path, system: &str) -> KeyRequest {
        let prefixes = &self.restore_prefixes_first_match;
        KeyRequest {
            prefix: self.prefix_key.clone(),
            system: system.to_owned(),
            locks: self.flake_lock.clone(),
            base: project.to_owned(),
            key_files: self.key_files.clone(),
            env_vars: self.env_vars.clone(),
            extra: self.extra_key.clone(),
            primary_key: self.primary_key.clone(),
            restore_prefixes: (!prefixes.is_empty()).then(|| prefixes.clone()),
        }
    }
}

/// The primary key and the restore prefixes, escaped for remotes.
pub(crate) fn escaped(key: &Key) -> Result<(String, Vec<String>), Failure> {
    let primary = escape(&key.primary).map_err(Failure::usage)?;
    let prefixes = key.restore_prefixes.iter().map(|prefix| escape(prefix)).collect::<Result<_, _>>();
    Ok((primary, prefixes.map_err(Failure::usage)?))
}

/// Who else writes to the same place.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cache")]
pub(crate) struct ShareArgs {
    /// Other repositories that write to the same object store or directory: the snapshots of these are used as well. Everything in it
    /// has to be signed by a trusted key then
    #[arg(long, value_name = "OWNER/NAME", value_delimiter = ' ')]
    pub share_with: Vec<String>,
}

/// Which job this is.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cache")]
pub(crate) struct LaneArgs {
    /// Name that distinguishes jobs that share a key but use different paths: letters, digits, spaces and any of
    /// `._/+@=,~()#-` [default: in an action, workflow, job and matrix; on a command line, `default`]
    #[arg(long, value_name = "NAME", env = env_vars::NIX_CACHE_LANE, value_parser = lane)]
    pub lane: Option<String>,
}

/// How to restore.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Restore")]
pub(crate) struct RestoreArgs {
    /// How layers get into the store
    #[arg(long, value_enum, default_value_t)]
    pub restore_mode: RestoreMode,
    /// Longest time for the whole restore; what is complete by then is used
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub restore_timeout: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestoreMode {
    /// On GitHub-hosted machines: `stream` from 64 MiB of layers on, otherwise `download`, each where the kernel can; unpack everywhere
    /// else
    #[default]
    Auto,
    /// Mount layers before they are downloaded, and fetch what is read; as `download` if that does not work. For machines
    /// that end with the job
    Stream,
    /// Download layers and mount them below the store directory, or unpack them if that does not work; run `nix-cache
    /// detach` before the machine restarts
    #[value(alias = "mount")]
    Download,
    /// Write every path into the store directory
    Unpack,
}

impl RestoreArgs {
    /// `is_hosted`: whether the machine is created for this job and discarded after it.
    pub(crate) fn mode(&self, is_hosted: bool) -> ModeRequest {
        match self.restore_mode {
            RestoreMode::Auto => ModeRequest::Auto { is_hosted },
            RestoreMode::Stream => ModeRequest::Stream,
            RestoreMode::Download => ModeRequest::Mount,
            RestoreMode::Unpack => ModeRequest::Unpack,
        }
    }
}

/// Conditions under which a restore fails, at the user's request.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Restore")]
pub(crate) struct FailArgs {
    /// Conditions under which to fail [default: never]
    #[arg(long, value_enum, value_name = "CONDITION", value_delimiter = ',')]
    pub fail_on: Vec<FailOn>,
    /// Fail if neither the key nor a prefix is found, as with `first-match.miss`
    #[arg(long, alias = "fail-on-cache-miss")]
    pub fail_on_miss: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// The key itself is not found
    #[value(name = "primary-key.miss")]
    PrimaryKeyMiss,
    /// The key itself is not found or cannot be restored
    #[value(name = "primary-key.not-restored")]
    PrimaryKeyNotRestored,
    /// Neither the key nor a prefix is found
    #[value(name = "first-match.miss")]
    FirstMatchMiss,
    /// Nothing is restored
    #[value(name = "first-match.not-restored")]
    FirstMatchNotRestored,
}

impl FailOn {
    /// Returns whether it holds, given the kind of hit and whether its paths are in the store now.
    fn holds(self, hit: Hit, restored: bool) -> bool {
        match self {
            Self::PrimaryKeyMiss => hit != Hit::Exact,
            Self::PrimaryKeyNotRestored => hit != Hit::Exact || !restored,
            Self::FirstMatchMiss => hit == Hit::Miss,
            Self::FirstMatchNotRestored => !restored,
        }
    }
}

impl fmt::Display for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl FailArgs {
    /// Returns the first condition that holds; None if the job may continue.
    pub(crate) fn failure(&self, hit: Hit, restored: bool) -> Option<FailOn> {
        let miss = self.fail_on_miss.then_some(FailOn::FirstMatchMiss);
        self.fail_on.iter().copied().chain(miss).find(|condition| condition.holds(hit, restored))
    }
}

/// What to save, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Save")]
pub(crate) struct PackingArgs {
    /// Which paths to save
    #[arg(long, value_enum, default_value_t)]
    pub include: Include,
    /// Largest size of the layers of one snapshot; the least recently used paths are dropped first [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
    /// Number of saves of its lane after which an unused path is dropped once a newer path of the same name replaced it; 0
    /// keeps everything
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_KEEP_SAVES, value_parser = whole::<u32>(0, u32::MAX.into()))]
    pub keep_saves: u32,
    /// zstd level of new layers, 1 to 22
    #[arg(long, value_name = "1-22", default_value_t = DEFAULT_LEVEL, value_parser = whole::<i32>(1, 22))]
    pub compression_level: i32,
    /// Longest time that a save may take; what was uploaded by then is kept [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub save_timeout: Option<Duration>,
}

impl PackingArgs {
    pub(crate) fn packing(&self) -> Packing {
        let Self { include, max_size, keep_saves, compression_level: level, .. } = *self;
        Packing { include, max_size, keep_saves, level, ..Packing::default() }
    }
}

/// Whose snapshots are trusted.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Signatures")]
pub(crate) struct TrustArgs {
    /// Use only what is signed by one of these public keys, as Nix writes them (`name:base64`) [default:
    /// everything in the cache is trusted]
    #[arg(long, value_name = "KEYS", value_delimiter = ' ')]
    pub trusted_public_keys: Vec<String>,
    /// Use only what is signed by a trusted key, even if `trusted-public-keys` is empty
    #[arg(long)]
    pub require_signatures: bool,
}

impl TrustArgs {
    /// The keys to trust, and those in `signing` to sign with.
    pub(crate) fn keyring(&self, signing: &str) -> Result<Keyring, Failure> {
        let keys = Keyring::new(signing, &self.trusted_public_keys.join(" ")).map_err(Failure::usage)?;
        Ok(if self.require_signatures { keys.requiring_signatures() } else { keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fail_on_says_which_condition_holds() {
        use FailOn::{FirstMatchMiss, FirstMatchNotRestored, PrimaryKeyMiss, PrimaryKeyNotRestored};
        for (condition, fails) in [
            (PrimaryKeyMiss, [false, false, true, true]),
            (PrimaryKeyNotRestored, [false, true, true, true]),
            (FirstMatchMiss, [false, false, false, true]),
            (FirstMatchNotRestored, [false, true, false, true]),
        ] {
            let args = FailArgs { fail_on: vec![condition], fail_on_miss: false };
            let cases = [(Hit::Exact, true), (Hit::Exact, false), (Hit::Partial, true), (Hit::Miss, false)];
            assert_eq!(
                cases.map(|(hit, restored)| args.failure(hit, restored) == Some(condition)),
                fails,
                "{condition}"
            );
        }
        let miss = FailArgs { fail_on: Vec::new(), fail_on_miss: true };
        assert_eq!(miss.failure(Hit::Miss, false), Some(FirstMatchMiss));
        assert_eq!(miss.failure(Hit::Partial, false), None);
    }
}
