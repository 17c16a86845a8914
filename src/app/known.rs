//! What the caches know for a plan: earlier plans, and which outputs already exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use crate::app::settings::escaped;
use crate::base::env_vars;
use crate::flake::{KeyRequest, key as make_key, series_key};
use crate::plan::{Known, Matrix, Planned, recall};
use crate::remote::Remote;
use crate::series::sign::Keyring;
use crate::store::StorePath;
use crate::{cache, nix, upstream};

/// The caches of a plan.
pub(crate) struct Caches {
    /// Where plans and snapshots are stored; None without a cache.
    pub remote: Option<Arc<dyn Remote>>,
    /// The key of stored plans.
    pub plan_key: String,
    /// The parts of the jobs' keys, except for the system.
    pub key: KeyRequest,
    /// Whose snapshots are trusted.
    pub keys: Keyring,
    /// Whether Nix's substituters are queried.
    pub substituters: bool,
}

/// The key that plans are kept under, for jobs whose keys have this prefix.
pub(crate) fn plan_key(prefix: &str) -> String {
    series_key("plan-v1", prefix)
}

#[async_trait]
impl Known for Caches {
    async fn planned(&self) -> Option<Planned> {
        let remote = self.remote.as_ref()?;
        let loaded = recall(&**remote, &self.plan_key, &self.keys).await;
        loaded.inspect_err(|error| tracing::warn!("Cannot read earlier plans: {error}")).ok()
    }

    async fn held(&self, outputs: &BTreeMap<StorePath, String>) -> BTreeMap<StorePath, String> {
        let mut held = BTreeMap::new();
        let systems: BTreeSet<&String> = outputs.values().collect();
        for system in systems {
            let of_system = outputs.iter().filter(|(_, of)| *of == system).map(|(path, _)| path.clone());
            held.extend(self.in_snapshot(system, of_system.collect()).await);
        }
        let open: Vec<&StorePath> = outputs.keys().filter(|path| !held.contains_key(*path)).collect();
        if self.substituters && !open.is_empty() {
            let found = at_substituters(&open).await;
            held.extend(found.into_iter().map(|path| (path, "a substituter".to_owned())));
        }
        held
    }
}

impl Caches {
    /// Adds the keys of the jobs' caches to a matrix: without a checkout, a job cannot compute its own.
    pub(crate) fn name_keys(&self, matrix: &mut Matrix) {
        for entry in &mut matrix.include {
            match make_key(&KeyRequest { system: entry.system.clone(), ..self.key.clone() }) {
                Ok(key) => (entry.key, entry.restore_keys) = (key.primary, key.restore_prefixes.join("\n")),
                Err(error) => tracing::debug!("The key of a job for {} is not known: {error}", entry.system),
            }
        }
    }

    /// Returns those of `paths` that a job for `system` would find in its snapshot.
    async fn in_snapshot(&self, system: &str, paths: BTreeSet<StorePath>) -> BTreeMap<StorePath, String> {
        let Some(remote) = &self.remote else { return BTreeMap::new() };
        let request = KeyRequest { system: system.to_owned(), ..self.key.clone() };
        let look = async {
            let key = make_key(&request).map_err(|error| error.to_string())?;
            let (primary, prefixes) = escaped(&key).map_err(|failure| failure.message)?;
            cache::held(&**remote, &primary, &prefixes, &self.keys, &paths).await.map_err(|error| error.to_string())
        };
        let found: Result<_, String> = look.await;
        let found = found.unwrap_or_else(|error| {
            tracing::warn!("Cannot read the snapshot for {system}: {error} Its paths count as not cached.");
            BTreeMap::new()
        });
        found.into_iter().map(|(path, key)| (path, format!("the cache ({key})"))).collect()
    }
}

async fn at_substituters(paths: &[&StorePath]) -> BTreeSet<StorePath> {
    let configured = tokio::task::spawn_blocking(nix::configured_substituters).await.unwrap_or_default();
    let ca_file = env_vars::ca_file();
    let options = upstream::Options { ca_file, ..upstream::Options::default() };
    upstream::Upstream::new(&configured, options).present_in_any_form(paths).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_job_finds_a_plan_in_the_place_of_a_snapshot() {
        for prefix in ["", "nix", "plan", "my key"] {
            let key = make_key(&KeyRequest { prefix: prefix.to_owned(), ..KeyRequest::new("/nowhere") }).unwrap();
            let plan = plan_key(prefix);
            assert!(plan.starts_with("plan-v1-"), "{plan}");
            assert!(key.restore_prefixes.iter().chain([&key.primary]).all(|name| !plan.starts_with(&**name)));
            assert!(!key.primary.starts_with(&plan));
        }
        assert_ne!(plan_key("a"), plan_key("b"));
    }
}
