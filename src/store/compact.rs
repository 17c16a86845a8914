//! Small sets and maps that need little memory: sorted, contiguous, and shared by their clones.
//!
//! A store has a hundred thousand paths with a few references, a signature and perhaps an output each. A B-tree node allocates
//! room for eleven elements with the first one, and a clone allocates it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set in ascending order. Every change copies it, so it is meant for sets that are built once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedSet<T>(Option<Arc<[T]>>);

impl<T> SharedSet<T> {
    /// The empty set, which allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

impl<T: Ord> SharedSet<T> {
    /// Whether `element` is in it.
    #[must_use]
    pub fn contains(&self, element: &T) -> bool {
        self.binary_search(element).is_ok()
    }

    fn of(mut elements: Vec<T>) -> Self {
        elements.sort();
        elements.dedup();
        Self((!elements.is_empty()).then(|| elements.into()))
    }
}

impl<T: Ord + Clone> SharedSet<T> {
    /// Adds `element`; returns whether it is new.
    pub fn insert(&mut self, element: T) -> bool {
        let is_new = !self.contains(&element);
        if is_new {
            self.extend([element]);
        }
        is_new
    }

    /// Keeps the elements for which `keep` is true.
    pub fn retain(&mut self, keep: impl FnMut(&&T) -> bool) {
        let before = self.len();
        let kept: Vec<&T> = self.iter().filter(keep).collect();
        if kept.len() < before {
            *self = Self::of(kept.into_iter().cloned().collect());
        }
    }
}

impl<T: Ord + Clone> Extend<T> for SharedSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        let mut elements = elements.into_iter().filter(|element| !self.contains(element)).peekable();
        if elements.peek().is_some() {
            *self = Self::of(self.iter().cloned().chain(elements).collect());
        }
    }
}

impl<T> Deref for SharedSet<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T> Default for SharedSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Ord> FromIterator<T> for SharedSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Self::of(elements.into_iter().collect())
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for SharedSet<T> {
    fn from(elements: [T; N]) -> Self {
        elements.into_iter().collect()
    }
}

impl<T: Ord> From<BTreeSet<T>> for SharedSet<T> {
    fn from(elements: BTreeSet<T>) -> Self {
        elements.into_iter().collect()
    }
}

impl<'a, T> IntoIterator for &'a SharedSet<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Serialize> Serialize for SharedSet<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de, T: Ord + Deserialize<'de>> Deserialize<'de> for SharedSet<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::of)
    }
}

/// A map in ascending order of its keys; if a key occurs more than once, its last value counts. See [`SharedSet`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedMap<K, V>(Option<Arc<[(K, V)]>>);

impl<K, V> SharedMap<K, V> {
    /// The empty map, which allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_deref().unwrap_or_default().len()
    }

    /// All entries.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.0.as_deref().unwrap_or_default().iter().map(|(key, value)| (key, value))
    }

    /// All values.
    #[must_use]
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Sets the value of `key`.
    pub fn insert(&mut self, key: K, value: V) {
        let entries = self.iter().map(|(key, value)| (key.clone(), value.clone()));
        *self = entries.chain([(key, value)]).collect();
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(K, V)> = entries.into_iter().collect();
        // Of equal keys, the later one comes first.
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, kept| later.0 == kept.0);
        Self((!entries.is_empty()).then(|| entries.into()))
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord, V> From<BTreeMap<K, V>> for SharedMap<K, V> {
    fn from(entries: BTreeMap<K, V>) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Serialize, V: Serialize> Serialize for SharedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, K: Ord + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for SharedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);

        impl<'de, K: Ord + Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
            type Value = SharedMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries.into_iter().collect())
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_the_b_trees_of_the_library_are(
            first in prop::collection::vec((0..20_u8, 0..9_u8), 0..30),
            second in prop::collection::vec((0..20_u8, 0..9_u8), 0..10),
        ) {
            let mut set: SharedSet<_> = first.iter().copied().collect();
            let mut expected: BTreeSet<_> = first.iter().copied().collect();
            set.extend(second.iter().copied());
            expected.extend(second.iter().copied());
            let shared = set.clone();
            set.retain(|(key, _)| key % 3 == 0);
            expected.retain(|(key, _)| key % 3 == 0);
            prop_assert_eq!(set.insert((21, 0)), expected.insert((21, 0)));
            prop_assert_eq!(set.insert((21, 0)), expected.insert((21, 0)));
            prop_assert!(set.iter().eq(&expected) && expected.iter().all(|one| set.contains(one)));
            prop_assert!(!set.contains(&(22, 0)) && set.len() == expected.len());
            prop_assert!(first.iter().chain(&second).all(|one| shared.contains(one)), "a clone stays as it is");
            prop_assert_eq!(&set, &SharedSet::from(expected));
            let json = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<SharedSet<(u8, u8)>>(&json).unwrap(), set);

            let mut map: SharedMap<_, _> = first.iter().copied().collect();
            let mut expected: BTreeMap<_, _> = first.iter().copied().collect();
            for (key, value) in &second {
                map.insert(*key, *value);
                expected.insert(*key, *value);
            }
            prop_assert!(map.iter().eq(&expected) && map.values().eq(expected.values()));
            prop_assert_eq!((map.len(), map.is_empty()), (expected.len(), expected.is_empty()));
            let json = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&expected).unwrap());
            prop_assert_eq!(serde_json::from_str::<SharedMap<u8, u8>>(&json).unwrap(), map);
        }
    }
}
