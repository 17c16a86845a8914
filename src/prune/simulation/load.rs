//! What happens in a repository: pushes to pull requests, merges, updates of lock files and nightly jobs.

use std::collections::{BTreeMap, BTreeSet};

use super::world::MAIN;
use super::{Dice, Job, Unit};
use crate::prune::view::QUEUE;
use crate::remote::RefState;

/// Hours of a month in which people open pull requests: twelve on each of 22 days.
const WORKING: u64 = 12 * 22;

/// A repository. One pull request in ten is never merged, and closed after ten days.
#[derive(Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) name: &'static str,
    /// Parts with a key of their own: a flake with its lock file, or a system. A push runs the jobs of the parts that it changes.
    pub(super) parts: u64,
    /// Jobs of a part, for a push and only at night.
    pub(super) lanes: u64,
    pub(super) nightly: u64,
    /// Units of a part that all its jobs need, that one needs, and that the project builds itself. A unit has 32 MiB on average.
    pub(super) shared: u64,
    pub(super) own: u64,
    pub(super) packages: u64,
    pub(super) pulls_a_month: u64,
    /// Pull requests of ten thousand that change every part.
    pub(super) broad: u64,
    /// Days between two updates of a lock file; 0 for none.
    pub(super) bump: u64,
    pub(super) has_queue: bool,
}

/// A part: the version of its lock file and those of its packages.
#[derive(Clone)]
struct Part {
    lock: u64,
    packages: Vec<u64>,
}

/// An open pull request: what it changes, when its next push comes, and how many more there are.
struct Pull {
    scope: String,
    changes: BTreeMap<usize, Change>,
    next: u64,
    pushes: u64,
    is_left: bool,
}

#[derive(Clone)]
struct Change {
    packages: BTreeSet<usize>,
    bump: bool,
}

pub(super) struct Project {
    load: Load,
    dice: Dice,
    parts: Vec<Part>,
    open: Vec<Pull>,
    pulls: u64,
    version: u64,
    /// The references that nobody reads any more.
    pub(super) gone: BTreeMap<String, RefState>,
}

impl Project {
    pub(super) fn new(load: Load, seed: u64) -> Self {
        let part = Part { lock: 0, packages: vec![0; load.packages as usize] };
        Self {
            load,
            dice: Dice(seed.wrapping_mul(1 << 32)),
            parts: vec![part; load.parts as usize],
            open: Vec::new(),
            pulls: 0,
            version: 0,
            gone: BTreeMap::new(),
        }
    }

    fn job(&self, scope: &str, part: usize, of: &Part, lane: u64) -> Job {
        let keys = (0..=of.lock).rev().take(4).map(|lock| format!("nix-part-{part}-{lock}"));
        let base = (part as u64 + 1) * 1_000_000_000;
        // An update of a lock file changes half of the dependencies.
        let dependency =
            |number: u64| base + number * 1000 + if number.is_multiple_of(2) { of.lock } else { of.lock / 2 };
        let shared = (0..self.load.shared).map(dependency);
        let own = (0..self.load.own).map(|number| dependency(1000 * (lane + 1) + number));
        let packages = of.packages.iter().enumerate();
        let packages = packages.map(|(number, version)| base + 500_000_000 + number as u64 * 100_000 + version);
        let needs: BTreeSet<Unit> = shared.chain(own).chain(packages).collect();
        Job { scope: scope.to_owned(), lane: format!("{part}-{lane}"), keys: keys.collect(), needs }
    }

    /// The jobs of the next hour.
    pub(super) fn hour(&mut self, hour: u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        self.open_pulls(hour);
        let due: Vec<usize> = (0..self.open.len()).filter(|index| self.open[*index].next <= hour).collect();
        let mut over = Vec::new();
        for index in due {
            if self.open[index].pushes == 0 {
                over.push(index);
            } else {
                self.push(index, hour, &mut jobs);
            }
        }
        for index in over.into_iter().rev() {
            let pull = self.open.remove(index);
            self.gone.insert(pull.scope.clone(), RefState::Closed);
            if !pull.is_left {
                self.merge(&pull, &mut jobs);
            }
        }
        if hour % 24 == 3 {
            let load = self.load;
            for (number, part) in self.parts.iter().enumerate() {
                let lanes = (load.lanes..load.lanes + load.nightly).map(|lane| self.job(MAIN, number, part, lane));
                jobs.extend(lanes);
            }
        }
        jobs
    }

    fn open_pulls(&mut self, hour: u64) {
        let load = self.load;
        let is_working = hour % 24 >= 8 && hour % 24 < 20 && hour / 24 % 7 < 5;
        let new = if is_working { (load.pulls_a_month + self.dice.below(WORKING)) / WORKING } else { 0 };
        for _ in 0..new {
            let all = self.dice.below(10_000) < load.broad;
            let first = self.dice.below(load.parts);
            let parts: Vec<u64> = if all { (0..load.parts).collect() } else { vec![first] };
            let changes = parts.into_iter().map(|part| {
                let packages =
                    (0..=self.dice.below(load.packages.div_ceil(4))).map(|_| self.dice.below(load.packages) as usize);
                (part as usize, Change { packages: packages.collect(), bump: false })
            });
            let changes = changes.collect();
            let is_left = self.dice.below(10) == 0;
            self.open_pull(changes, hour, is_left);
        }
        // A bot updates one lock file after the other.
        let every = load.bump * 24;
        for part in 0..load.parts {
            if every > 0 && hour % every == (every * part / load.parts + 4) % every && hour >= 24 {
                let change = Change { packages: BTreeSet::new(), bump: true };
                self.open_pull(BTreeMap::from([(part as usize, change)]), hour, false);
            }
        }
    }

    fn open_pull(&mut self, changes: BTreeMap<usize, Change>, hour: u64, is_left: bool) {
        self.pulls += 1;
        let scope = format!("refs/pull/{}/merge", self.pulls);
        let pushes = 1 + self.dice.below(4);
        self.open.push(Pull { scope, changes, next: hour, pushes, is_left });
    }

    fn push(&mut self, index: usize, hour: u64, jobs: &mut Vec<Job>) {
        self.version += 1;
        let pull = &self.open[index];
        for (number, change) in &pull.changes {
            let head = changed(&self.parts[*number], change, self.version);
            jobs.extend((0..self.load.lanes).map(|lane| self.job(&pull.scope, *number, &head, lane)));
        }
        let wait = 1 + self.dice.below(30);
        let pull = &mut self.open[index];
        pull.pushes -= 1;
        pull.next = hour + if pull.pushes == 0 && pull.is_left { 240 } else { wait };
    }

    fn merge(&mut self, pull: &Pull, jobs: &mut Vec<Job>) {
        self.version += 1;
        let queue = format!("{QUEUE}main/pr-{}", self.version);
        let scopes: Vec<&str> = if self.load.has_queue { vec![&queue, MAIN] } else { vec![MAIN] };
        for (number, change) in &pull.changes {
            self.parts[*number] = changed(&self.parts[*number], change, self.version);
        }
        for scope in scopes {
            for number in pull.changes.keys() {
                jobs.extend((0..self.load.lanes).map(|lane| self.job(scope, *number, &self.parts[*number], lane)));
            }
        }
        if self.load.has_queue {
            self.gone.insert(queue, RefState::QueueDone);
        }
    }
}

fn changed(part: &Part, change: &Change, version: u64) -> Part {
    let mut part = part.clone();
    part.lock += u64::from(change.bump);
    for package in &change.packages {
        part.packages[*package] = version;
    }
    part
}
