//! Weeks of a repository's life in a moment, without Nix: pushes, pull requests, merges, lock bumps and nightly jobs fill a cache under
//! GitHub's rules (least recently used entries go when it is full, others after seven idle days). One world is pruned every three hours, in
//! the other only GitHub evicts; both see the same jobs.

use std::collections::{BTreeMap, BTreeSet};

use super::names::own_name;
use super::plan::decide;
use super::view::{Content, HOUR, Rules, View};
use crate::remote::github::FREE_QUOTA;
use crate::remote::{Kind, Listed, RefState};

const MAIN: &str = "refs/heads/main";
const START: u64 = 1_800_000_000;
const MIB: u64 = 1 << 20;
const IDLE: u64 = 7 * 24 * HOUR;

/// A part of a store: paths that are built and used together.
type Unit = u64;

/// Its size: 5 to 60 MiB.
fn size(unit: Unit) -> u64 {
    (5 + mixed(unit) % 56) * MIB
}

/// A number that looks random and depends only on `number`.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A job: what it reads and where it writes.
#[derive(Clone)]
struct Job {
    scope: String,
    lane: u64,
    /// The keys, from its own to the nearest earlier ones.
    keys: Vec<String>,
    needs: BTreeSet<Unit>,
}

#[derive(Clone, Default)]
struct Snapshot {
    layers: Vec<String>,
    /// What each lane needed last.
    lanes: BTreeMap<u64, BTreeSet<Unit>>,
}

#[derive(Default)]
struct World {
    entries: Vec<Listed>,
    /// What snapshots contain, by the ids of their entries, and the units of each layer.
    snapshots: BTreeMap<String, Snapshot>,
    layers: BTreeMap<String, BTreeSet<Unit>>,
    closed: BTreeSet<String>,
    next: u64,
    /// What jobs saved so far, by reference: no cache can have more.
    saved: BTreeMap<String, BTreeSet<Unit>>,
    /// Bytes that jobs needed and earlier jobs had saved, and those of them that they found.
    needed: u64,
    found: u64,
    /// The same for jobs that run once a day or less.
    rare: (u64, u64),
    evicted: u64,
    pruned: u64,
}

