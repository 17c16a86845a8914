//! A snapshot as the record of a series: the JSON of [`super::wire`], compressed with zstd. Readers skip unknown fields of the JSON,
//! so an optional part needs no new format, but a required one does.

use std::collections::BTreeMap;
use std::io::Write;

use super::Snapshot;
use super::wire::{self, Wire};
use crate::base::digest::Sha;
use crate::layer::recipe::Recipe;
use crate::remote::Kind;
use crate::series::sign::Keyring;
use crate::series::{Format, Record, RecordError, read_json, record, write_json};

/// Largest weight of a snapshot in bytes of memory: see [`crate::base::bounds`]. A path with four references and a signature weighs
/// 1.3 KB, so there is room for 130,000 paths.
const MAX_WEIGHT: u64 = record::MOST;
/// Largest number of layers, or of entries that they consist of: a save keeps eight, a merge of a hundred jobs a hundred.
const MAX_LAYERS: usize = 4096;

impl Record for Snapshot {
    const FORMAT: Format = Format { kind: Kind::Snapshot, number: 3 };

    fn write(&self, out: &mut dyn Write) -> serde_json::Result<()> {
        wire::write(self, out)
    }

    fn encode(&self, out: Vec<u8>) -> Result<Vec<u8>, RecordError> {
        let (bytes, weight) = write_json(out, |out| self.write(out))?;
        if weight > MAX_WEIGHT || self.stored.len().max(self.layers.len()) > MAX_LAYERS {
            return Err(RecordError::TooLarge(format!(
                "it would take more than {} MiB of memory, and no job could read it: the store holds too many paths for one \
                 key. Set `max-size`, or give the jobs keys of their own.",
                MAX_WEIGHT >> 20
            )));
        }
        Ok(bytes)
    }

    fn decode(body: &[u8]) -> Result<Self, RecordError> {
        let snapshot: Self = read_json::<Wire>(body, MAX_WEIGHT)?.try_into()?;
        check_layers(&snapshot)?;
        Ok(snapshot)
    }

    fn merge(&mut self, other: Self) {
        Self::merge(self, other);
    }

    fn covers(&self, other: &Self) -> bool {
        Self::covers(self, other, &other.lanes.keys().cloned().collect())
    }

    fn unread(&mut self) -> &mut BTreeMap<u64, u64> {
        &mut self.unread
    }
}

/// Encodes `snapshot` as an entry without a name and a signature.
///
/// # Errors
/// When it is too large for readers.
pub fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, RecordError> {
    record::encode(snapshot, "", &Keyring::default())
}

/// Decodes the snapshot in `bytes`, whoever wrote it.
///
/// # Errors
/// When they are damaged, or of an unsupported format.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, RecordError> {
    Ok(record::decode(bytes, "", &Keyring::default())?.0)
}

/// Limits the size of layers by the stored bytes, because a recipe that repeats the same bytes could expand to any size.
fn check_layers(snapshot: &Snapshot) -> Result<(), RecordError> {
    if snapshot.layers.len().max(snapshot.stored.len()) > MAX_LAYERS {
        return Err(RecordError::Damaged(format!("it names more than {MAX_LAYERS} layers")));
    }
    let size_of = |id: &Sha| snapshot.stored.get(id).map(|stored| stored.digests.size);
    let fits = |recipe: &Recipe| recipe.fits(size_of);
    if snapshot.layers.values().all(|layer| layer.recipe.as_ref().is_none_or(fits)) {
        return Ok(());
    }
    Err(RecordError::damaged("a layer takes more bytes than are stored"))
}
