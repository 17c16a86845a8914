//! Removes what a snapshot no longer needs: paths that no lane used in its last saves, layers without paths of their own, and lanes
//! that no longer exist.
//!
//! Merely reading a path leaves no trace: "used" means built or fetched, rooted, or needed by such a path. Being unused is therefore
//! not enough. A path of a lane expires when
//!
//! - a newer path of the lane has the same name, apart from numbers and hashes, and the path was not used in the last `keep`
//!   saves of the lane; or
//! - it was not used in the last [`LONG`] times `keep` saves of the lane, whatever replaced it.
//!
//! Only saves of the lane itself count: a lane that does not save loses nothing until it is forgotten after [`FORGOTTEN`]. A path
//! that was dropped and had to be rebuilt was needed after all: from then on, only the second rule applies to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::trace::Trace;
use super::{Layer, PathKey, Snapshot};
use crate::base::digest::Sha;
use crate::store::StorePath;

/// Factor for the number of saves after which a path without a replacement expires.
pub(super) const LONG: u32 = 20;
/// Seconds without a save after which a lane is forgotten: 30 days.
pub(super) const FORGOTTEN: u64 = 30 * 24 * 3600;
/// Number of saves, and of dropped paths, that a lane remembers.
const SAVES: usize = 1000;
const DROPPED: usize = 1000;

/// The paths that a lane used.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    /// When it last saved, in seconds since 1970.
    pub used: u64,
    /// When it saved, each time.
    pub saves: BTreeSet<u64>,
    /// Its paths, and when a save last found them in use. Some dropped paths stay here, so that one that comes back is recognised.
    pub paths: BTreeMap<StorePath, u64>,
    /// Paths that were dropped and had to be built or fetched again.
    pub returned: BTreeSet<StorePath>,
    /// What its last job that streamed read, in order.
    pub trace: Trace,
}

impl Lane {
    /// Whether it uses any of `paths`.
    pub(crate) fn uses_any<'a>(&self, mut paths: impl Iterator<Item = &'a StorePath>) -> bool {
        paths.any(|path| self.paths.contains_key(path))
    }

    /// Records a save at `now` that found `used` in use.
    pub(crate) fn save(&mut self, used: impl IntoIterator<Item = StorePath>, now: u64) {
        // Two saves can happen in one second.
        let now = self.saves.last().map_or(now, |last| now.max(last + 1));
        self.used = now;
        self.saves.insert(now);
        while self.saves.len() > SAVES {
            self.saves.pop_first();
        }
        self.paths.extend(used.into_iter().map(|path| (path, now)));
    }

    /// Records that a job that goes on found `used` in use. This is not one of the saves by which paths expire.
    pub(crate) fn add(&mut self, used: impl IntoIterator<Item = StorePath>, now: u64) {
        let now = self.saves.last().map_or(now, |last| now.max(last + 1));
        self.used = self.used.max(now);
        self.paths.extend(used.into_iter().map(|path| (path, now)));
    }

    /// The time of the save `count` saves ago; 0 if there are fewer.
    fn since(&self, count: u32) -> u64 {
        self.saves.iter().rev().nth((count as usize).saturating_sub(1)).copied().unwrap_or(0)
    }

    /// Its paths that did not expire.
    fn live(&self, keep: u32) -> impl Iterator<Item = &StorePath> {
        let (short, long) = (self.since(keep), self.since(keep.saturating_mul(LONG)));
        let mut newest: HashMap<String, u64> = HashMap::new();
        for (path, used) in &self.paths {
            let newest = newest.entry(stem(path.name())).or_default();
            *newest = (*newest).max(*used);
        }
        let is_replaced =
            move |path: &StorePath, used: u64| newest.get(&stem(path.name())).is_some_and(|at| *at > used);
        self.paths.iter().filter_map(move |(path, used)| {
            let expired = *used < long || *used < short && !self.returned.contains(path) && is_replaced(path, *used);
            (!expired).then_some(path)
        })
    }
}

/// Removes numbers and words that look like a hash from `name`, so that versions of a package have the same result.
fn stem(name: &str) -> String {
    let word = |word: &str| {
        let is_hash = word.len() >= 7
            && word.bytes().any(|byte| byte.is_ascii_digit())
            && word.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
        if is_hash {
            return "#".to_owned();
        }
        let mut stem = String::with_capacity(word.len());
        for char in word.chars() {
            match char {
                '0'..='9' if stem.ends_with('#') => {}
                '0'..='9' => stem.push('#'),
                other => stem.push(other),
            }
        }
        stem
    };
    // Versions have parts, as many as they like.
    let mut words: Vec<String> = name.split(['-', '.', '_', '+']).map(word).collect();
    words.dedup_by(|a, b| a == "#" && b == "#");
    words.join("-")
}