impl World {
    fn total(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    fn store(&mut self, kind: Kind, name: &str, scope: &str, bytes: u64, now: u64) -> String {
        assert!(own_name(kind, name).is_some(), "{name}");
        self.next += 1;
        let id = self.next.to_string();
        let entry = Listed {
            id: id.clone(),
            kind: Some(kind),
            name: name.to_owned(),
            scope: scope.to_owned(),
            size: bytes,
            created: now,
            accessed: Some(now),
        };
        self.entries.push(entry);
        self.evict(now);
        id
    }

    /// GitHub's own eviction.
    fn evict(&mut self, now: u64) {
        let before = self.entries.len();
        self.entries.retain(|entry| now - entry.accessed.unwrap() < IDLE);
        let mut total = self.total();
        while total > FREE_QUOTA {
            let oldest = (0..self.entries.len()).min_by_key(|index| self.entries[*index].accessed).unwrap();
            total -= self.entries.remove(oldest).size;
        }
        self.evicted += (before - self.entries.len()) as u64;
    }

    /// The index of the newest entry that matches, in the job's scope or else in the default branch's.
    fn lookup(&self, kind: Kind, scope: &str, matches: impl Fn(&str) -> bool) -> Option<usize> {
        [scope, MAIN].into_iter().find_map(|scope| {
            let of = |index: &usize| {
                let entry = &self.entries[*index];
                entry.kind == Some(kind) && entry.scope == scope && matches(&entry.name)
            };
            (0..self.entries.len()).filter(of).max_by_key(|index| (self.entries[*index].created, *index))
        })
    }

    fn touch(&mut self, index: usize, now: u64) {
        self.entries[index].accessed = Some(now);
    }

    /// Restores, builds what is missing, and saves it. As the program does: eight layers at most, layers with dead bytes are packed again,
    /// and after a change of the lock only what this job needs is kept.
    fn run(&mut self, job: &Job, is_rare: bool, now: u64) {
        let snapshot = job.keys.iter().find_map(|key| {
            let prefix = format!("{key}#g");
            self.lookup(Kind::Snapshot, &job.scope, |name| name.starts_with(&prefix))
        });
        let mut held: Vec<String> = Vec::new();
        let mut have: BTreeSet<Unit> = BTreeSet::new();
        let mut base = Snapshot::default();
        if let Some(index) = snapshot {
            self.touch(index, now);
            base = self.snapshots[&self.entries[index].id].clone();
            if !self.entries[index].name.starts_with(&format!("{}#g", job.keys[0])) {
                base.lanes.clear();
            }
            for layer in base.layers.clone() {
                // A restore downloads the layers that it needs; a save looks up the others.
                let Some(index) = self.lookup(Kind::Layer, &job.scope, |name| name == layer) else { continue };
                self.touch(index, now);
                have.extend(self.layers[&layer].intersection(&job.needs).copied());
                held.push(layer);
            }
        }
        let bytes = |units: &BTreeSet<Unit>| units.iter().map(|unit| size(*unit)).sum::<u64>();
        let saved = [&job.scope[..], MAIN].map(|scope| self.saved.get(scope).cloned().unwrap_or_default());
        let saved = job.needs.iter().filter(|unit| saved.iter().any(|saved| saved.contains(unit))).copied().collect();
        self.needed += bytes(&saved);
        self.found += bytes(&have);
        if is_rare {
            self.rare.0 += bytes(&saved);
            self.rare.1 += bytes(&have);
        }
        self.saved.entry(job.scope.clone()).or_default().extend(&job.needs);
        let mut new: BTreeSet<Unit> = job.needs.difference(&have).copied().collect();
        if new.is_empty() {
            return;
        }
        base.lanes.insert(job.lane, job.needs.clone());
        let wanted: BTreeSet<Unit> = base.lanes.values().flatten().copied().collect();
        let live = |layer: &String| self.layers[layer].intersection(&wanted).copied().collect::<BTreeSet<Unit>>();
        held.retain(|layer| !live(layer).is_empty());
        let dead = |layer: &String| bytes(&self.layers[layer]) - bytes(&live(layer));
        let (again, mut held): (Vec<String>, Vec<String>) = held
            .into_iter()
            .partition(|layer| dead(layer) * 100 > bytes(&live(layer)) * 15 && live(layer).is_subset(&job.needs));
        new.extend(again.iter().flat_map(live));
        // Small layers are packed together with what is new.
        held.sort_by_key(|layer| bytes(&self.layers[layer]));
        while held.len() >= 8 {
            let smallest = held.remove(0);
            new.extend(live(&smallest));
        }
        self.next += 1;
        let name = format!("{:064x}", self.next);
        let size = bytes(&new);
        self.layers.insert(name.clone(), new);
        self.store(Kind::Layer, &name, &job.scope, size, now);
        held.push(name);
        let prefix = format!("{}#g", job.keys[0]);
        let newest = self.lookup(Kind::Snapshot, &job.scope, |name| name.starts_with(&prefix));
        let newest = newest.map_or(0, |index| self.entries[index].name[prefix.len()..].parse::<u64>().unwrap());
        let id = self.store(Kind::Snapshot, &format!("{prefix}{}", newest + 1), &job.scope, MIB, now);
        self.snapshots.insert(id, Snapshot { layers: held, lanes: base.lanes });
    }

    /// One run of `prune` by a job of the default branch, which reads only that branch's entries.
    fn prune(&mut self, now: u64) {
        let refs = self.closed.iter().map(|scope| (scope.clone(), RefState::Closed)).collect();
        let rules = Rules { keep_generations: 2, keep_days: 14, max_total: Some(FREE_QUOTA / 10 * 8) };
        let mut contents = BTreeMap::new();
        let entries = self.entries.clone();
        let plan = loop {
            let view = View {
                entries: &entries,
                refs: &refs,
                default_scope: Some(MAIN),
                contents: &contents,
                records_lookups: true,
                rules: &rules,
                now,
            };
            match decide(&view) {
                Ok(plan) => break plan,
                Err(wanted) => {
                    for index in wanted {
                        let entry = &entries[index];
                        let content = if entry.scope == MAIN {
                            self.touch(index, now);
                            let layers = self.snapshots[&entry.id].layers.iter().cloned().collect();
                            Content::Known { layers, unread: BTreeSet::new() }
                        } else {
                            Content::Unknown("another branch".to_owned())
                        };
                        contents.insert(entry.id.clone(), content);
                    }
                }
            }
        };
        for index in &plan.refresh {
            self.touch(*index, now);
        }
        let gone: BTreeSet<&String> = plan.deletions.iter().map(|(index, _)| &entries[*index].id).collect();
        self.pruned += gone.len() as u64;
        self.entries.retain(|entry| !gone.contains(&entry.id));
        // Whatever remains of the default branch is whole, except for what GitHub had evicted before.
        let before: BTreeSet<&String> = entries.iter().map(|entry| &entry.name).collect();
        let after: BTreeSet<&String> = self.entries.iter().map(|entry| &entry.name).collect();
        for layer in self.entries.iter().filter_map(|entry| self.snapshots.get(&entry.id)).flat_map(|of| &of.layers) {
            let is_closed =
                |name: &String| entries.iter().any(|entry| entry.name == *name && self.closed.contains(&entry.scope));
            assert!(
                after.contains(layer) || !before.contains(layer) || is_closed(layer),
                "{layer} was pruned and is named"
            );
        }
        if plan.target.is_some_and(|target| plan.remaining <= target) {
            assert!(self.total() <= FREE_QUOTA / 10 * 8);
        }
    }
}

/// A sequence of numbers that looks random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0) % end
    }
}

