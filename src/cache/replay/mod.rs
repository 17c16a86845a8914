//! Replays histories of real repositories under GitHub's rules: what comes from the cache, what is moved and held, and how long jobs take, for
//! this program, for this program without near hits, and for actions/cache with `hashFiles('flake.lock')`.
//!
//! Each commit runs twice, as a pull request and half an hour later on the default branch, with two lanes each. `model.rs` says what is assumed
//! of the store, `service.rs` what of GitHub's cache. `benches/replay/run.sh FOLDER` prints the table for a folder of histories.

#[path = "guarded_test.rs"]
mod guarded;
mod model;
mod ours;
#[path = "pruned_test.rs"]
mod pruned;
mod service;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::remote::Kind;
use crate::store::{PathInfo, Paths};
use model::{History, LANES, Model, Needs, time_to_make};
use service::{Service, View};

/// Compressed bytes for each byte of a path, as zstd has them.
const RATIO: f64 = 0.34;
/// Bytes a second between a runner and the cache.
const LINK: f64 = 52e6;
/// Bytes of files a second that a tar archive is unpacked and registered with, and packed with.
const UNPACK: f64 = 250e6;
const PACK: f64 = 150e6;
/// Seconds of a job with this program after the download, and of one that moves nothing.
const ATTACH: f64 = 1.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Ours,
    /// With `prune` every night.
    Pruned,
    WithoutNear,
    Tar,
}

const CACHES: [(Cache, &str); 4] = [
    (Cache::Ours, "nix-cache-action"),
    (Cache::Pruned, "the same with prune every night"),
    (Cache::WithoutNear, "the same without near hits"),
    (Cache::Tar, "actions/cache, hashFiles"),
];

/// One job.
struct Job<'a> {
    lane: &'a str,
    lock: PathBuf,
    needs: &'a Needs,
}

/// The sums over a history.
#[derive(Default)]
struct Totals {
    jobs: u64,
    needed: u64,
    hit: u64,
    needed_bytes: u64,
    hit_bytes: u64,
    seconds: f64,
    up: u64,
    down: u64,
    held: u64,
    requests: u64,
}

impl Totals {
    fn hit_rate(&self) -> f64 {
        self.hit as f64 / self.needed.max(1) as f64
    }

    fn row(&self, name: &str) -> String {
        let gb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e9);
        let per_job = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6 / self.jobs.max(1) as f64);
        format!(
            "| {name} | {:.3} | {:.3} | {} | {} | {} | {:.0} | {:.0} s |",
            self.hit_rate(),
            self.hit_bytes as f64 / self.needed_bytes.max(1) as f64,
            per_job(self.down),
            per_job(self.up),
            gb(self.held),
            self.requests as f64 / self.jobs.max(1) as f64,
            self.seconds / self.jobs.max(1) as f64
        )
    }
}

const HEAD: &str =
    "| cache | paths hit | bytes hit | down, MB a job | up, MB a job | held at most, GB | requests a job | time a job |
|---|---:|---:|---:|---:|---:|---:|---:|";

async fn replay(history: &History, cache: Cache) -> Totals {
    let service = Arc::new(Mutex::new(Service::default()));
    let (mut model, mut totals) = (Model::default(), Totals::default());
    for (number, commit) in history.commits.iter().enumerate() {
        let needs = model.next(history, commit);
        if cache == Cache::Pruned && number > 0 {
            pruned::nights(&service, history.commits[number - 1].time, commit.time.saturating_sub(1800)).await;
        }
        for (branch, now) in
            [(format!("pull-{number}"), commit.time.saturating_sub(1800)), ("main".to_owned(), commit.time)]
        {
            let view = View { service: service.clone(), branch, now };
            for ((lane, _), needs) in LANES.iter().zip(&needs) {
                let job = Job { lane, lock: history.lock(commit), needs };
                run(&view, &job, cache, &mut totals).await;
            }
        }
    }
    let inside = service.lock().unwrap();
    Totals { up: inside.up, down: inside.down, held: inside.most_held, requests: inside.requests, ..totals }
}

/// One job: restore, make what is missing, save.
async fn run(view: &View, job: &Job<'_>, cache: Cache, totals: &mut Totals) {
    let moved = || {
        let inside = view.inside();
        (inside.down, inside.up)
    };
    let before = moved();
    let mut valid;
    let mut seconds = 0.0;
    match cache {
        Cache::Tar => {
            valid = tar::restore(view, job, &mut seconds);
            account(&valid, job, totals, &mut seconds);
            tar::save(view, job, &valid, &mut seconds);
        }
        Cache::Ours | Cache::Pruned | Cache::WithoutNear => {
            let context = ours::context(view, job, cache != Cache::WithoutNear);
            let (restored, record) = ours::restore(&context, view, u64::MAX).await;
            valid = restored;
            account(&valid, job, totals, &mut seconds);
            valid.extend(job.needs.paths.iter().map(|(path, info)| (path.clone(), info.clone())));
            ours::save(&context, view, &valid, job.needs, &record).await;
            seconds += ATTACH + (moved().1 - before.1) as f64 / RATIO / PACK;
        }
    }
    let after = moved();
    totals.jobs += 1;
    totals.seconds += seconds + (after.0 - before.0 + after.1 - before.1) as f64 / LINK;
}