impl Snapshot {
    /// Drops expired paths, and forgets lanes that have not saved for long before `now`. With `keep` 0, nothing is dropped. Returns the
    /// number of dropped paths.
    pub fn expire(&mut self, keep: u32, now: u64) -> usize {
        if keep == 0 || self.lanes.is_empty() {
            return 0;
        }
        self.lanes.retain(|_, lane| lane.used.saturating_add(FORGOTTEN) >= now);
        let live: BTreeSet<&StorePath> = self.lanes.values().flat_map(|lane| lane.live(keep)).collect();
        let live: BTreeSet<StorePath> = self.with_references(live.into_iter());
        let before = self.paths.len();
        self.retain_paths(|key| live.contains(&key.0));
        self.upstream.retain(|path| live.contains(path));
        before - self.paths.len()
    }

    /// Lanes remember only a limited number of the paths that were dropped.
    pub(crate) fn forget_dropped(&mut self) {
        let names: BTreeSet<&StorePath> = self.paths.keys().map(|key| &key.0).collect();
        for lane in self.lanes.values_mut() {
            let mut dropped: Vec<(u64, StorePath)> = lane
                .paths
                .iter()
                .filter(|(path, _)| !names.contains(path))
                .map(|(path, used)| (*used, path.clone()))
                .collect();
            dropped.sort();
            for (_, path) in dropped.iter().rev().skip(DROPPED) {
                lane.paths.remove(path);
            }
            let paths = &lane.paths;
            lane.returned.retain(|path| paths.contains_key(path));
        }
    }

