//! From a remote to a plan: the list, the state of references, and the content of the snapshots that stay.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use tokio::sync::Mutex;

use super::plan::{Plan, decide};
use super::view::{Content, HOUR, QUEUE, Rules, View};
use crate::remote::{Entry, Kind, ListError, Listed, RefState, Remote, RemoteError, Shelf};
use crate::series::record::decode;
use crate::series::sign::Keyring;
use crate::series::{MAX_SIZE, read_generation};
use crate::snapshot::{Lane, Layer, Snapshot};

/// Number of references that are looked up, and of snapshots that are read, at the same time.
const AT_ONCE: usize = 4;
/// Largest size in bytes of a snapshot that is read beside others. (It is decoded alone in any case.)
const SMALL: u64 = 4 << 20;
/// More generations than a snapshot names as unread, unless somebody made it.
const MOST_UNREAD: usize = 1000;

/// Lanes of a snapshot whose layers are looked up.
const MOST_LANES: usize = 500;

/// What is pruned.
pub(crate) struct Place<'a> {
    pub shelf: &'a dyn Shelf,
    /// Reads snapshots; None if this machine can only list them.
    pub remote: Option<&'a dyn Remote>,
    /// The references whose entries `remote` finds, in its order; empty if the remote has no references.
    pub scopes: Vec<String>,
    pub rules: Rules,
    /// Seconds since 1970.
    pub now: u64,
}

/// A plan and what it was made from.
pub(crate) struct Prepared {
    pub entries: Vec<Listed>,
    pub plan: Plan,
    /// Why snapshots could not be read, by the ids of their entries.
    pub unread: BTreeMap<String, String>,
    contents: BTreeMap<String, Content>,
    refs: BTreeMap<String, RefState>,
    default_scope: Option<String>,
}

/// Makes a plan. What an earlier one has read is used again.
///
/// # Errors
/// When the list is not complete.
pub(crate) async fn plan_for(place: &Place<'_>, earlier: Option<Prepared>) -> Result<Prepared, ListError> {
    let (mut contents, mut refs, mut default_scope) = match earlier {
        Some(earlier) => (earlier.contents, earlier.refs, earlier.default_scope),
        None => (BTreeMap::new(), BTreeMap::new(), place.shelf.default_scope().await),
    };
    let entries = place.shelf.list().await?;
    if default_scope.is_none() {
        default_scope = place.shelf.default_scope().await;
    }
    let now = place.now;
    let ours = entries.iter().filter(|entry| entry.kind.is_some());
    let scopes: BTreeSet<&String> = ours.map(|entry| &entry.scope).filter(|scope| !refs.contains_key(*scope)).collect();
    let asked = scopes.into_iter().filter(|scope| !scope.is_empty() && Some(*scope) != default_scope.as_ref());
    let states = asked.map(|scope| async move { (scope.clone(), place.shelf.ref_state(scope).await) });
    let states: Vec<_> = futures_util::stream::iter(states).buffer_unordered(AT_ONCE).collect().await;
    refs.extend(states.into_iter().map(|(scope, state)| {
        // A queue's branch is deleted when its run has ended, and its name never comes again.
        let written = entries.iter().filter(|entry| entry.scope == scope).map(|entry| entry.created).max();
        let is_over = state == RefState::Deleted || written.is_some_and(|written| now - written.min(now) > 24 * HOUR);
        let is_done = scope.starts_with(QUEUE) && is_over;
        (scope, if is_done { RefState::QueueDone } else { state })
    }));
    loop {
        let view = View {
            entries: &entries,
            refs: &refs,
            default_scope: default_scope.as_deref(),
            contents: &contents,
            records_lookups: place.shelf.records_lookups(),
            rules: &place.rules,
            now,
        };
        match decide(&view) {
            Ok(plan) => {
                let unread = contents.iter().filter_map(|(id, content)| match content {
                    Content::Known { .. } => None,
                    Content::Unknown(why) => Some((id.clone(), why.clone())),
                });
                let unread = unread.collect();
                return Ok(Prepared { entries, plan, unread, contents, refs, default_scope });
            }
            Err(wanted) => {
                let one = Mutex::new(());
                let read = wanted.into_iter().map(|index| {
                    let (entry, place, entries, one) = (&entries[index], &*place, &entries, &one);
                    async move { (entry.id.clone(), read(place, entries, entry, one).await) }
                });
                let read: Vec<_> = futures_util::stream::iter(read).buffer_unordered(AT_ONCE).collect().await;
                contents.extend(read);
            }
        }
    }
}

