//! The cost guard over whole recorded histories: the decisions are the real code, fed with the records that such jobs would leave. What a job
//! restores, saves, fetches and builds is computed from sizes alone, so that hundreds of commits in many worlds take seconds; the replay in
//! `src/cache/replay` does the same with the real keys, snapshots and layers, over fewer commits.
//!
//! `testdata/commits.tsv` has the histories: for each commit the time, the lock file (the date of nixpkgs and the other inputs) and
//! whether code or dependencies of the project changed. The rest is assumed, as in `src/cache/replay/model.rs`:
//!
//! - Two lanes at once, first on a pull request and half an hour later on the default branch. Pull requests see the records and the saved paths of the
//!   default branch; theirs are seen by nobody else. What nothing has read or written for seven days is evicted.
//! - A lane needs packages of nixpkgs (2 GB together, a share of which changes with each bump), nine paths of each other input, 30 dependencies of
//!   9 MB that take 20 s each to build, and one result that takes 60 s.
//! - Paths are compressed to 34 %, and packed at 150 MB/s. A job takes 40 s besides all that, one with a cache 1 s more if it restores and
//!   [`IDLE`] more if it does not.

use std::collections::BTreeMap;

use super::*;
use crate::history::{BeforeSave, before_save};

const COMMITS: &str = include_str!("testdata/commits.tsv");
const WORK: f64 = 40.0;
const RATIO: f64 = 0.34;
const PACK: f64 = 150e6;
const ATTACH: f64 = 1.0;
/// The requests of a job that moves nothing: a lookup, the history, and the record.
const IDLE: f64 = 0.5;
const WEEK: u64 = 7 * 86_400;
const SYSTEM: &str = "x86_64-linux";
/// The lanes, and which share of the packages they need.
const LANES: [(&str, f64); 2] = [("build", 0.9), ("checks", 0.6)];
/// Packages of nixpkgs change in groups of this size.
const GROUPS: u64 = 20;
const GROUP_BYTES: f64 = 2e9 / 20.0;
const INPUT_BYTES: f64 = 28e6;
const BUILDS: [(&str, u64, f64, f64); 2] = [("dependencies", 30, 20.0, 270e6), ("result", 1, 60.0, 30e6)];

/// How fast substituters and the cache are, in bytes a second, and how long builds take, as a share of those of the model.
#[derive(Clone, Copy, Debug)]
struct Nature {
    upstream: f64,
    link: f64,
    builds: f64,
}

/// The natures of jobs.
#[derive(Clone, Copy)]
struct World {
    name: &'static str,
    /// For a share of the history, the number of a commit, and a lane.
    at: fn(f64, u64, usize) -> Nature,
}

const fn nature(upstream: f64, link: f64, builds: f64) -> Nature {
    Nature { upstream: upstream * 1e6, link: link * 1e6, builds }
}

const WORLDS: [World; 20] = [
    World { name: "substituters 30 MB/s, builds as they are", at: |_, _, _| nature(30.0, 52.0, 1.0) },
    World { name: "cheap builds", at: |_, _, _| nature(30.0, 52.0, 0.05) },
    World { name: "no builds", at: |_, _, _| nature(30.0, 52.0, 0.0) },
    World { name: "fast substituters, builds as they are", at: |_, _, _| nature(200.0, 52.0, 1.0) },
    World { name: "fast substituters, cheap builds", at: |_, _, _| nature(200.0, 52.0, 0.05) },
    World { name: "fast substituters, hardly any builds", at: |_, _, _| nature(200.0, 52.0, 0.01) },
    World { name: "fast substituters, no builds", at: |_, _, _| nature(200.0, 52.0, 0.0) },
    World { name: "substituters of 1 GB/s, no builds", at: |_, _, _| nature(1_000.0, 52.0, 0.0) },
    World { name: "slow link, builds as they are", at: |_, _, _| nature(30.0, 8.0, 1.0) },
    World { name: "slow link, no builds", at: |_, _, _| nature(30.0, 8.0, 0.0) },
    World { name: "fast link, fast substituters, no builds", at: |_, _, _| nature(200.0, 250.0, 0.0) },
    World {
        name: "builds in one lane of two",
        at: |_, _, lane| nature(300.0, 52.0, if lane == 0 { 0.3 } else { 0.0 }),
    },
    World {
        name: "builds between half and twice their time",
        at: |_, commit, _| nature(200.0, 52.0, 0.1 * 2f64.powf(2.0 * chance(&format!("builds {commit}")) - 1.0)),
    },
    World {
        name: "a link between half and twice its speed",
        at: |_, commit, _| nature(30.0, 52.0 * 2f64.powf(2.0 * chance(&format!("link {commit}")) - 1.0), 0.1),
    },
    World {
        name: "no builds, and builds in the second half",
        at: |share, _, _| nature(200.0, 52.0, if share < 0.5 { 0.0 } else { 1.0 }),
    },
    World {
        name: "builds, and none in the second half",
        at: |share, _, _| nature(200.0, 52.0, if share < 0.5 { 1.0 } else { 0.0 }),
    },
    World {
        name: "fast substituters, slow ones in the second half",
        at: |share, _, _| nature(if share < 0.5 { 400.0 } else { 15.0 }, 52.0, 0.0),
    },
    World { name: "substituters of 500 MB/s, hardly any builds", at: |_, _, _| nature(500.0, 52.0, 0.01) },
    World { name: "slow substituters, slow link, cheap builds", at: |_, _, _| nature(15.0, 16.0, 0.05) },
    World { name: "fast link, substituters 60 MB/s, hardly any builds", at: |_, _, _| nature(60.0, 140.0, 0.01) },
];