/// Counts what was needed and what was there.
fn account(valid: &Paths, job: &Job<'_>, totals: &mut Totals, seconds: &mut f64) {
    let is_here = |info: &&PathInfo| valid.contains_key(&info.path);
    let bytes = |infos: &[&PathInfo]| infos.iter().map(|info| info.nar_size).sum::<u64>();
    let all: Vec<&PathInfo> = job.needs.paths.values().collect();
    let here: Vec<&PathInfo> = all.iter().copied().filter(is_here).collect();
    *seconds += time_to_make(all.iter().copied().filter(|info| !is_here(info)));
    totals.needed += all.len() as u64;
    totals.hit += here.len() as u64;
    totals.needed_bytes += bytes(&all);
    totals.hit_bytes += bytes(&here);
}

/// actions/cache around a tar archive of the whole store, with a key of the lock file's bytes and a fallback to the newest of the lane.
mod tar {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use super::*;

    /// What is in each archive, by its name.
    static CONTENT: LazyLock<Mutex<HashMap<String, Paths>>> = LazyLock::new(Mutex::default);

    fn names(job: &Job<'_>) -> [String; 2] {
        let lock = job.lock.file_stem().unwrap().to_string_lossy();
        [format!("nix-{}-{lock}", job.lane), format!("nix-{}-", job.lane)]
    }

    fn bytes(paths: &Paths) -> u64 {
        paths.values().map(|info| info.nar_size).sum()
    }

    /// The archive's own name: a branch may have one of the same key.
    fn content_name(view: &View, name: &str, size: u64) -> String {
        format!("{:p} {name} {size}", Arc::as_ptr(&view.service))
    }

    pub(super) fn restore(view: &View, job: &Job<'_>, seconds: &mut f64) -> Paths {
        let Some((name, size)) = view.look_up(Kind::Files, &names(job)) else { return Paths::default() };
        view.downloaded(size);
        let paths = CONTENT.lock().unwrap()[&content_name(view, &name, size)].clone();
        *seconds += bytes(&paths) as f64 / UNPACK;
        paths
    }

    /// Saves only if the key is new, as actions/cache does.
    pub(super) fn save(view: &View, job: &Job<'_>, restored: &Paths, seconds: &mut f64) {
        let [key, _] = names(job);
        if view.look_up(Kind::Files, std::slice::from_ref(&key)).is_some_and(|(name, _)| name == key) {
            return;
        }
        let mut all = restored.clone();
        all.extend(job.needs.paths.iter().map(|(path, info)| (path.clone(), info.clone())));
        let size = (bytes(&all) as f64 * RATIO) as u64;
        *seconds += bytes(&all) as f64 / PACK;
        CONTENT.lock().unwrap().insert(content_name(view, &key, size), all);
        view.store(Kind::Files, &key, size, Bytes::new());
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The table for every history below `folder`, or for the first `most` commits of each, and our hit rates.
fn table(folder: &Path, most: usize, caches: &[(Cache, &str)]) -> (String, Vec<(String, f64)>) {
    let (mut text, mut rates) = (String::new(), Vec::new());
    let mut folders: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("history.jsonl").is_file());
    folders.sort();
    for folder in folders {
        let mut history = History::read(&folder);
        history.commits.truncate(most);
        let locks: std::collections::BTreeSet<&String> = history.commits.iter().map(|commit| &commit.lock).collect();
        let days = (history.commits.last().unwrap().time - history.commits[0].time) / 86_400;
        writeln!(
            text,
            "\n{}: {} commits in {days} days, {} lock files\n\n{HEAD}",
            history.name,
            history.commits.len(),
            locks.len()
        )
        .unwrap();
        for (cache, name) in caches.iter().copied() {
            let totals = block_on(replay(&history, cache));
            writeln!(text, "{}", totals.row(name)).unwrap();
            if matches!(cache, Cache::Ours | Cache::Pruned) {
                rates.push((history.name.clone(), totals.hit_rate()));
            }
        }
    }
    (text, rates)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `NIX_CACHE_TEST_REPLAY`, every history in that folder and every cache; otherwise this program, with and without `prune`, and the beginning of the history
    /// that comes with the source.
    #[test]
    fn at_least_nine_in_ten_paths_come_from_the_cache() {
        let given = std::env::var_os("NIX_CACHE_TEST_REPLAY").map(PathBuf::from);
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/replay/sample");
        let (most, caches) = if given.is_some() { (usize::MAX, &CACHES[..]) } else { (12, &CACHES[..2]) };
        let (text, rates) = table(&given.unwrap_or(sample), most, caches);
        println!("{text}");
        assert!(!rates.is_empty());
        for (name, rate) in &rates {
            assert!(*rate >= 0.9, "{name}: {rate:.3}");
        }
        for pair in rates.chunks(2) {
            assert!(pair[1].1 >= pair[0].1, "prune takes nothing from {}: {} and {}", pair[0].0, pair[0].1, pair[1].1);
        }
    }
}
