//! Queries substituters for many paths in parallel, within a time limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use reqwest::Client;
use tokio::time::Instant;

use super::Options;
use super::substituter::Substituter;
use crate::store::{NarHash, PathInfo, StorePath};

/// The substituters, and their answers so far.
pub(crate) struct Upstream {
    substituters: Vec<Substituter>,
    client: Option<Client>,
    options: Options,
    /// Definite answers: whether any of them has a path.
    known: Mutex<BTreeMap<(StorePath, NarHash), bool>>,
}

impl Upstream {
    /// The substituters with these addresses, as [`crate::nix::configured_substituters`] returns them. No request is sent yet.
    #[must_use]
    pub(crate) fn new(substituters: &[String], options: Options) -> Self {
        let substituters: Vec<Substituter> = substituters
            .iter()
            .filter_map(|address| {
                let parsed = Substituter::parse(address);
                if parsed.is_none() {
                    tracing::debug!("left out a substituter of an unsupported kind");
                }
                parsed
            })
            .collect();
        let client = crate::base::http::client(options.ca_file.as_deref());
        let client = client.inspect_err(|error| tracing::warn!("Substituters cannot be asked: {error}")).ok();
        Self { substituters, client, options, known: Mutex::default() }
    }

    /// Returns those of `paths` that at least one substituter has with the same content. Paths that were built here are queried like
    /// all others. Earlier answers are remembered.
    ///
    /// Never fails: a path without an answer in time counts as absent.
    pub(crate) async fn present(&self, paths: &[&PathInfo]) -> BTreeSet<StorePath> {
        let deadline = Instant::now() + self.options.deadline;
        let asked = futures_util::stream::iter(paths.iter().filter(|info| self.answer(info).is_none()))
            .for_each_concurrent(self.options.parallel.max(1), |info| self.ask(info));
        if tokio::time::timeout_at(deadline, asked).await.is_err() {
            let open = paths.iter().filter(|info| self.answer(info).is_none()).count();
            tracing::warn!(
                "The substituters did not answer for {open} of {} within {} s. These count as absent.",
                crate::base::human::count(paths.len() as u64, "path"),
                self.options.deadline.as_secs_f32()
            );
        }
        let present = paths.iter().filter(|info| self.answer(info) == Some(true));
        present.map(|info| info.path.clone()).collect()
    }

    /// Returns those of `paths` that at least one substituter has with any content. A path without an answer in time counts as
    /// absent. Nothing is remembered.
    pub(crate) async fn present_in_any_form(&self, paths: &[&StorePath]) -> BTreeSet<StorePath> {
        let deadline = Instant::now() + self.options.deadline;
        let found: Mutex<BTreeSet<StorePath>> = Mutex::default();
        let ask = async |path: &StorePath| {
            for substituter in self.substituters.iter().filter(|substituter| !substituter.is_given_up()) {
                if substituter.has_any(self.client.as_ref(), path, self.options.patience).await == Some(true) {
                    found.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
                    return;
                }
            }
        };
        let asked =
            futures_util::stream::iter(paths.iter().copied()).for_each_concurrent(self.options.parallel.max(1), ask);
        if tokio::time::timeout_at(deadline, asked).await.is_err() {
            tracing::warn!(
                "The substituters did not answer within {} s. Paths without an answer count as absent.",
                self.options.deadline.as_secs_f32()
            );
        }
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queries one substituter after the other until one has the path.
    async fn ask(&self, info: &PathInfo) {
        let mut complete = true;
        for substituter in &self.substituters {
            if substituter.is_given_up() {
                complete = false;
                continue;
            }
            match substituter.has(self.client.as_ref(), info, self.options.patience).await {
                Some(true) => return self.learn(info, true),
                Some(false) => {}
                None => complete = false,
            }
        }
        if complete {
            self.learn(info, false);
        }
    }

    fn answer(&self, info: &PathInfo) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(info.path.clone(), info.nar_hash)).copied()
    }

    fn learn(&self, info: &PathInfo, present: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((info.path.clone(), info.nar_hash), present);
    }
}
