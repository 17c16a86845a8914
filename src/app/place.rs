//! Where a cache is, and how long a step may wait for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::app::Failure;
use crate::base::env_vars;
use crate::base::secrets;
use crate::remote::github::{GithubConfig, GithubRemote, Tuning};
use crate::remote::{DirectoryRemote, Limited, Limits, Remote};

/// Opens the remote of this name.
pub(crate) fn remote(name: &str) -> Result<Arc<dyn Remote>, Failure> {
    match name.split_once(':') {
        Some(("dir", path)) if !path.is_empty() => match DirectoryRemote::open(Path::new(path)) {
            Ok(remote) => Ok(Arc::new(remote)),
            Err(error) => Err(Failure::usage(format!("Cannot use the directory {path} as a cache: {error}."))),
        },
        None if name == "github" => {
            let remote = GithubConfig::from_env(secrets::var).and_then(GithubRemote::new);
            Ok(Arc::new(remote.map_err(Failure::work)?))
        }
        _ => Err(Failure::usage(format!("--remote {name:?} is not a cache. Use dir:PATH or github."))),
    }
}

/// Limits `remote` for one step: a budget for all its lookups, and a total time.
pub(crate) fn limited(remote: Arc<dyn Remote>, total: Option<Duration>) -> Arc<dyn Remote> {
    let tuning =
        std::env::var(env_vars::NIX_CACHE_TUNING).map_or_else(|_| Tuning::default(), |text| Tuning::from_text(&text));
    Arc::new(Limited::new(remote, Limits { total, lookups: tuning.lookup_budget }))
}

/// The share of a restore's time for downloads: four fifths, so that some time is left to unpack.
pub(crate) fn time_to_fetch(all: Duration) -> Duration {
    all * 4 / 5
}