/// The repository: what its jobs need at a moment.
struct Project {
    lock: u64,
    /// The version of each of its own packages.
    packages: Vec<u64>,
}

impl Project {
    fn keys(lock: u64) -> Vec<String> {
        (0..=lock).rev().take(4).map(|lock| format!("nix-x86_64-linux-{lock}")).collect()
    }

    /// What a lane needs: dependencies of the lock, some of its own, and the project's packages.
    fn needs(&self, lane: u64) -> BTreeSet<Unit> {
        // A lock bump rebuilds half of the dependencies.
        let dependency = |number: u64| number * 1000 + if number.is_multiple_of(2) { self.lock } else { self.lock / 2 };
        let shared = (0..50).map(dependency);
        let own = (0..20).map(|number| dependency(1000 * (lane + 1) + number));
        let packages =
            self.packages.iter().enumerate().map(|(number, version)| 900_000_000 + number as u64 * 10_000 + version);
        shared.chain(own).chain(packages).collect()
    }
}

/// Lets the same weeks pass in both worlds.
fn weeks(seed: u64, weeks: u64, pulls_a_day: u64) -> [World; 2] {
    let mut worlds = [World::default(), World::default()];
    let mut dice = Dice(seed.wrapping_mul(1 << 32));
    let mut project = Project { lock: 0, packages: vec![0; 30] };
    // Open pull requests: the scope, the changed packages, the lock, and when the next push comes.
    let mut open: Vec<(String, Vec<usize>, u64, u64)> = Vec::new();
    let mut pulls = 0;
    let mut version = 0;
    for hour in 0..weeks * 7 * 24 {
        let now = START + hour * HOUR;
        let mut jobs: Vec<(Job, bool)> = Vec::new();
        let is_working = hour % 24 >= 8 && hour % 24 < 20;
        let new = if is_working { pulls_a_day / 12 + u64::from(dice.below(12) < pulls_a_day % 12) } else { 0 };
        for _ in 0..new {
            pulls += 1;
            let changed = (0..=dice.below(10)).map(|_| dice.below(30) as usize).collect();
            // One in ten is a bot that bumps the lock.
            let lock = project.lock + u64::from(dice.below(10) == 0);
            open.push((format!("refs/pull/{pulls}/merge"), changed, lock, hour));
        }
        let mut merged = Vec::new();
        for (index, (scope, changed, lock, next)) in open.iter_mut().enumerate() {
            if *next > hour {
                continue;
            }
            version += 1;
            let mut head = Project { lock: (*lock).max(project.lock), packages: project.packages.clone() };
            for package in changed.iter() {
                head.packages[*package] = version;
            }
            for lane in 0..3 {
                let job = Job { scope: scope.clone(), lane, keys: Project::keys(head.lock), needs: head.needs(lane) };
                jobs.push((job, false));
            }
            *next = hour + 1 + dice.below(20);
            if dice.below(3) == 0 {
                merged.push((index, changed.clone(), (*lock).max(project.lock)));
            }
        }
        for (index, changed, lock) in merged.into_iter().rev() {
            let (closed, ..) = open.remove(index);
            for world in &mut worlds {
                world.closed.insert(closed.clone());
            }
            version += 1;
            for package in changed {
                project.packages[package] = version;
            }
            project.lock = lock;
            for lane in 0..3 {
                let (scope, keys) = (MAIN.to_owned(), Project::keys(lock));
                jobs.push((Job { scope, lane, keys, needs: project.needs(lane) }, false));
            }
        }
        if hour % 24 == 3 {
            // A nightly job, and on Sundays a larger one, with dependencies of their own.
            let lanes = if hour / 24 % 7 == 6 { 3..7 } else { 3..5 };
            jobs.extend(lanes.map(|lane| {
                let keys = Project::keys(project.lock);
                (Job { scope: MAIN.to_owned(), lane, keys, needs: project.needs(lane) }, true)
            }));
        }
        for (job, is_rare) in &jobs {
            for world in &mut worlds {
                world.run(job, *is_rare, now);
            }
        }
        for world in &mut worlds {
            world.evict(now);
        }
        if hour % 3 == 2 {
            worlds[1].prune(now);
        }
    }
    worlds
}

