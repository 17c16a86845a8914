//! Where a cache is, and how long a step may wait for it.

use std::sync::Arc;
use std::time::Duration;

use crate::app::Failure;
use crate::base::env_vars;
use crate::base::secrets;
use crate::remote::github::{GithubConfig, GithubRemote, Tuning};
use crate::remote::s3::{S3Client, S3Remote};
use crate::remote::{DirectoryRemote, Limited, Limits, Location, Remote};

/// The repository of entries that are saved outside of a job.
const NO_REPOSITORY: &str = "local/local";

/// Opens the remote of this name.
pub(crate) fn remote(name: &str) -> Result<Arc<dyn Remote>, Failure> {
    match Location::parse(name).map_err(Failure::usage)? {
        Location::Directory(path) => Ok(Arc::new(DirectoryRemote::named(&path).map_err(Failure::usage)?)),
        Location::Github => {
            let remote = GithubConfig::from_env(secrets::var).and_then(GithubRemote::new);
            Ok(Arc::new(remote.map_err(Failure::work)?))
        }
        Location::S3(address) => {
            let client = S3Client::new(&address, secrets::var, Tuning::from_env()).map_err(Failure::work)?;
            Ok(Arc::new(S3Remote::new(client, &repository())))
        }
    }
}

/// The repository that entries of a bucket belong to, in the form that GitHub compares: without regard to case.
fn repository() -> String {
    let given = std::env::var(env_vars::GITHUB_REPOSITORY).ok().filter(|name| is_repository(name));
    given.map_or_else(|| NO_REPOSITORY.to_owned(), |name| name.to_ascii_lowercase())
}

/// Whether `name` is `OWNER/REPO` as GitHub allows it.
fn is_repository(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_part =
        |part: &str| !part.is_empty() && part.len() <= 100 && part.chars().all(allowed) && part != "." && part != "..";
    name.split_once('/').is_some_and(|(owner, repo)| is_part(owner) && is_part(repo))
}

/// Limits `remote` for one step: a budget for all its lookups, and a total time.
pub(crate) fn limited(remote: Arc<dyn Remote>, total: Option<Duration>) -> Arc<dyn Remote> {
    Arc::new(Limited::new(remote, Limits { total, lookups: Tuning::from_env().lookup_budget }))
}

/// The share of a restore's time for downloads: four fifths, so that some time is left to unpack.
pub(crate) fn time_to_fetch(all: Duration) -> Duration {
    all * 4 / 5
}
