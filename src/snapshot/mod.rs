//! Snapshots: the index of one key. It lists the store paths with their records from the Nix database, the layers that contain
//! them, and the lanes that used them.
//!
//! A snapshot is written in generations under `<key>#g<number>`, which never change. Two independent ones are joined by
//! [`Snapshot::merge`], a union: the order and number of merges do not matter.

mod codec;
mod keep;
mod merge;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod size_test;
mod trace;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::digest::Sha;
use crate::layer::digest::Digests;
use crate::layer::recipe::Recipe;
use crate::series::names::is_name;
use crate::store::{DrvOutput, NarHash, PathInfo, Realisation, SharedMap, StorePath};

pub use codec::{decode, encode};
pub use keep::Lane;
pub use trace::Trace;

/// A store path with its hash. The same path can have been built twice with different bytes; both versions may be in one snapshot,
/// each with the layer that contains it.
pub type PathKey = (StorePath, NarHash);

/// The index of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Who wrote it, when and for what.
    pub facts: Facts,
    /// All paths.
    pub paths: BTreeMap<PathKey, Record>,
    /// All layers by their id.
    pub layers: BTreeMap<Sha, Layer>,
    /// The stored bytes that layers consist of, by id.
    pub stored: BTreeMap<Sha, Stored>,
    /// Paths that were left out because a substituter has them; their referrers still need them.
    pub upstream: BTreeSet<StorePath>,
    /// The paths that each lane used when it last saved.
    pub lanes: BTreeMap<String, Lane>,
    /// Generations of the same key that exist, or may exist, and could not be read before this one was written; each with the time of the
    /// attempt in seconds since 1970. Their content belongs to this snapshot too: a reader merges them.
    pub unread: BTreeMap<u64, u64>,
    /// The paths that builds of content-addressed derivations produced.
    pub realisations: BTreeMap<DrvOutput, Realisation>,
    /// Number of malformed records, which are left out. Not written.
    pub malformed: u64,
}

/// Facts about the creation of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// When it was written, in seconds since 1970.
    pub created: u64,
    /// The key that it was written for.
    pub key: String,
    /// The system of the machine that wrote it, as Nix names it.
    pub system: String,
    /// The program and its version.
    pub tool: String,
    /// The lane of the job that wrote it.
    pub lane: String,
}

impl Facts {
    /// Returns whether all names in it are valid.
    fn are_sound(&self) -> bool {
        [&self.key, &self.system, &self.tool, &self.lane].into_iter().all(|name| is_name(name))
    }
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its record in the Nix database.
    pub info: PathInfo,
    /// When a save last found it in use, in seconds since 1970.
    pub last_used: u64,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Size and chunk digests of its file; its id is theirs.
    pub digests: Digests,
    /// The recipe of its file from [`Snapshot::stored`]; None if it is stored whole, under its own id.
    pub recipe: Option<Recipe>,
    /// Its paths that the snapshot still wants.
    pub paths: BTreeSet<PathKey>,
    /// Total NAR size of all its paths, wanted or not.
    pub nar_bytes: u64,
    /// When it was packed, in seconds since 1970.
    pub created: u64,
    /// Bytes at its end that every mount reads first: the tables of the image, and the index. 0 if that is not known.
    pub tables: u64,
}

impl Layer {
    /// The id of the bytes that were stored for it and for no older layer: its file begins with them.
    #[must_use]
    pub fn own_stored(&self) -> Sha {
        let first = self.recipe.as_ref().and_then(|recipe| recipe.0.first());
        first.map_or_else(|| self.digests.id(), |segment| segment.stored)
    }

    /// The ids of the stored bytes that its file consists of.
    #[must_use]
    pub fn stored(&self) -> BTreeSet<Sha> {
        self.recipe.as_ref().map_or_else(|| BTreeSet::from([self.digests.id()]), Recipe::stored)
    }
}

/// Bytes in the remote: the file of a layer, or the new bytes of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Their size and chunk digests; their id is theirs.
    pub digests: Digests,
    /// The name of their entry in the remote: their id, followed by a number if an entry of that name was lost; or, from a job that
    /// may not look anything up, `first-`, the SHA-256 of the key, and a number.
    pub entry: String,
}

impl Snapshot {
    /// The paths, each in one version: the most recently used one (of two used at the same time, the one with the greater hash) that a
    /// layer contains.
    #[must_use]
    pub fn chosen(&self) -> BTreeMap<StorePath, &Record> {
        let held: BTreeSet<&PathKey> = self.layers.values().flat_map(|layer| &layer.paths).collect();
        let mut chosen: BTreeMap<StorePath, &Record> = BTreeMap::new();
        for (key, record) in self.paths.iter().filter(|(key, _)| held.contains(key)) {
            let better = chosen.get(&key.0).is_none_or(|other| other.last_used <= record.last_used);
            if better {
                chosen.insert(key.0.clone(), record);
            }
        }
        chosen
    }

