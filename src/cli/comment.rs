//! `nix-cache comment`.

use std::path::Path;

use clap::Args;

use super::verbs;
use crate::app::Failure;
use crate::app::comment::{Done, Scene, comment as make, requests, sentence};
use crate::app::place;
use crate::app::print::print;
use crate::app::settings::CommentArgs;
use crate::base::{env_vars, secrets};
use crate::github::env::Facts;
use crate::remote::Purpose;
use crate::remote::github::Comments;

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
    let opened =
        command.remote.as_deref().map(|name| place::open(name, &[], Purpose::Save, secrets::var)).transpose()?;
    let keys = verbs::keys(None, &command.comment.trust)?;
    let scene = Scene {
        from: Path::new(""),
        facts: &Facts::from_environment(),
        remote: opened.as_ref().map(|opened| &*opened.remote),
        github: opened.as_ref().and_then(|opened| opened.github.as_deref()),
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
