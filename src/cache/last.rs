//! The generation that a job wrote last while it runs, kept in our folder: its next save need not download it, and finds it although lookups
//! lag behind by a second or two.

use std::io::{self, Write};

use super::Context;
use super::checkpoint::Checkpoints;
use super::search::{Search, find_snapshot, without_faulty};
use super::system::own_prefixes;
use crate::base::bounds::read_to_end;
use crate::base::note::Note;
use crate::remote::RemoteError;
use crate::series::{Found, MAX_SIZE, generation_of, record};
use crate::snapshot::Snapshot;
use crate::store::own::{CHECKPOINTS_SNAPSHOT, OwnFolder};

/// Keeps the bytes of a generation. Returns whether that worked.
pub(super) fn keep(context: &Context, bytes: &[u8]) -> bool {
    let written = OwnFolder::work(&context.place.dirs)
        .and_then(|folder| folder.create(CHECKPOINTS_SNAPSHOT)?.write_all(bytes))
        .inspect_err(|error| tracing::debug!("the generation is not kept: {error}"));
    written.is_ok()
}

/// Finds the newest generation of the primary key. It is the one that this job wrote `earlier`, if there is one: what others have written
/// since is merged before the next one is written.
///
/// # Errors
/// When the lookup fails.
pub(super) async fn find(
    context: &Context,
    earlier: Option<&Checkpoints>,
    notes: &mut Vec<Note>,
) -> Result<Search, RemoteError> {
    let (remote, keys) = (&*context.place.remote, &context.place.keys);
    if let Some(own) = earlier.and_then(|earlier| own(context, &earlier.generation)) {
        let newest = Some((own.key.clone(), own.generation));
        return Ok(Search { found: Some(without_faulty(own, notes)), newest, ..Search::default() });
    }
    if remote.is_readable() {
        find_snapshot(remote, &own_prefixes(context), keys, notes).await
    } else {
        Ok(Search::default())
    }
}

/// The generation `name`, if it was kept.
fn own(context: &Context, name: &str) -> Option<Found<Snapshot>> {
    let (key, generation) = generation_of(name)?;
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = OwnFolder::work(&context.place.dirs)?.open_file(CHECKPOINTS_SNAPSHOT)?;
        file.map(|file| read_to_end(file, MAX_SIZE)).transpose()
    };
    let (record, signed_by) = record::decode::<Snapshot>(&read().ok()??, name, &context.place.keys).ok()?;
    // What it points to may be readable now.
    record.unread.is_empty().then(|| Found { record, key: key.to_owned(), generation, bytes: 0, signed_by })
}
