//! The cost guard over histories of real repositories: the decisions are the real code, fed with the records that such jobs would leave.
//!
//! A job takes [`WORK`], the time to get what is missing, and with a cache the time of restore and save. How fast substituters are and how long
//! builds take is varied, from a cache that pays to one that does not. Pull requests see the records of the default branch, and their own are
//! not seen there.

use super::*;
use crate::history::{BeforeSave, FOLLOW, History as Runs, JobOf, Recorded, Run, SPARED, STOPPED, before_save, decide};

/// Seconds of a job besides the cache, downloads and builds.
const WORK: f64 = 40.0;
const SYSTEM: &str = "x86_64-linux";

/// What is varied.
#[derive(Clone, Copy, Debug)]
struct World {
    /// Bytes a second from substituters.
    upstream: f64,
    /// Seconds of a build, as a share of those of the model.
    builds: f64,
}

impl World {
    fn built(self, info: &PathInfo) -> Option<f64> {
        match info.path.name() {
            name if name.starts_with("result-") => Some(60.0 * self.builds),
            name if name.starts_with("dependency-") => Some(20.0 * self.builds),
            _ => None,
        }
    }
}

/// Counts of builds and bytes, and their times in seconds.
#[derive(Clone, Copy, Default)]
struct Made {
    built: u64,
    building: f64,
    bytes: u64,
    fetching: f64,
}

fn made<'a>(world: World, paths: impl Iterator<Item = &'a PathInfo>) -> Made {
    paths.fold(Made::default(), |made, info| {
        if let Some(seconds) = world.built(info) {
            return Made { built: made.built + 1, building: made.building + seconds, ..made };
        }
        let seconds = info.nar_size as f64 / world.upstream;
        Made { bytes: made.bytes + info.nar_size, fetching: made.fetching + seconds, ..made }
    })
}

/// Seconds of all jobs.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    without: f64,
    with: f64,
    stopped: u64,
    jobs: u64,
}

impl Sums {
    fn saved(&self) -> f64 {
        self.without - self.with
    }
}

/// What a history came to in one world.
#[derive(Default)]
struct Ledger {
    sums: Sums,
    /// The records of the default branch.
    known: Vec<Run>,
    /// Jobs in which the guard would have changed something.
    decisions: u64,
}

/// Replays a history. Without a guard, what a job moves is the same in all worlds, so one replay does for all of them.
async fn replayed(history: &History, worlds: &[World], is_guarded: bool) -> Vec<Ledger> {
    let service = Arc::new(Mutex::new(Service::default()));
    let mut model = Model::default();
    let mut ledgers: Vec<Ledger> = worlds.iter().map(|_| Ledger::default()).collect();
    for (number, commit) in history.commits.iter().enumerate() {
        let needs = model.next(history, commit);
        for (branch, now) in
            [(format!("pull-{number}"), commit.time.saturating_sub(1800)), ("main".to_owned(), commit.time)]
        {
            let is_main = branch == "main";
            let view = View { service: service.clone(), branch: branch.clone(), now };
            for ((lane, _), needs) in LANES.iter().zip(&needs) {
                let job = Job { lane, lock: history.lock(commit), needs };
                let of = JobOf { lane, system: SYSTEM, git_ref: &branch };
                let decide = |ledger: &Ledger| decide(&Runs::of(ledger.known.iter().cloned()), of, Recorded::Yes);
                let guards: Vec<_> = ledgers.iter().map(decide).collect();
                let first = guards[0].as_ref().filter(|_| is_guarded);
                let mut state = first.map(|guard| guard.state.clone()).unwrap_or_default();
                let limit = first.and_then(|guard| guard.most_bytes).unwrap_or(u64::MAX);
                let record = |moved: &Moved, world: &World, state: &str, sums: &mut Sums| Run {
                    run: number as u64,
                    time: commit.time,
                    git_ref: branch.clone(),
                    ..moved.record(*world, &job, state, sums)
                };
                let changed = |ledger: &Ledger, run: &Run| {
                    before_save(&Runs::of(ledger.known.iter().cloned()), of, Recorded::Yes, run)
                };
                let moved = job_of(&view, &job, limit, |moved| {
                    let run = record(moved, &worlds[0], &state, &mut Sums::default());
                    match changed(&ledgers[0], &run).filter(|_| is_guarded) {
                        Some(BeforeSave::Test(guard)) => state = guard.state,
                        Some(_) => return false,
                        None => {}
                    }
                    ![STOPPED, SPARED, FOLLOW].contains(&&*state)
                })
                .await;
                for ((ledger, world), guard) in ledgers.iter_mut().zip(worlds).zip(guards) {
                    let run = record(&moved, world, &state, &mut ledger.sums);
                    let unsaved = Run { save_ms: None, uploaded: 0, ..run.clone() };
                    ledger.decisions += u64::from(guard.is_some() || changed(ledger, &unsaved).is_some());
                    ledger.known.extend(is_main.then_some(run));
                }
            }
        }
    }
    ledgers
}

/// What a job restored and moved.
struct Moved {
    cached: Paths,
    restore: f64,
    save: f64,
    down: u64,
    up: u64,
}