    /// `paths` and everything that they refer to.
    pub(crate) fn with_references<'a>(&'a self, paths: impl Iterator<Item = &'a StorePath>) -> BTreeSet<StorePath> {
        let mut references: HashMap<&StorePath, Vec<&StorePath>> = HashMap::new();
        for record in self.paths.values() {
            references.entry(&record.info.path).or_default().extend(&record.info.references);
        }
        let mut todo: Vec<&StorePath> = paths.collect();
        let mut all: BTreeSet<StorePath> = BTreeSet::new();
        while let Some(path) = todo.pop() {
            if all.insert(path.clone()) {
                todo.extend(references.get(path).into_iter().flatten().copied());
            }
        }
        all
    }

    /// Drops layers whose paths are all in other layers: paths that several jobs built at the same time are needed once. Of two such
    /// layers, the one with more paths stays.
    pub fn drop_redundant_layers(&mut self) {
        let mut count: HashMap<&PathKey, usize> = HashMap::new();
        for path in self.layers.values().flat_map(|layer| &layer.paths) {
            *count.entry(path).or_default() += 1;
        }
        let mut order: Vec<(&Sha, &Layer)> = self.layers.iter().collect();
        order.sort_by_key(|(id, layer)| (layer.paths.len(), **id));
        let mut redundant: BTreeSet<Sha> = BTreeSet::new();
        for (id, layer) in order {
            if layer.paths.iter().all(|path| count.get(path).is_some_and(|count| *count > 1)) {
                redundant.insert(*id);
                for path in &layer.paths {
                    count.entry(path).and_modify(|count| *count -= 1);
                }
            }
        }
        if !redundant.is_empty() {
            self.drop_layers(&redundant);
        }
    }

    /// Returns whether everything that `other` has for `lanes` is also in a layer of this snapshot.
    pub(crate) fn covers(&self, other: &Snapshot, lanes: &BTreeSet<String>) -> bool {
        let held: BTreeSet<&StorePath> =
            self.layers.values().flat_map(|layer| &layer.paths).map(|(path, _)| path).collect();
        let theirs: BTreeSet<&StorePath> = other.paths.keys().map(|(path, _)| path).collect();
        let has = |path: &&StorePath| held.contains(*path) || self.upstream.contains(*path);
        other.lanes.iter().filter(|(name, _)| lanes.contains(*name)).all(|(name, lane)| {
            let Some(mine) = self.lanes.get(name) else { return false };
            let mut paths = lane.paths.keys().filter(|path| theirs.contains(path));
            paths.all(|path| mine.paths.contains_key(path) && has(&path))
        })
    }

    /// Returns whether it is for machines of `system`; a snapshot without paths is for all.
    pub(crate) fn is_for(&self, system: &str) -> bool {
        self.paths.is_empty() || self.facts.system.is_empty() || system.is_empty() || self.facts.system == system
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::digest::Digests;
    use crate::snapshot::Stored;
    use crate::store::PathInfo;

    fn path(number: u64, name: &str) -> StorePath {
        format!("{number:032}-{name}").parse().unwrap()
    }

    fn info(path: &StorePath) -> PathInfo {
        PathInfo { nar_size: 1, ..PathInfo::sample(path.clone()) }
    }

    /// A save of `lane` at `now` that used `used`; those that are new come in a layer of their own.
    fn save(snapshot: &mut Snapshot, lane: &str, used: &[StorePath], now: u64, keep: u32) {
        let had: BTreeSet<StorePath> = snapshot.paths.keys().map(|key| key.0.clone()).collect();
        let new: Vec<&StorePath> = used.iter().filter(|path| !had.contains(path)).collect();
        let entry = snapshot.lanes.entry(lane.into()).or_default();
        let returned: Vec<StorePath> =
            new.iter().filter(|path| entry.paths.contains_key(**path)).map(|path| (*path).clone()).collect();
        entry.save(used.iter().cloned(), now);
        entry.returned.extend(returned);
        snapshot.expire(keep, now);
        let digests = Digests { size: 10, chunks: vec![Sha([now as u8; 32])] };
        let stored = Stored { digests: digests.clone(), entry: now.to_string() };
        snapshot.add_layer((digests, None), stored, new.into_iter().map(info), now);
        snapshot.forget_dropped();
    }

    fn names(snapshot: &Snapshot) -> BTreeSet<StorePath> {
        snapshot.paths.keys().map(|key| key.0.clone()).collect()
    }

    #[test]
    fn sixty_saves_keep_what_is_needed_and_little_more() {
        let base: Vec<StorePath> = (0..110).map(|number| path(number, &format!("base{}", letters(number)))).collect();
        let changed = |save: u64| -> Vec<StorePath> {
            (0..22).map(|n| path(1000 * save + n + 1000, &format!("changed{}-1.{save}", letters(n)))).collect()
        };
        let mut snapshot = Snapshot::default();
        let first: Vec<StorePath> = base.iter().cloned().chain(changed(0)).collect();
        save(&mut snapshot, "lane", &first, 100, 5);
        for number in 1..60 {
            save(&mut snapshot, "lane", &changed(number), 100 + number, 5);
            let names = names(&snapshot);
            assert!(changed(number).iter().chain(&base).all(|path| names.contains(path)), "after {number} saves");
            assert!(names.len() <= 132 + 22 * 5, "{} paths after {number} saves", names.len());
        }
        // Nothing that replaces them ever came; still they do not stay for ever.
        for number in 60..60 + u64::from(5 * LONG) {
            save(&mut snapshot, "lane", &changed(number), 100 + number, 5);
        }
        assert!(base.iter().all(|path| !names(&snapshot).contains(path)));
    }

    /// A word of letters for a number: numbers do not tell names apart.
    fn letters(number: u64) -> String {
        number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
    }

    #[test]
    fn a_lane_that_does_not_save_loses_nothing_until_it_is_forgotten() {
        let mut snapshot = Snapshot::default();
        let theirs = [path(1, "tool-1.0"), path(2, "lib-1.0")];
        save(&mut snapshot, "weekly", &theirs, 100, 3);
        for number in 2..50 {
            save(
                &mut snapshot,
                "busy",
                &[path(number * 10, "tool-1.0"), path(number * 10 + 1, "lib-1.0")],
                100 + number,
                3,
            );
        }
        assert!(theirs.iter().all(|path| names(&snapshot).contains(path)));
        save(&mut snapshot, "busy", &[path(7, "tool-1.0")], 200 + FORGOTTEN, 3);
        assert!(theirs.iter().all(|path| !names(&snapshot).contains(path)));
        assert_eq!(snapshot.lanes.len(), 1);
    }

    #[test]
    fn what_was_dropped_and_comes_back_is_not_dropped_again_for_its_name() {
        let mut snapshot = Snapshot::default();
        let input = path(1, "source");
        save(&mut snapshot, "lane", &[input.clone(), path(2, "source")], 1, 2);
        let mut times = 0;
        for number in 2..30 {
            let mut used = vec![path(number * 10, "source")];
            // The job reads it each time: only where it is missing there is a trace of that.
            if !names(&snapshot).contains(&input) {
                used.push(input.clone());
                times += 1;
            }
            save(&mut snapshot, "lane", &used, number, 2);
        }
        assert_eq!(times, 1);
    }

    #[test]
    fn nothing_is_dropped_where_everything_is_to_be_kept() {
        let mut snapshot = Snapshot::default();
        for number in 0..30 {
            save(&mut snapshot, "lane", &[path(number, "tool")], number, 0);
        }
        assert_eq!(snapshot.paths.len(), 30);
    }

    #[test]
    fn names_of_versions_are_one_and_others_are_not() {
        for (one, other) in [
            ("hello-2.12.1", "hello-2.13"),
            ("nixos-system-host-24.11.20241126.af51e23", "nixos-system-host-25.05.1.0b1c2d3"),
            ("app17", "app18"),
        ] {
            assert_eq!(stem(one), stem(other));
        }
        for (one, other) in [("hello-2.12", "hello-2.12-doc"), ("hello.drv", "hello"), ("libfoo", "libbar")] {
            assert_ne!(stem(one), stem(other));
        }
    }

    #[test]
    fn a_layer_that_others_hold_is_not_needed() {
        let mut snapshot = Snapshot::default();
        for (number, held) in [(1, vec![1]), (2, vec![1, 2]), (3, vec![3]), (4, vec![2, 3])] {
            let digests = Digests { size: 10, chunks: vec![Sha([number; 32])] };
            let stored = Stored { digests: digests.clone(), entry: number.to_string() };
            let infos = held.into_iter().map(|number| info(&path(number, "p")));
            snapshot.add_layer((digests, None), stored, infos, 1);
        }
        let before = names(&snapshot);
        snapshot.drop_redundant_layers();
        assert_eq!((snapshot.layers.len(), snapshot.stored.len(), names(&snapshot)), (2, 2, before));
        assert_eq!(snapshot.chosen().len(), 3);
    }
}
