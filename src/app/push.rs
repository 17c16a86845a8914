//! Pushing to binary caches, as the command and the actions share it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use crate::app::Failure;
use crate::base::{env_vars, secrets};
use crate::nix::configured_substituters;
use crate::push::{PushOutcome, PushRequest, Sink, push as carry_out};
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
}

/// Pushes.
///
/// # Errors
/// When there is no sink, a named path is not valid, or the store cannot be read. Trouble with a sink is in the outcome.
pub(crate) async fn push(push: Push) -> Result<PushOutcome, Failure> {
    let Push { dirs, keys, sinks, paths, threads, temporary, deadline } = push;
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
    let sinks = Sink::open_all(&sinks, secrets::var);
    let ca_file = env_vars::ca_file();
    let request = PushRequest { dirs, keys, sinks, paths, substituters, ca_file, threads, temporary, deadline };
    carry_out(request).await.map_err(Failure::work)
}
