//! Pushing to binary caches, as the command and the actions share it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::app::Failure;
use crate::base::{env_vars, secrets};
use crate::nix::configured_substituters;
use crate::push::{PushOutcome, PushRequest, Pushed, Sink, push as carry_out};
use crate::series::sign::Keyring;
use crate::store::{StoreDirs, StorePath};

/// The part of a push that does not depend on the machine.
pub(crate) struct Push {
    pub dirs: StoreDirs,
    pub keys: Keyring,
    pub sinks: Vec<Sink>,
    /// The paths to push; empty for what was built since the last restore.
    pub paths: Vec<StorePath>,
    pub threads: usize,
    pub temporary: PathBuf,
    pub deadline: Option<Instant>,
    /// What this job has pushed before, and pushes now.
    pub pushed: Arc<Pushed>,
    /// Of a push while the job runs.
    pub early: Option<Early>,
}

/// What limits a push while the job runs.
pub(crate) struct Early {
    /// The most NAR bytes for each sink.
    pub most: u64,
    /// The names of sinks that it leaves to the last push.
    pub skip: BTreeSet<String>,
}

/// Pushes.
///
/// # Errors
/// When there is no sink, a named path is not valid, or the store cannot be read. Trouble with a sink is in the outcome.
pub(crate) async fn push(push: Push) -> Result<PushOutcome, Failure> {
    let Push { dirs, keys, sinks, paths, threads, temporary, deadline, pushed, early } = push;
    if sinks.is_empty() {
        return Err(Failure::usage(
            "There is nothing to push to. Name a binary cache, such as `--to file:///srv/cache`.",
        ));
    }
    for path in &paths {
        if !crate::store::is_valid(&dirs, path).map_err(Failure::work)? {
            return Err(Failure::usage(format!("{path} is not valid in this store. Build it first.")));
        }
    }
    let paths = (!paths.is_empty()).then(|| paths.into_iter().collect::<BTreeSet<_>>());
    let substituters = tokio::task::spawn_blocking(configured_substituters).await.unwrap_or_default();
    let (skip, most) = early.map(|early| (early.skip, early.most)).unzip();
    let skip = skip.unwrap_or_default();
    // All of them, because one login is not sent to several hosts.
    let mut sinks = Sink::open_all(&sinks, secrets::var);
    sinks.retain(|(name, _)| !skip.contains(name));
    let ca_file = env_vars::ca_file();
    let request =
        PushRequest { dirs, keys, sinks, paths, substituters, ca_file, threads, temporary, deadline, pushed, most };
    carry_out(request).await.map_err(Failure::work)
}