#[test]
fn a_pruned_cache_fits_after_each_prune_and_loses_at_most_a_fifth_of_a_point_of_hits() {
    let mut gains = Vec::new();
    for pulls_a_day in [4, 8] {
        // One large upload at a bad moment moves a rate by half a point, so several repositories are added up.
        let all: Vec<[World; 2]> = (1..=2).map(|seed| weeks(seed * 100 + pulls_a_day, 2, pulls_a_day)).collect();
        let rate = |of: &dyn Fn(&World) -> (u64, u64)| {
            [0, 1].map(|world| {
                let (needed, found) =
                    all.iter().map(|both| of(&both[world])).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
                found as f64 / needed as f64 * 100.0
            })
        };
        let [github, pruned] = rate(&|world| (world.needed, world.found));
        let [rare_github, rare_pruned] = rate(&|world| world.rare);
        let evicted = [0, 1].map(|world| all.iter().map(|both| both[world].evicted).sum::<u64>());
        println!(
            "{pulls_a_day} pull requests a day: of what was saved before, jobs found {github:.1} % with GitHub's eviction alone ({} evicted) \
             and {pruned:.1} % in a pruned cache ({} evicted, {} pruned); nightly and weekly jobs {rare_github:.1} % and {rare_pruned:.1} %",
            evicted[0],
            evicted[1],
            all.iter().map(|both| both[1].pruned).sum::<u64>(),
        );
        gains.push(pruned - github);
    }
    println!("gains in points: {gains:.1?}");
    // With the same room and more to evict, two worlds differ by about a tenth of a point in both directions.
    assert!(gains.iter().all(|gain| *gain >= -0.2), "{gains:?}");
}