/// A number from 0 to 1 that only depends on a text.
fn chance(text: &str) -> f64 {
    number(text) as f64 / (1_u64 << 24) as f64
}

/// A number below 2^24 that only depends on a text.
fn number(text: &str) -> u64 {
    let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, mix);
    (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

/// Something that a job needs: how often it was made, how long each takes, and its size. Bytes without builds are fetched.
#[derive(Clone, Copy, PartialEq)]
struct Item {
    version: u64,
    bytes: f64,
    builds: u64,
    seconds: f64,
}

/// Items by a number for their name.
type Needs = BTreeMap<u64, Item>;

struct Commit {
    time: u64,
    /// By lane.
    needs: Vec<Needs>,
}

/// The histories by name.
fn histories() -> Vec<(String, Vec<Commit>)> {
    let mut all: Vec<(String, Vec<Commit>)> = Vec::new();
    let mut locks: Vec<(f64, &str)> = Vec::new();
    let mut versions: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    let mut newest: Option<usize> = None;
    let mut changes = [0, 0];
    for line in COMMITS.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[0] {
            "history" => {
                all.push((fields[1].to_owned(), Vec::new()));
                (locks, versions, newest, changes) = (Vec::new(), BTreeMap::new(), None, [0, 0]);
            }
            "lock" => locks.push((fields[1].parse().unwrap(), fields[2])),
            time => {
                let lock: usize = fields[1].parse().unwrap();
                let before = newest.replace(lock).map(|before| (locks[before].0, versions[&before].clone()));
                let date = locks[lock].0;
                versions.entry(lock).or_insert_with(|| match before {
                    None => vec![0; GROUPS as usize],
                    Some((old, groups)) => {
                        let share = 1.0 - (-((date - old) / 86_400.0_f64).abs() / 30.0).exp();
                        let bumped = |(group, version)| {
                            if chance(&format!("{date} {group}")) < share { lock as u64 + 1 } else { version }
                        };
                        groups.into_iter().enumerate().map(bumped).collect()
                    }
                });
                changes[0] += u64::from(fields[2].contains("code"));
                changes[1] += u64::from(fields[2].contains("dependencies"));
                let of_lane = |(lane, share): &(&str, f64)| needs(lane, *share, &versions[&lock], locks[lock], changes);
                let commit = Commit { time: time.parse().unwrap(), needs: LANES.iter().map(of_lane).collect() };
                all.last_mut().unwrap().1.push(commit);
            }
        }
    }
    all
}

