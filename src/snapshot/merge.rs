//! The union of two snapshots: commutative, associative and idempotent, because every part of it is (a union of sets, a
//! maximum, a minimum).

use super::{Lane, Layer, Record, Snapshot, Stored};
use crate::series::{greater, lesser, union};
use crate::store::PathInfo;

impl Snapshot {
    /// Merges `other` into this snapshot.
    pub fn merge(&mut self, other: Snapshot) {
        if other.facts > self.facts {
            self.facts = other.facts;
        }
        union(&mut self.paths, other.paths, merge_record);
        self.upstream.extend(other.upstream);
        union(&mut self.layers, other.layers, merge_layer);
        union(&mut self.stored, other.stored, merge_stored);
        union(&mut self.lanes, other.lanes, |lane: &mut Lane, other| {
            lane.used = lane.used.max(other.used);
            lane.saves.extend(other.saves);
            lane.returned.extend(other.returned);
            greater(&mut lane.trace, other.trace);
            union(&mut lane.paths, other.paths, greater);
        });
        self.malformed = self.malformed.max(other.malformed);
        union(&mut self.realisations, other.realisations, greater);
        union(&mut self.unread, other.unread, lesser);
    }
}

fn merge_record(record: &mut Record, other: Record) {
    record.last_used = record.last_used.max(other.last_used);
    merge_info(&mut record.info, other.info);
}

/// Two databases can have different metadata of the same bytes: signatures, deriver, time.
fn merge_info(info: &mut PathInfo, other: PathInfo) {
    info.nar_size = info.nar_size.max(other.nar_size);
    info.references.extend(other.references.iter().cloned());
    info.signatures.extend(other.signatures.iter().cloned());
    info.ultimate |= other.ultimate;
    info.registration_time = info.registration_time.min(other.registration_time);
    info.deriver = info.deriver.take().max(other.deriver);
    info.ca = info.ca.take().max(other.ca);
}

/// Layers with the same id have the same bytes; they can differ in the paths that are still wanted.
fn merge_layer(layer: &mut Layer, other: Layer) {
    layer.paths.extend(other.paths);
    layer.recipe = layer.recipe.take().max(other.recipe);
    layer.nar_bytes = layer.nar_bytes.max(other.nar_bytes);
    layer.created = layer.created.min(other.created);
    layer.tables = layer.tables.max(other.tables);
}

/// An entry is stored under a later name only if the earlier one is lost.
fn merge_stored(stored: &mut Stored, other: Stored) {
    if (other.entry.len(), &other.entry) > (stored.entry.len(), &stored.entry) {
        stored.entry = other.entry;
    }
}