    /// Keeps the paths for which `keep` is true, and the related parts of layers and lanes. Removes layers without wanted paths.
    pub fn retain(&mut self, keep: impl Fn(&PathKey) -> bool) {
        self.retain_paths(keep);
        let names: BTreeSet<&StorePath> = self.paths.keys().map(|key| &key.0).collect();
        for lane in self.lanes.values_mut() {
            lane.paths.retain(|path, _| names.contains(path));
            lane.returned.retain(|path| names.contains(path));
        }
    }

    /// Like [`Snapshot::retain`], but lanes remember the removed paths.
    pub(crate) fn retain_paths(&mut self, keep: impl Fn(&PathKey) -> bool) {
        self.paths.retain(|key, _| keep(key));
        let paths = &self.paths;
        for layer in self.layers.values_mut() {
            layer.paths.retain(|key| paths.contains_key(key));
        }
        self.layers.retain(|_, layer| !layer.paths.is_empty());
        self.drop_unused();
        let names: BTreeSet<&StorePath> = self.paths.keys().map(|key| &key.0).collect();
        self.realisations.retain(|_, realisation| names.contains(&realisation.path));
    }

    /// Removes layers.
    pub fn drop_layers(&mut self, ids: &BTreeSet<Sha>) {
        self.layers.retain(|id, _| !ids.contains(id));
        self.drop_unused();
    }

    /// Drops stored bytes that no layer uses.
    fn drop_unused(&mut self) {
        let used: BTreeSet<Sha> = self.layers.values().flat_map(Layer::stored).collect();
        self.stored.retain(|id, _| used.contains(id));
    }

    /// Removes the stored bytes `lost`, and the layers that cannot be assembled without them. Returns the names of their entries.
    pub fn lose(&mut self, lost: &BTreeSet<Sha>) -> BTreeSet<String> {
        let entries = lost.iter().filter_map(|id| self.stored.remove(id)).map(|stored| stored.entry).collect();
        self.layers.retain(|_, layer| layer.stored().is_disjoint(lost));
        self.drop_unused();
        entries
    }

    /// Removes the paths for which `is_here` is true from layers that use `doubtful` bytes, so that they are packed again. The others
    /// stay, because another job may be able to read the bytes. Returns the names of the entries.
    pub fn release(&mut self, doubtful: &BTreeSet<Sha>, is_here: impl Fn(&PathKey) -> bool) -> BTreeSet<String> {
        for layer in self.layers.values_mut().filter(|layer| !layer.stored().is_disjoint(doubtful)) {
            layer.paths.retain(|key| !is_here(key));
        }
        let entries = doubtful.iter().filter_map(|id| self.stored.get(id)).map(|stored| stored.entry.clone()).collect();
        self.layers.retain(|_, layer| !layer.paths.is_empty());
        self.drop_unused();
        entries
    }

    /// Like [`Snapshot::lose`], by the names of the entries.
    pub fn lose_entries(&mut self, lost: &BTreeSet<String>) {
        let ids = self.stored.iter().filter(|(_, stored)| lost.contains(&stored.entry)).map(|(id, _)| *id).collect();
        self.lose(&ids);
    }

    /// Total bytes in the remote for all layers.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.stored.values().map(|stored| stored.digests.size).sum()
    }

    /// Adds a layer packed `now`, and its paths; new paths count as used now. `stored` is its file, or the new bytes of its recipe.
    pub fn add_layer(
        &mut self,
        (digests, recipe): (Digests, Option<Recipe>),
        stored: Stored,
        infos: impl IntoIterator<Item = PathInfo>,
        now: u64,
    ) {
        self.stored.insert(stored.digests.id(), stored);
        let mut layer = Layer { digests, recipe, paths: BTreeSet::new(), nar_bytes: 0, created: now, tables: 0 };
        let mut new = Vec::new();
        let mut held = Vec::new();
        for mut info in infos {
            // Readers take them from the derivation.
            info.outputs = SharedMap::new();
            let key = (info.path.clone(), info.nar_hash);
            layer.nar_bytes += info.nar_size;
            held.push(key.clone());
            if !self.paths.contains_key(&key) {
                new.push((key, Record { info, last_used: now }));
            }
        }
        // Built at once, the nodes of a B-tree are full; insertion in ascending order leaves half of each empty.
        layer.paths = held.into_iter().collect();
        self.paths.append(&mut new.into_iter().collect());
        self.layers.insert(layer.digests.id(), layer);
    }
}
