//! What plans leave for later plans, and what they ask of snapshots. Plans are kept in snapshots of a key of their own, which have
//! no paths: under the key of a job they would pass for a hit.

use std::collections::{BTreeMap, BTreeSet};

use super::Context;
use super::commit::{Pushed, push_snapshot};
use super::outcome::Saved;
use super::search::{Search, find_snapshot};
use crate::base::clock::now;
use crate::base::note::Note;
use crate::remote::{Remote, RemoteError};
use crate::series::sign::Keyring;
use crate::snapshot::{Facts, Planned, PlannedCommit, Snapshot, generation_prefix, keep_newest};
use crate::store::StorePath;

/// So many commits are kept.
const COMMITS: usize = 20;

/// What is kept under `key` of earlier plans, as far as `keys` trusts it.
///
/// # Errors
/// When the remote cannot be asked.
pub(crate) async fn load_planned(remote: &dyn Remote, key: &str, keys: &Keyring) -> Result<Planned, RemoteError> {
    let search = find_snapshot(remote, &[generation_prefix(key)], keys, &mut Vec::new()).await?;
    Ok(search.found.filter(|found| found.key == key).map(|found| found.snapshot.planned).unwrap_or_default())
}

/// Keeps the plan of one commit under the key of `context`, beside the newest of those that are there.
///
/// # Errors
/// When the remote does not take it.
pub(crate) async fn save_planned(
    context: &Context,
    commit: String,
    plan: PlannedCommit,
    notes: &mut Vec<Note>,
) -> Result<Saved, RemoteError> {
    let prefix = [generation_prefix(&context.identity.key)];
    let Search { found, newest, unread, .. } =
        find_snapshot(&*context.place.remote, &prefix, &context.place.keys, notes).await?;
    // Generations that cannot be used have their numbers all the same.
    let newest = newest.filter(|(key, _)| *key == context.identity.key).map_or(0, |(_, number)| number);
    let found = found.filter(|found| found.key == context.identity.key);
    let mut snapshot = found.map(|found| found.snapshot).unwrap_or_default();
    snapshot.unread.extend(unread);
    snapshot.merge(Snapshot { planned: Planned::from([(commit, plan)]), ..Snapshot::default() });
    keep_newest(&mut snapshot.planned, COMMITS);
    snapshot.facts = Facts {
        created: now(),
        key: context.identity.key.clone(),
        system: context.identity.system.clone(),
        tool: concat!("nix-cache ", env!("CARGO_PKG_VERSION")).to_owned(),
        lane: context.identity.lane.clone(),
    };
    let lost = BTreeSet::new();
    Ok(push_snapshot(context, snapshot, newest, &lost, notes, &mut Pushed::default()).await?.0)
}

/// Those of `paths` that the snapshot has which a job with this key, these restore prefixes and these trusted keys would restore, or
/// that it leaves to a substituter; each with the key it was found under.
///
/// # Errors
/// When the remote cannot be asked.
pub(crate) async fn held(
    remote: &dyn Remote,
    key: &str,
    prefixes: &[String],
    keys: &Keyring,
    paths: &BTreeSet<StorePath>,
) -> Result<BTreeMap<StorePath, String>, RemoteError> {
    let names: Vec<String> = std::iter::once(generation_prefix(key)).chain(prefixes.iter().cloned()).collect();
    let Some(found) = find_snapshot(remote, &names, keys, &mut Vec::new()).await?.found else {
        return Ok(BTreeMap::new());
    };
    let chosen = found.snapshot.chosen();
    let has = |path: &&StorePath| chosen.contains_key(*path) || found.snapshot.upstream.contains(*path);
    Ok(paths.iter().filter(has).map(|path| (path.clone(), found.key.clone())).collect())
}
