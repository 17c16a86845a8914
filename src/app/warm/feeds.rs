//! Refreshes the vulnerability feeds that the policy of an audit names.

use std::path::Path;

use super::report::{State, Warmed};
use crate::app::feeds::{FeedsRequest, YEARS, refresh};
use crate::audit::policy::{FILE, Policy};

/// Fetches the feeds into the folder that nix-cache.toml at `top` names, and reduces them. None if it names no folder. Feeds that
/// cannot be fetched leave the old ones.
pub(super) async fn feeds(top: &Path, from: &str) -> Option<Warmed> {
    let row = |state, why: &str| Some(Warmed::new("feeds", state, why));
    let folder = match Policy::read(&top.join(FILE), FILE) {
        Ok(policy) => policy.vulnerabilities.feeds?,
        Err(error) => return row(State::Failed, &error.to_string()),
    };
    tracing::info!("Fetching vulnerability feeds.");
    let request = FeedsRequest { from: from.to_owned(), into: top.join(folder), years: YEARS };
    match refresh(&request).await {
        Ok(said) => row(State::Warmed, &said),
        Err(failure) => row(State::Failed, &failure.message),
    }
}
