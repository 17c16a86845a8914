//! The order in which a job first read the parts of streamed layers: the next job of its lane gets them in this order.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::digest::Sha;
use crate::store::StorePath;

/// Largest number of parts that a trace remembers.
pub(crate) const MAX_UNITS: usize = 1 << 14;

/// What a lane read first when its last job streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trace {
    /// When it was recorded, in seconds since 1970. Of two, the newer one counts.
    pub time: u64,
    /// Parts of one MiB of stored bytes: the id of these, and numbers of parts, in the order in which they were read.
    pub units: Vec<(Sha, Vec<u32>)>,
    /// The paths that were read, in order. They outlast the stored bytes: after a repack under their own names, and after a change of
    /// the lock under those of paths that differ in their hash only.
    pub paths: Vec<StorePath>,
}

impl Trace {
    /// Bytes of a part.
    pub(crate) const UNIT: u64 = 1 << 20;
    /// Bytes of a part of a layer's file whose first read a stream records: as much as the kernel reads at once.
    pub(crate) const READ_UNIT: u64 = 128 << 10;

    /// Largest number of paths that a trace remembers.
    pub(crate) const MAX_PATHS: usize = 2048;

    /// Whether nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.units.is_empty() && self.paths.is_empty()
    }

    /// The parts, one by one.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Sha, u32)> {
        self.units.iter().flat_map(|(id, units)| units.iter().map(move |unit| (*id, *unit))).take(MAX_UNITS)
    }

    /// Returns whether more than a fifth of it is not in `known`, so that it is worth being saved.
    pub(crate) fn adds_to(&self, known: &Trace) -> bool {
        let (all, known) = (self.each().count(), known.each().collect::<BTreeSet<_>>());
        self.each().filter(|unit| !known.contains(unit)).count() > all / 5
    }

    /// This trace, followed by what was known before and was not read this time, at most as much again: a job that reads a little
    /// more or less each time needs both.
    pub(crate) fn joined(mut self, before: &Trace) -> Self {
        let (count, known) = (self.each().count(), self.each().collect::<BTreeSet<_>>());
        for (id, unit) in before.each().filter(|unit| !known.contains(unit)).take(count) {
            match self.units.last_mut() {
                Some((last, units)) if *last == id => units.push(unit),
                _ => self.units.push((id, vec![unit])),
            }
        }
        let (count, known) = (self.paths.len(), self.paths.iter().cloned().collect::<BTreeSet<_>>());
        self.paths.extend(before.paths.iter().filter(|path| !known.contains(*path)).take(count).cloned());
        self.paths.truncate(Self::MAX_PATHS);
        self
    }

    /// The number of each of `paths` in the order in which they are probably read: that of its own name here, or of a path that
    /// differs in its hash only. Paths without a number are not in it.
    pub(crate) fn ranks<'a>(&self, paths: impl Iterator<Item = &'a StorePath>) -> BTreeMap<&'a StorePath, usize> {
        let own: BTreeMap<&StorePath, usize> = self.paths.iter().zip(0..).collect();
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (path, number) in self.paths.iter().zip(0..) {
            names.entry(path.name()).or_insert(number);
        }
        let rank = |path: &StorePath| own.get(path).or_else(|| names.get(path.name())).copied();
        paths.filter_map(|path| Some((path, rank(path)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_saved_if_much_of_it_is_new() {
        let trace = |units: std::ops::Range<u32>| Trace {
            time: 1,
            units: vec![(Sha([1; 32]), units.collect())],
            paths: Vec::new(),
        };
        assert!(trace(0..10).adds_to(&Trace::default()) && trace(0..10).adds_to(&trace(3..10)));
        assert!(!trace(0..10).adds_to(&trace(2..10)) && !trace(0..5).adds_to(&trace(0..10)));
        assert!(!Trace::default().adds_to(&Trace::default()));
    }

    #[test]
    fn what_was_not_read_this_time_follows_and_does_not_grow() {
        let path = |letter: &str, name: &str| format!("{}-{name}", letter.repeat(32)).parse::<StorePath>().unwrap();
        let trace = |units: &[u32], paths: &[StorePath]| Trace {
            time: 1,
            units: vec![(Sha([1; 32]), units.to_vec())],
            paths: paths.to_vec(),
        };
        let (a, b, c) = (path("a", "a"), path("a", "b"), path("a", "c"));
        let before = trace(&[1, 2, 3, 4], &[c.clone(), b.clone(), a.clone()]);
        let joined = trace(&[9, 2], std::slice::from_ref(&a)).joined(&before);
        assert_eq!(joined.each().map(|(_, unit)| unit).collect::<Vec<_>>(), [9, 2, 1, 3]);
        assert_eq!(joined.paths, [a.clone(), c.clone()]);
        // After a change of the lock, the hash is another.
        let now = [path("b", "c"), a, b, path("b", "d")];
        let ranks: Vec<_> = joined.ranks(now.iter()).into_iter().collect();
        assert_eq!(ranks, [(&now[1], 0), (&now[0], 1)]);
    }
}
