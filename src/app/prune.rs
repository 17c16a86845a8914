//! Pruning, as the command and the action share it.

use std::path::Path;
use std::sync::Arc;

use crate::app::Failure;
use crate::app::settings::PruneArgs;
use crate::base::clock::now;
use crate::base::{env_vars, secrets};
use crate::prune::{Place, PruneReport, carry_out, plan_for};
use crate::remote::github::{CacheShelf, FREE_QUOTA, GithubRemote, RestConfig, Tuning};
use crate::remote::s3::{S3Client, S3Shelf};
use crate::remote::{DirectoryRemote, ListError, Location, Remote, Shelf};

/// The cache to prune.
pub(crate) enum Target {
    Directory(DirectoryRemote),
    /// A prefix in a bucket, with all repositories that use it.
    Bucket(Box<S3Shelf>),
    Github {
        shelf: Box<CacheShelf>,
        /// Reads snapshots; None outside an action.
        remote: Option<Arc<GithubRemote>>,
        scopes: Vec<String>,
    },
}

impl Target {
    /// The remote of this name; None if it is GitHub's cache.
    pub(crate) fn elsewhere(name: &str) -> Result<Option<Self>, Failure> {
        match Location::main(name).map_err(Failure::usage)? {
            Location::Github => Ok(None),
            Location::Directory(path) => Self::directory(&path).map(Some),
            Location::S3(address) => {
                let client = S3Client::new(&address, secrets::var, Tuning::from_env()).map_err(Failure::work)?;
                Ok(Some(Self::Bucket(Box::new(S3Shelf::new(client)))))
            }
        }
    }

    /// The directory at `path`.
    fn directory(path: &Path) -> Result<Self, Failure> {
        // Opening it would create it.
        if !path.is_dir() {
            let shown = path.display();
            return Err(Failure::usage(format!("Cannot use the directory {shown} as a cache: it does not exist.")));
        }
        DirectoryRemote::named(path).map(Self::Directory).map_err(Failure::usage)
    }

    /// GitHub's cache. `remote` reads snapshots, if this job can; `git_ref` is the job's own reference.
    pub(crate) fn github(
        rest: Option<RestConfig>,
        remote: Option<Arc<GithubRemote>>,
        git_ref: &str,
    ) -> Result<Self, Failure> {
        let rest = rest.ok_or_else(|| {
            Failure::usage(
                "Pruning GitHub's cache needs a token with the permission `actions: write`, and the repository. In a workflow, the \
                 action has both; elsewhere, set GITHUB_TOKEN, and GITHUB_REPOSITORY to owner/name.",
            )
        })?;
        let shelf =
            CacheShelf::new(&rest, Tuning::from_env(), env_vars::ca_file().as_deref()).map_err(Failure::usage)?;
        let mut scopes: Vec<String> = Vec::new();
        if let Some(remote) = &remote {
            scopes.extend(remote.scopes().iter().filter(|scope| scope.readable()).map(|scope| scope.scope.clone()));
            // A token that names no scopes reads at least those of its own reference.
            if scopes.is_empty() && !git_ref.is_empty() {
                scopes.push(git_ref.to_owned());
            }
        }
        Ok(Self::Github { shelf: Box::new(shelf), remote, scopes })
    }

    /// The size that the remote allows, if there is a limit.
    fn quota(&self) -> Option<u64> {
        match self {
            Self::Directory(_) | Self::Bucket(_) => None,
            Self::Github { .. } => Some(FREE_QUOTA),
        }
    }

    fn shelf(&self) -> &dyn Shelf {
        match self {
            Self::Directory(remote) => remote,
            Self::Bucket(bucket) => &**bucket,
            Self::Github { shelf, .. } => &**shelf,
        }
    }

    fn remote(&self) -> Option<&dyn Remote> {
        match self {
            Self::Directory(remote) => Some(remote),
            Self::Bucket(_) => None,
            Self::Github { remote, .. } => remote.as_deref().map(|remote| remote as &dyn Remote),
        }
    }
}

/// Plans, and with `apply` deletes.
///
/// # Errors
/// When the cache cannot be listed, or a permission is missing.
pub(crate) async fn prune(target: &Target, args: &PruneArgs) -> Result<PruneReport, Failure> {
    let scopes = match target {
        Target::Directory(_) | Target::Bucket(_) => Vec::new(),
        Target::Github { scopes, .. } => scopes.clone(),
    };
    let rules = args.rules(target.quota());
    let place = Place { shelf: target.shelf(), remote: target.remote(), scopes, rules: rules.clone(), now: now() };
    tracing::info!("Listing {}.", place.shelf.describe());
    let prepared = plan_for(&place, None).await.map_err(Failure::work)?;
    let mut report = PruneReport::of(&prepared, &rules);
    if args.apply {
        report.carried_out(carry_out(&place, prepared).await);
    }
    Ok(report)
}

/// The failure of a run that ended early because of a missing permission. A limit or an outage is a warning: the next run goes on.
pub(crate) fn verdict(report: &PruneReport) -> Result<(), Failure> {
    match &report.ended {
        Some(error @ ListError::Permission(_)) => Err(Failure::work(error)),
        Some(error) => {
            tracing::warn!("{error}");
            Ok(())
        }
        None => Ok(()),
    }
}
