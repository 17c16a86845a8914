//! Weeks of a repository's life in a moment, without Nix: pushes, pull requests, merges, updates of lock files and nightly jobs fill a cache
//! under GitHub's rules. One world is pruned every three hours, in the other only GitHub evicts; both see the same jobs.

mod load;
mod world;

use std::collections::BTreeSet;

use super::view::HOUR;
use crate::remote::github::FREE_QUOTA;
use load::{Load, Project};
use world::World;

const START: u64 = 1_800_000_000;

/// A part of a store: paths that are built and used together.
type Unit = u64;

/// A number that looks random and depends only on `number`.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A sequence of numbers that looks random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0) % end
    }
}

/// A job: what it reads and where it writes.
struct Job {
    scope: String,
    lane: String,
    /// The keys, from its own to the nearest earlier ones.
    keys: Vec<String>,
    needs: BTreeSet<Unit>,
}

/// What came of some days in both worlds: without and with `prune`.
#[derive(Default)]
struct Passed {
    needed: [u64; 2],
    found: [u64; 2],
    evicted: [u64; 2],
    pruned: u64,
    /// The most bytes that a prune left.
    most: u64,
}

impl Passed {
    fn rates(&self) -> [f64; 2] {
        [0, 1].map(|world| self.found[world] as f64 / self.needed[world].max(1) as f64 * 100.0)
    }

    fn gain(&self) -> f64 {
        let [github, pruned] = self.rates();
        pruned - github
    }

    fn add(&mut self, worlds: &[World; 2], was_full: bool) {
        for (number, world) in worlds.iter().enumerate() {
            let [needed, found] = world.hits(was_full);
            self.needed[number] += needed;
            self.found[number] += found;
            self.evicted[number] += world.evicted;
        }
        self.pruned += worlds[1].pruned;
        self.most = self.most.max(worlds[1].most);
    }
}

/// Lets the same days pass in both worlds.
fn pass(load: Load, seed: u64, days: u64, passed: &mut Passed) {
    let mut worlds = [World::default(), World::default()];
    let mut project = Project::new(load, seed);
    let mut is_full = false;
    for hour in 0..days * 24 {
        let start = START + hour * HOUR;
        let jobs = project.hour(hour);
        for (number, job) in jobs.iter().enumerate() {
            let now = start + number as u64 * (HOUR - 300) / jobs.len() as u64;
            for world in &mut worlds {
                world.run(job, is_full, now);
            }
        }
        let end = start + HOUR - 200;
        is_full |= worlds[0].evict(end);
        worlds[1].evict(end);
        if hour % 3 == 2 {
            worlds[1].prune(&project.gone, end + 100);
        }
    }
    passed.add(&worlds, is_full);
}

const ONE: Load = Load {
    name: "one flake, 5 jobs",
    parts: 1,
    lanes: 3,
    nightly: 2,
    shared: 50,
    own: 20,
    packages: 30,
    pulls_a_month: 176,
    broad: 0,
    bump: 7,
    has_queue: false,
};
const HOSTS: Load = Load {
    name: "20 hosts of one flake, 2 systems",
    parts: 2,
    lanes: 8,
    nightly: 2,
    shared: 40,
    own: 4,
    packages: 10,
    broad: 2500,
    ..ONE
};
const QUEUE: Load =
    Load { name: "one flake, a merge queue, 20 pull requests a day", pulls_a_month: 440, has_queue: true, ..ONE };
const QUIET: Load = Load { name: "one pull request every ten days", pulls_a_month: 2, nightly: 0, bump: 0, ..ONE };
const TEN: Load = Load {
    name: "10 flakes, 12 pull requests a day",
    parts: 10,
    lanes: 1,
    nightly: 1,
    shared: 12,
    own: 4,
    packages: 4,
    pulls_a_month: 264,
    broad: 500,
    bump: 14,
    ..ONE
};
const TWENTY: Load = Load {
    name: "20 flakes, 20 pull requests a day",
    parts: 20,
    lanes: 1,
    nightly: 0,
    shared: 8,
    own: 2,
    packages: 3,
    pulls_a_month: 440,
    broad: 300,
    bump: 14,
    ..ONE
};

/// A load, days, and by how many points more of what jobs need has to come from the pruned cache.
const CASES: [(Load, u64, f64); 6] =
    [(ONE, 14, 0.0), (HOSTS, 7, 0.0), (QUEUE, 4, 0.0), (QUIET, 90, 5.0), (TEN, 14, 4.0), (TWENTY, 14, 10.0)];

/// `NIX_CACHE_TEST_WEEKS` makes several repositories of each kind pass instead of one, for four weeks at least.
#[test]
fn a_pruned_cache_fits_and_has_more_hits_the_more_keys_it_holds_and_never_fewer() {
    let seeds: Option<u64> = std::env::var("NIX_CACHE_TEST_WEEKS").ok().map(|seeds| seeds.parse().unwrap());
    let mut wrong = Vec::new();
    for (load, days, least) in CASES {
        let mut passed = Passed::default();
        for seed in 1..=seeds.unwrap_or(1) {
            pass(load, seed, seeds.map_or(days, |_| days.max(28)), &mut passed);
        }
        let [github, pruned] = passed.rates();
        println!(
            "{}: {github:.1} % with GitHub's eviction alone ({} evicted), {pruned:.1} % in a pruned cache ({} evicted, {} pruned): {:+.2} points",
            load.name,
            passed.evicted[0],
            passed.evicted[1],
            passed.pruned,
            passed.gain()
        );
        assert!(passed.most <= FREE_QUOTA, "{}: {} bytes after a prune", load.name, passed.most);
        // Where everything is younger than a job, a prune can do nothing, and one layer more or less is a hundredth of a point.
        if passed.gain() < least - 0.05 {
            wrong.push(load.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
