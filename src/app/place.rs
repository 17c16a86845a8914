//! Where a cache is, and how long a step may wait for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::app::Failure;
use crate::base::env_vars;
use crate::base::secrets;
use crate::remote::github::{GithubConfig, GithubRemote, Tuning};
use crate::remote::s3::{S3Client, S3Remote};
use crate::remote::{
    DirectoryRemote, Fallback, Fallbacks, Limited, Limits, Location, Purpose, Remote, RemoteError, Unopened,
};

/// The repository of entries that are saved outside of a job.
const NO_REPOSITORY: &str = "local/local";

/// Why a place that others write to is not used without keys.
pub(crate) const UNSIGNED: &str = "Everybody who can write to an object store, or to a directory that repositories share, could put anything \
    into the cache, so it is used only with signed snapshots. Set `trusted-public-keys`, and a signing key in jobs that may save; \
    `nix key generate-secret` makes a key, and docs/signing.md says how.";

/// A remote, or several as one.
pub(crate) struct Opened {
    pub remote: Arc<dyn Remote>,
    /// The main one, if it is GitHub's cache.
    pub github: Option<Arc<GithubRemote>>,
    /// What did not work, as it comes.
    pub troubles: Arc<Mutex<Vec<String>>>,
}

/// One remote, and the same if it is GitHub's cache.
type One = (Arc<dyn Remote>, Option<Arc<GithubRemote>>);

/// Why a remote cannot be opened.
pub(crate) enum OpenError {
    /// The user has to correct something.
    Usage(String),
    Remote(RemoteError),
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Usage(why) => Self::usage(why),
            OpenError::Remote(error) => Self::work(error),
        }
    }
}

impl From<OpenError> for RemoteError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Usage(why) => Self::Failed(why),
            OpenError::Remote(error) => error,
        }
    }
}

/// Opens the remotes of these names, to save to the first one.
pub(crate) fn remote(names: &str) -> Result<Arc<dyn Remote>, Failure> {
    Ok(open(names, &[], Purpose::Save, secrets::var)?.remote)
}

/// Opens the remotes of these names. In object stores, the snapshots of the repositories in `shared` are read as well. `variable` reads
/// the environment.
pub(crate) fn open(
    names: &str,
    shared: &[String],
    purpose: Purpose,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Opened, OpenError> {
    let locations = Location::parse_all(names).map_err(OpenError::Usage)?;
    check_shared(shared, &locations)?;
    let is_alone = locations.len() == 1;
    let mut others = Vec::new();
    let mut main: Option<One> = None;
    for location in &locations {
        let (one, github) = match open_one(location, &variable, shared, &mut others) {
            Ok(opened) => opened,
            Err(error) if is_alone => return Err(error),
            Err(OpenError::Usage(why)) => return Err(OpenError::Usage(why)),
            // Others may do.
            Err(OpenError::Remote(error)) => {
                let unopened = Unopened { name: location.to_string(), why: error.to_string() };
                (Arc::new(unopened) as Arc<dyn Remote>, None)
            }
        };
        if main.is_none() {
            main = Some((one, github));
        } else {
            others.push(Fallback { remote: one, has_layers: true });
        }
    }
    let (main, github) = main.ok_or_else(|| OpenError::Usage("No remote is given.".to_owned()))?;
    if others.is_empty() {
        return Ok(Opened { remote: main, github, troubles: Arc::default() });
    }
    let all = Fallbacks::new(main, others, purpose);
    let troubles = all.troubles();
    Ok(Opened { remote: Arc::new(all), github, troubles })
}

/// Opens one remote; the snapshots of other repositories in it are added to `others`.
fn open_one(
    location: &Location,
    variable: &impl Fn(&str) -> Option<String>,
    shared: &[String],
    others: &mut Vec<Fallback>,
) -> Result<One, OpenError> {
    match location {
        Location::Directory(path) => Ok((Arc::new(DirectoryRemote::named(path).map_err(OpenError::Usage)?), None)),
        Location::Github => {
            let remote = GithubConfig::from_env(variable).and_then(GithubRemote::new).map_err(OpenError::Remote)?;
            let remote = Arc::new(remote);
            Ok((remote.clone(), Some(remote)))
        }
        Location::S3(address) => {
            let client = S3Client::new(address, variable, Tuning::from_env()).map_err(OpenError::Remote)?;
            let own = repository();
            for name in shared.iter().map(|name| name.to_ascii_lowercase()).filter(|name| *name != own) {
                let remote: Arc<dyn Remote> = Arc::new(S3Remote::new(client.clone(), &name));
                others.push(Fallback { remote, has_layers: false });
            }
            Ok((Arc::new(S3Remote::new(client, &own)), None))
        }
    }
}

/// Refuses repositories that a cache cannot be shared with.
pub(crate) fn check_shared(shared: &[String], locations: &[Location]) -> Result<(), OpenError> {
    if let Some(wrong) = shared.iter().find(|name| !is_repository(name)) {
        return Err(OpenError::Usage(format!(
            "{wrong:?} is not a repository that a cache can be shared with. Write OWNER/NAME."
        )));
    }
    if !shared.is_empty() && locations.iter().all(|location| *location == Location::Github) {
        return Err(OpenError::Usage(
            "GitHub's cache belongs to one repository, so it cannot be shared with others. Use an object store or a directory as the \
             remote."
                .to_owned(),
        ));
    }
    Ok(())
}

/// Whether every snapshot in one of these remotes has to be signed: others can write there, and no scope of a branch protects anything.
pub(crate) fn is_open_to_others(names: &str, shared: &[String]) -> bool {
    let is_open = |location: &Location| match location {
        Location::S3(_) => true,
        Location::Directory(_) => !shared.is_empty(),
        Location::Github => false,
    };
    Location::parse_all(names).is_ok_and(|all| all.iter().any(is_open))
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
