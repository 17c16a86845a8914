//! The union of two maps: the base of every merge.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Adds the entries of `from` to `into`; `join` combines the values of a key that both have.
pub(crate) fn union<K: Ord, V>(into: &mut BTreeMap<K, V>, from: BTreeMap<K, V>, join: impl Fn(&mut V, V)) {
    for (key, value) in from {
        match into.entry(key) {
            Entry::Vacant(slot) => {
                slot.insert(value);
            }
            Entry::Occupied(mut slot) => join(slot.get_mut(), value),
        }
    }
}

/// Joins two values by the greater one.
pub(crate) fn greater<V: Ord>(value: &mut V, other: V) {
    if other > *value {
        *value = other;
    }
}

/// Joins two values by the lesser one.
pub(crate) fn lesser<V: Ord>(value: &mut V, other: V) {
    if other < *value {
        *value = other;
    }
}