fn needs(lane: &str, share: f64, groups: &[u64], (date, inputs): (f64, &str), changes: [u64; 2]) -> Needs {
    let fetched = |version, bytes| Item { version, bytes, builds: 0, seconds: 0.0 };
    let mut all: Needs = groups
        .iter()
        .enumerate()
        .map(|(group, version)| (group as u64, fetched(*version, GROUP_BYTES * share)))
        .collect();
    for input in inputs.split(' ').filter(|input| !input.is_empty()) {
        let (name, hash) = input.split_once('=').unwrap();
        all.insert(GROUPS + number(name), fetched(u64::from_str_radix(hash, 16).unwrap(), INPUT_BYTES));
    }
    let made_of: Vec<u64> = all.values().map(|item| item.version).collect();
    for ((name, builds, seconds, bytes), of) in
        BUILDS.into_iter().zip([format!("{date} {}", changes[1]), format!("{date} {changes:?} {made_of:?} {lane}")])
    {
        all.insert(GROUPS + number(name), Item { version: number(&of), bytes, builds, seconds });
    }
    all
}

/// What a set of items comes to.
#[derive(Clone, Copy, Default)]
struct Sum {
    bytes: f64,
    built: u64,
    building: f64,
    fetched: f64,
    fetching: f64,
}

fn sum<'a>(nature: Nature, items: impl Iterator<Item = &'a Item>) -> Sum {
    items.fold(Sum::default(), |sum, item| {
        let sum = Sum { bytes: sum.bytes + item.bytes, ..sum };
        if item.builds > 0 {
            let building = sum.building + item.builds as f64 * item.seconds * nature.builds;
            return Sum { built: sum.built + item.builds, building, ..sum };
        }
        let fetching = sum.fetching + item.bytes / nature.upstream;
        Sum { fetched: sum.fetched + item.bytes, fetching, ..sum }
    })
}

/// Seconds of all jobs, and how many of them were spared or a test.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    without: f64,
    with: f64,
    jobs: u64,
    spared: u64,
    tests: u64,
}

impl Total {
    fn saved(self) -> f64 {
        self.without - self.with
    }
}

/// Jobs use the cache as the guard decides, or always as usual.
#[derive(Clone, Copy, PartialEq)]
enum Guarded {
    Yes,
    No,
}

/// What the default branch has saved for a lane, and when it was last used.
#[derive(Clone, Default)]
struct Saved {
    items: Needs,
    used: u64,
}

fn replayed(commits: &[Commit], world: World, guarded: Guarded) -> Total {
    let mut total = Total::default();
    let mut known = History::default();
    let mut saved = [Saved::default(), Saved::default()];
    for (number, commit) in commits.iter().enumerate() {
        let share = number as f64 / commits.len() as f64;
        let mut records = Vec::new();
        for git_ref in [format!("refs/pull/{number}/merge"), "refs/heads/main".to_owned()] {
            let is_main = git_ref == "refs/heads/main";
            for (at, (lane, _)) in LANES.iter().enumerate() {
                let of = JobOf { lane, system: SYSTEM, git_ref: &git_ref };
                let nature = (world.at)(share, number as u64, at);
                let job = Job { nature, needs: &needed(nature, &commit.needs[at]), is_main };
                let guard = match guarded {
                    Guarded::Yes => decide(&known, of, Recorded::Yes),
                    Guarded::No => None,
                };
                let (run, fresh) = job.restored((number as u64, commit.time), of, &mut saved[at], guard);
                let changed = match guarded {
                    Guarded::Yes => before_save(&known, of, Recorded::Yes, &run),
                    Guarded::No => None,
                };
                let run = job.ended(run, changed, fresh, &mut saved[at], &mut total);
                records.extend(is_main.then_some(run));
            }
        }
        known.runs.extend(records.into_iter().map(|run| (run.id(), run)));
    }
    total
}

/// What a job needs where builds take this time: something that takes none is not the same as something that does.
fn needed(nature: Nature, needs: &Needs) -> Needs {
    let is_built = |item: &Item| item.builds > 0 && nature.builds > 0.0;
    let of = |item: &Item| Item { version: item.version + u64::from(is_built(item)), ..*item };
    needs.iter().map(|(name, item)| (*name, of(item))).collect()
}

struct Job<'a> {
    nature: Nature,
    needs: &'a Needs,
    is_main: bool,
}

