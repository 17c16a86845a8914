//! Sets of store paths, with what is known of each.

use std::collections::{BTreeMap, btree_map};
use std::ops::{Deref, DerefMut};

use super::{PathInfo, StorePath};

/// Store paths, each with what the Nix database says of it, or a reference to that. What a set of paths needs is in
/// [`Paths::closure`] and its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths<I = PathInfo>(BTreeMap<StorePath, I>);

impl<I> Default for Paths<I> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<I> Paths<I> {
    /// Returns the paths without what is known of them.
    pub fn into_keys(self) -> impl Iterator<Item = StorePath> {
        self.0.into_keys()
    }

    /// Returns what is known of the paths.
    pub fn into_values(self) -> impl Iterator<Item = I> {
        self.0.into_values()
    }
}

impl<I> Deref for Paths<I> {
    type Target = BTreeMap<StorePath, I>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<I> DerefMut for Paths<I> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<I> FromIterator<(StorePath, I)> for Paths<I> {
    fn from_iter<T: IntoIterator<Item = (StorePath, I)>>(paths: T) -> Self {
        Self(paths.into_iter().collect())
    }
}

impl<I> IntoIterator for Paths<I> {
    type Item = (StorePath, I);
    type IntoIter = btree_map::IntoIter<StorePath, I>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, I> IntoIterator for &'a Paths<I> {
    type Item = (&'a StorePath, &'a I);
    type IntoIter = btree_map::Iter<'a, StorePath, I>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
