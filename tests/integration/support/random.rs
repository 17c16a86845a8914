//! Random numbers that can be had again.

use std::hash::{BuildHasher, RandomState};

/// A generator (`SplitMix64`), started anew each time unless `NIX_CACHE_TEST_SEED` says where.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Prints where it starts: a test that fails shows it.
    pub(crate) fn new() -> Self {
        let given = std::env::var("NIX_CACHE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("NIX_CACHE_TEST_SEED={seed}");
        Self(seed)
    }

    /// The same each time, unless `NIX_CACHE_TEST_SEED` says otherwise.
    pub(crate) fn seeded(seed: u64) -> Self {
        let given = std::env::var("NIX_CACHE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        Self(given.unwrap_or(seed))
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }
}

/// A number that has nothing to do with `number` any more.
pub(crate) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
