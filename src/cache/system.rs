//! One key of the user's for machines of several systems: each system has snapshots of its own, since none can use the paths of
//! another.
//!
//! The system that saves first has the plain key; the others have theirs with the system behind it. A computed key names the system
//! anyway.

use super::Context;
use super::search::{Search, find_snapshot};
use crate::base::note::{Code, Note};
use crate::remote::RemoteError;
use crate::series::{generation_name, generation_prefix};

/// The key for this system where another one has the plain key.
pub(super) fn own_key(context: &Context) -> String {
    format!("{}#{}", context.identity.key, context.identity.system)
}

/// What the names of all generations of the primary key start with, for this system.
pub(super) fn own_prefixes(context: &Context) -> Vec<String> {
    let names_system = context.identity.system.is_empty() || context.identity.key.contains(&context.identity.system);
    let own = (!names_system).then(|| generation_prefix(&own_key(context)));
    own.into_iter().chain([generation_prefix(&context.identity.key)]).collect()
}

/// Whether `key` is the primary key, or that of this system.
pub(super) fn is_exact(context: &Context, key: &str) -> bool {
    key == context.identity.key || key == own_key(context)
}

/// The newest usable snapshot for this system of the first of `names` for which there is one.
///
/// # Errors
/// As [`find_snapshot`].
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

/// Says, once, that a snapshot is of another system.
pub(super) fn note_foreign(context: &Context, key: &str, system: &str, notes: &mut Vec<Note>) {
    if notes.iter().all(|note| note.code != Code::SnapshotOtherSystem) {
        let message = format!(
            "The snapshot of the key {key} is for {system}; this machine is {}. Each system has a snapshot of its own; to see \
             which is which, put the system into the key.",
            context.identity.system
        );
        notes.push(Note::info(Code::SnapshotOtherSystem, message));
    }
}
