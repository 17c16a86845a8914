//! A user's key for machines of several systems: each system has separate snapshots, because it cannot use the paths of another.
//!
//! The system that saves first uses the plain key; the others append their system to it. A computed key contains the system anyway.

use super::Context;
use super::search::{Search, find_snapshot};
use crate::base::note::{Code, Note};
use crate::remote::RemoteError;
use crate::series::{generation_name, generation_prefix};

/// The key for this system if another one uses the plain key.
pub(super) fn own_key(context: &Context) -> String {
    format!("{}#{}", context.identity.key, context.identity.system)
}

/// The prefix of all generations of the primary key for this system.
pub(super) fn own_prefixes(context: &Context) -> Vec<String> {
    let names_system = context.identity.system.is_empty() || context.identity.key.contains(&context.identity.system);
    let own = (!names_system).then(|| generation_prefix(&own_key(context)));
    own.into_iter().chain([generation_prefix(&context.identity.key)]).collect()
}

/// Returns whether `key` is the primary key, or that of this system.
pub(super) fn is_exact(context: &Context, key: &str) -> bool {
    key == context.identity.key || key == own_key(context)
}

/// Finds the newest usable snapshot for this system of the first of `names` that has one.
///
/// # Errors
/// See [`find_snapshot`].
pub(super) async fn find_fitting(
    context: &Context,
    mut names: &[String],
    notes: &mut Vec<Note>,
) -> Result<Search, RemoteError> {
    loop {
        let search = find_snapshot(&*context.place.remote, names, &context.place.keys, notes).await?;
        let Some(found) = search.found.as_ref().filter(|found| !found.snapshot.is_for(&context.identity.system)) else {
            return Ok(search);
        };
        note_foreign(context, &found.key, &found.snapshot.facts.system, notes);
        let name = generation_name(&found.key, found.generation);
        let chosen = names.iter().position(|prefix| name.starts_with(prefix.as_str())).unwrap_or(0);
        names = &names[chosen + 1..];
        if names.is_empty() {
            return Ok(Search::default());
        }
    }
}

/// Notes once that a snapshot is of another system.
pub(super) fn note_foreign(context: &Context, key: &str, system: &str, notes: &mut Vec<Note>) {
    if notes.iter().all(|note| note.code != Code::SnapshotOtherSystem) {
        let message = format!(
            "The snapshot of the key {key} is for {system}; this machine is {}. Each system has a separate snapshot; to see \
             which is which, put the system into the key.",
            context.identity.system
        );
        notes.push(Note::info(Code::SnapshotOtherSystem, message));
    }
}
