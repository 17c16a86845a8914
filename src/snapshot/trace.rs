//! The order in which a job first read the parts of streamed layers: the next job of its lane gets them in this order.

use std::collections::BTreeSet;

use crate::base::digest::Sha;

/// Largest number of parts that a trace remembers.
pub(crate) const MAX_UNITS: usize = 1 << 14;

/// What a lane read first when its last job streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trace {
    /// When it was recorded, in seconds since 1970. Of two, the newer one counts.
    pub time: u64,
    /// Parts of one MiB of stored bytes: the id of these, and numbers of parts, in the order in which they were read.
    pub units: Vec<(Sha, Vec<u32>)>,
}

impl Trace {
    /// Bytes of a part.
    pub(crate) const UNIT: u64 = 1 << 20;

    /// The parts, one by one.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Sha, u32)> {
        self.units.iter().flat_map(|(id, units)| units.iter().map(move |unit| (*id, *unit))).take(MAX_UNITS)
    }

    /// Returns whether more than a fifth of it is not in `known`, so that it is worth being saved.
    pub(crate) fn adds_to(&self, known: &Trace) -> bool {
        let (all, known) = (self.each().count(), known.each().collect::<BTreeSet<_>>());
        self.each().filter(|unit| !known.contains(unit)).count() > all / 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_saved_if_much_of_it_is_new() {
        let trace = |units: std::ops::Range<u32>| Trace { time: 1, units: vec![(Sha([1; 32]), units.collect())] };
        assert!(trace(0..10).adds_to(&Trace::default()) && trace(0..10).adds_to(&trace(3..10)));
        assert!(!trace(0..10).adds_to(&trace(2..10)) && !trace(0..5).adds_to(&trace(0..10)));
        assert!(!Trace::default().adds_to(&Trace::default()));
    }
}