impl Job<'_> {
    /// The job until it saves. Returns its record so far, and what did not come from the cache.
    fn restored(&self, (run, now): (u64, u64), of: JobOf<'_>, saved: &mut Saved, guard: Option<Guard>) -> (Run, Sum) {
        if now > saved.used + WEEK {
            saved.items.clear();
        }
        let guard = guard.unwrap_or_default();
        let down = saved.items.values().map(|item| item.bytes).sum::<f64>() * RATIO;
        let is_restored = down > 0.0 && guard.most_bytes.is_none_or(|most| down <= most as f64);
        if is_restored {
            saved.used = now;
        }
        let is_cached = |name: &u64, item: &Item| is_restored && saved.items.get(name) == Some(item);
        let (cached, fresh): (Vec<_>, Vec<_>) = self.needs.iter().partition(|(name, item)| is_cached(name, item));
        let of_items = |items: Vec<(&u64, &Item)>| sum(self.nature, items.into_iter().map(|(_, item)| item));
        let (cached, fresh) = (of_items(cached), of_items(fresh));
        let restore = if is_restored { ATTACH + down / self.nature.link } else { IDLE };
        let record = Run {
            run,
            time: now,
            lane: of.lane.to_owned(),
            git_ref: of.git_ref.to_owned(),
            system: SYSTEM.to_owned(),
            status: "success".to_owned(),
            hit: if is_restored { "partial" } else { "miss" }.to_owned(),
            restore_ms: Some(ms(restore)),
            job_ms: Some(ms(WORK + restore + fresh.building + fresh.fetching)),
            downloaded: if is_restored { down as u64 } else { 0 },
            cached_built: Some(cached.built),
            cached_bytes: Some(cached.fetched as u64),
            built: fresh.built,
            built_ms: Some(ms(fresh.building)),
            fetched_bytes: Some(fresh.fetched as u64),
            fetched_ms: Some(ms(fresh.fetching)),
            guard: guard.state,
            ..Run::default()
        };
        (record, fresh)
    }

    /// Saves, and adds up. Returns the record.
    fn ended(&self, run: Run, changed: Option<BeforeSave>, fresh: Sum, saved: &mut Saved, total: &mut Total) -> Run {
        let (does_save, guard) = match changed {
            Some(BeforeSave::Unused(_) | BeforeSave::Unseen { .. }) => (false, run.guard),
            Some(BeforeSave::Test(guard)) => (true, guard.state),
            None => (run.guard.is_empty() || run.guard == TEST, run.guard),
        };
        let up = if does_save { fresh.bytes * RATIO } else { 0.0 };
        let save = up / RATIO / PACK + up / self.nature.link;
        let all = sum(self.nature, self.needs.values());
        let time = run.job_ms.unwrap() as f64 / 1000.0 + save;
        total.jobs += 1;
        total.spared += u64::from(guard == STOPPED || guard == SPARED);
        total.tests += u64::from(guard == TEST);
        total.without += WORK + all.building + all.fetching;
        total.with += time;
        if does_save {
            saved.used = run.time;
        }
        if does_save && self.is_main {
            saved.items.clone_from(self.needs);
        }
        Run { save_ms: Some(ms(save)), job_ms: Some(ms(time)), uploaded: up as u64, guard, ..run }
    }
}

fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}

#[test]
fn it_costs_at_most_two_percent_and_keeps_what_a_cache_saves() {
    let histories = histories();
    let (mut failures, mut paid, mut stopped) = (Vec::new(), 0, 0);
    for world in WORLDS {
        for (name, commits) in &histories {
            let [plain, guarded] = [Guarded::No, Guarded::Yes].map(|guarded| replayed(commits, world, guarded));
            let cost = 100.0 * (guarded.with / guarded.without - 1.0);
            let kept = 100.0 * guarded.saved() / plain.saved();
            let pays = plain.saved() > 0.0;
            let per_job = |seconds: f64| seconds / plain.jobs as f64;
            let line = format!(
                "{}, {name}: a job takes {:.1} s without a cache, {:.1} s with one, {:.1} s guarded: {cost:+.2} %, {}; \
                 spared {} and tested {} of {} jobs",
                world.name,
                per_job(plain.without),
                per_job(plain.with),
                per_job(guarded.with),
                if pays { format!("keeps {kept:.1} %") } else { "does not pay".to_owned() },
                guarded.spared,
                guarded.tests,
                guarded.jobs
            );
            println!("{line}");
            if cost > 2.0 || pays && kept < 98.0 {
                failures.push(line);
            }
            paid += u64::from(pays);
            stopped += u64::from(guarded.spared > guarded.jobs / 2);
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    // Both happen: the guard neither always nor never stops.
    assert!(paid > 20 && stopped > 10, "{paid} {stopped}");
}