/// One job. It saves if `does_save` says so after the restore.
async fn job_of(view: &View, job: &Job<'_>, limit: u64, does_save: impl FnOnce(&Moved) -> bool) -> Moved {
    let moved = || {
        let inside = view.inside();
        (inside.down, inside.up)
    };
    let before = moved();
    let context = ours::context(view, job, true);
    let (cached, record) = ours::restore(&context, view, limit).await;
    let restored = moved();
    let restore = ATTACH + (restored.0 - before.0) as f64 / LINK;
    let mut all = Moved { cached, restore, save: 0.0, down: restored.0 - before.0, up: 0 };
    if does_save(&all) {
        let mut valid = all.cached.clone();
        valid.extend(job.needs.paths.iter().map(|(path, info)| (path.clone(), info.clone())));
        ours::save(&context, view, &valid, job.needs, &record).await;
        let after = moved();
        let (down, up) = ((after.0 - restored.0) as f64, (after.1 - restored.1) as f64);
        all.save = up / RATIO / PACK + (up + down) / LINK;
        all.up = after.1 - restored.1;
    }
    all
}

impl Moved {
    /// Adds the job to the sums of a world. Returns the record that it leaves there.
    fn record(&self, world: World, job: &Job<'_>, state: &str, sums: &mut Sums) -> Run {
        let all = || job.needs.paths.values();
        let (cached, fresh): (Vec<&PathInfo>, Vec<&PathInfo>) =
            all().partition(|info| self.cached.contains_key(&info.path));
        let (cached, fresh) = (made(world, cached.into_iter()), made(world, fresh.into_iter()));
        let whole = made(world, all());
        sums.jobs += 1;
        sums.stopped += u64::from(state == STOPPED || state == SPARED);
        sums.without += WORK + whole.building + whole.fetching;
        let time = WORK + self.restore + fresh.building + fresh.fetching + self.save;
        sums.with += time;
        let ms = |seconds: f64| Some((seconds * 1000.0) as u64);
        Run {
            lane: job.lane.to_owned(),
            system: SYSTEM.to_owned(),
            status: "success".to_owned(),
            hit: if self.cached.is_empty() { "miss" } else { "partial" }.to_owned(),
            restore_ms: ms(self.restore),
            save_ms: ms(self.save),
            job_ms: ms(time),
            downloaded: self.down,
            uploaded: self.up,
            cached_built: Some(cached.built),
            cached_bytes: Some(cached.bytes),
            built: fresh.built,
            built_ms: ms(fresh.building),
            fetched_bytes: Some(fresh.bytes),
            fetched_ms: ms(fresh.fetching),
            guard: state.to_owned(),
            ..Run::default()
        }
    }
}

/// With `NIX_CACHE_TEST_REPLAY`, every history in that folder and every world; otherwise the beginning of the history that comes with the
/// source, and three worlds.
#[test]
fn the_guard_keeps_what_a_cache_saves_and_loses_less_where_none_pays() {
    let given = std::env::var_os("NIX_CACHE_TEST_REPLAY").map(PathBuf::from);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/replay/sample");
    let pays = World { upstream: 30e6, builds: 1.0 };
    let hardly = World { upstream: 200e6, builds: 0.1 };
    let never = World { upstream: 200e6, builds: 0.0 };
    let mut worlds = vec![pays, hardly, never];
    let mut most = 20;
    if given.is_some() {
        most = usize::MAX;
        for upstream in [30e6, 60e6, 120e6, 250e6, 500e6, 1e9] {
            worlds.extend([0.0, 0.02, 0.1, 0.3, 1.0].map(|builds| World { upstream, builds }));
        }
    }
    let folder = given.unwrap_or(sample);
    let (mut paid, mut stopped, mut results) = (0, 0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("history.jsonl").is_file() {
            continue;
        }
        let mut history = History::read(&folder);
        history.commits.truncate(most);
        let plain = block_on(replayed(&history, &worlds, false));
        for (world, plain) in worlds.iter().zip(plain) {
            // Where the guard never decides anything, both are the same.
            let guarded = if plain.decisions > 0 {
                block_on(replayed(&history, &[*world], true)).remove(0).sums
            } else {
                plain.sums
            };
            let plain = plain.sums;
            println!(
                "{} {world:?}: of {:.0} s, the cache saves {:.0} s without a guard and {:.0} s with it, stopped in {} of {} jobs",
                history.name,
                plain.without,
                plain.saved(),
                guarded.saved(),
                guarded.stopped,
                guarded.jobs
            );
            results.push((*world, plain, guarded));
        }
    }
    for (world, plain, guarded) in &results {
        if plain.saved() > 0.0 {
            paid += 1;
            assert!(guarded.saved() >= 0.98 * plain.saved(), "{world:?}: {guarded:?} for {plain:?}");
        } else {
            assert!(guarded.saved() >= plain.saved(), "{world:?}: {guarded:?} for {plain:?}");
        }
        stopped += guarded.stopped;
    }
    assert!(paid > 0 && stopped > 0, "the cache paid in {paid} histories and was stopped in {stopped} jobs");
}
