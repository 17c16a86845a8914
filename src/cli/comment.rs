//! `nix-cache comment`.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::verbs;
use crate::app::Failure;
use crate::app::comment::{Done, Scene, comment as make, requests, sentence};
use crate::app::place;
use crate::app::print::print;
use crate::app::settings::CommentArgs;
use crate::base::{env_vars, secrets};
use crate::github::env::Facts;
use crate::remote::github::{Comments, GithubConfig, GithubRemote};
use crate::remote::{Location, Remote};

#[derive(Debug, Args)]
pub(super) struct CommentCommand {
    #[command(flatten)]
    comment: CommentArgs,
    /// Where the snapshots and the history are stored: `dir:PATH`, or `github` inside an action [default: what is known of the base branch
    /// is left out]
    #[arg(long, value_name = "REMOTE", env = env_vars::NIX_CACHE_REMOTE, help_heading = "Cache")]
    remote: Option<String>,
}

/// Writes a comment, with a token in `GITHUB_TOKEN` and the repository in `GITHUB_REPOSITORY`.
pub(super) async fn comment(command: &CommentCommand) -> Result<(), Failure> {
    let (remote, github) = open(command.remote.as_deref())?;
    let keys = verbs::keys(None, &command.comment.trust)?;
    let scene = Scene {
        from: Path::new(""),
        facts: &Facts::from_environment(),
        remote: remote.as_deref(),
        github: github.as_deref(),
        keys: &keys,
        comments: Comments(requests(secrets::var)?),
    };
    let done = make(&command.comment, &scene).await?;
    match &done {
        Done::Text(body) => print(body),
        Done::Trouble(why) => return Err(Failure::work(why)),
        Done::Written(_) | Done::Nothing(_) => tracing::info!("{}", sentence(&done)),
    }
    Ok(())
}

type Opened = (Option<Arc<dyn Remote>>, Option<Arc<GithubRemote>>);

/// The remote of this name, and the same if it is GitHub's.
fn open(name: Option<&str>) -> Result<Opened, Failure> {
    let Some(name) = name else { return Ok((None, None)) };
    if Location::main(name).map_err(Failure::usage)? != Location::Github {
        return Ok((Some(place::remote(name)?), None));
    }
    let github = GithubConfig::from_env(secrets::var).and_then(GithubRemote::new).map_err(Failure::work)?;
    let github = Arc::new(github);
    Ok((Some(github.clone()), Some(github)))
}