/// Reads the snapshot in `entry`.
async fn read(place: &Place<'_>, entries: &[Listed], entry: &Listed, one: &Mutex<()>) -> Content {
    if let Some(remote) = place.shelf.remote_of(&entry.scope) {
        return content(&*remote, entry, one).await.unwrap_or_else(|error| unknown(&error));
    }
    let Some(remote) = place.remote else {
        return Content::Unknown("this machine can list entries but not read them".to_owned());
    };
    if let Err(why) = is_found(place, entries, entry) {
        return Content::Unknown(why);
    }
    content(remote, entry, one).await.unwrap_or_else(|error| unknown(&error))
}

fn unknown(error: &RemoteError) -> Content {
    Content::Unknown(error.to_string().trim_end_matches('.').to_owned())
}

/// Whether a lookup of the name finds this entry, and not one of another reference.
fn is_found(place: &Place<'_>, entries: &[Listed], entry: &Listed) -> Result<(), String> {
    if entry.scope.is_empty() {
        return Ok(());
    }
    let position = |scope: &str| place.scopes.iter().position(|known| known == scope);
    let Some(own) = position(&entry.scope) else {
        return Err(format!("jobs of this workflow's branch cannot read entries of {}", entry.scope));
    };
    let hides = |other: &&Listed| {
        let is_before = position(&other.scope).is_some_and(|other| other < own);
        other.kind == entry.kind && other.name == entry.name && is_before
    };
    match entries.iter().find(hides) {
        Some(other) => Err(format!("an entry of {} has the same name", other.scope)),
        None => Ok(()),
    }
}

async fn content(remote: &dyn Remote, listed: &Listed, one: &Mutex<()>) -> Result<Content, RemoteError> {
    // Most are small. A large one, or one that becomes large, must not meet another one in memory.
    let alone = if listed.size > SMALL { Some(one.lock().await) } else { None };
    let found = remote.find(Kind::Snapshot, std::slice::from_ref(&listed.name)).await?;
    let Some(entry) = found.filter(|entry| entry.name == listed.name) else {
        return Ok(Content::Unknown("a lookup does not find it".to_owned()));
    };
    let Some(bytes) = read_generation(remote, &entry, MAX_SIZE).await? else {
        return Ok(Content::Unknown("its bytes cannot be read".to_owned()));
    };
    if bytes.len() as u64 != listed.size {
        return Ok(Content::Unknown("a lookup finds another entry of the same name".to_owned()));
    }
    let _alone = match alone {
        Some(alone) => alone,
        None => one.lock().await,
    };
    let decoded = tokio::task::spawn_blocking(move || layers_in(&bytes, &entry)).await;
    Ok(decoded.unwrap_or_else(|error| Content::Unknown(error.to_string())))
}

/// The layers that each lane uses.
fn lanes_of(snapshot: &Snapshot) -> BTreeMap<String, BTreeSet<String>> {
    let layers = |lane: &Lane| {
        let used = snapshot.layers.values().filter(|layer| lane.uses_any(layer.paths.iter().map(|(path, _)| path)));
        let stored = used.flat_map(Layer::stored).filter_map(|id| snapshot.stored.get(&id));
        stored.map(|stored| stored.entry.clone()).collect()
    };
    let name = |lane: &String| format!("{} {lane}", snapshot.facts.system);
    snapshot.lanes.iter().take(MOST_LANES).map(|(lane, used)| (name(lane), layers(used))).collect()
}

fn layers_in(bytes: &[u8], entry: &Entry) -> Content {
    // Whoever signed it, jobs may use its layers: signatures decide about trust and not about existence.
    match decode::<Snapshot>(bytes, &entry.name, &Keyring::default()) {
        Ok((snapshot, _)) if snapshot.malformed > 0 => Content::Unknown("some of its records are malformed".to_owned()),
        Ok((snapshot, _)) if snapshot.unread.len() > MOST_UNREAD => {
            Content::Unknown(format!("it names more than {MOST_UNREAD} generations that were not read"))
        }
        Ok((snapshot, _)) => Content::Known {
            lanes: lanes_of(&snapshot),
            layers: snapshot.stored.into_values().map(|stored| stored.entry).collect(),
            unread: snapshot.unread.into_keys().collect(),
        },
        Err(error) => Content::Unknown(error.to_string().trim_end_matches('.').to_owned()),
    }
}
