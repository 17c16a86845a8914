//! The process that saves while the job runs: `nix-cache action checkpoints`, which the main step starts ([`super::progressive`]).
//!
//! 1. It looks every few seconds whether builds or downloads made paths valid, and decides with [`Budget`] whether to save them.
//! 2. A save is a checkpoint: layers, and a generation that names them. All of them together take at most `save-timeout`. Pushes follow
//!    ([`EarlyPushes`]).
//! 3. It ends when the post step asks it to, when the process of the job is gone, when its time is used up, or when saving keeps
//!    failing. The runner ends it with the job, as all processes that have its `RUNNER_TRACKING_ID`.
//!
//! Trouble is a line in its log and a note of the post step, and never fails the job.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::checkpoint_budget::{Budget, Waiting};
use super::early::EarlyPushes;
use super::job::{Job, Lookup};
use crate::app::Failure;
use crate::base::env_vars;
use crate::base::human;
use crate::base::process::{IdleMeter, Process, cores, cpu_time};
use crate::base::secrets;
use crate::cache::{self, Checkpoints};
use crate::remote::github::Tuning;
use crate::store::StoreDirs;
use crate::store::own::{CHECKPOINTS_LOCK, CHECKPOINTS_STOP, OwnFolder};

/// Between two looks whether another process has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// Longest time for the save under way when the post step asks it to end.
const GRACE: Duration = Duration::from_secs(10);
/// Longest wait for an earlier process of this kind, which a new one asks to end.
const EARLIER: Duration = Duration::from_secs(15);
/// The read of the database may take this share of one processor.
const READING: u32 = 50;
/// Number of failures in a row after which it gives up.
const FAILURES: u32 = 3;

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Asked,
    JobGone,
}

/// Saves until the job ends.
pub(super) async fn run() -> Result<(), Failure> {
    let mut job = Job::from_environment()?;
    let lookup = job.key()?;
    let folder = OwnFolder::work(&job.dirs).map_err(Failure::work)?;
    let Some(_turn) = take_turn(&folder, Instant::now() + EARLIER).await.map_err(Failure::work)? else {
        tracing::info!("Another process saves while the job runs, and does not end.");
        return Ok(());
    };
    let context = job.context(&job.place(None).map_err(Failure::work)?, &lookup);
    let watch = Watch { folder, job: secrets::var(env_vars::NIX_CACHE_JOB_PROCESS).and_then(|text| text.parse().ok()) };
    let so_far = cache::begin_checkpoints(&context);
    let all = Budget::new(cores());
    let pushes = EarlyPushes::begin(&job, all.half());
    let budget = if pushes.is_some() { all.half() } else { all };
    let mut worker = Worker { budget, spent: Duration::ZERO, job, lookup, so_far, failures: 0, pushes };
    tracing::debug!("saving while the job runs");
    let why = worker.work(&watch).await;
    tracing::info!("{why}");
    Ok(())
}

/// Takes the lock of the process that saves while a job runs; one that has it is asked to end. None if it has not ended at `end`.
pub(super) async fn take_turn(folder: &OwnFolder, end: Instant) -> io::Result<Option<File>> {
    let lock = folder.lock_file_of(CHECKPOINTS_LOCK)?;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        drop(folder.create(CHECKPOINTS_STOP)?);
        if Instant::now() > end {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
    folder.remove(CHECKPOINTS_STOP)?;
    Ok(Some(lock))
}

/// What tells that the job ends.
pub(super) struct Watch {
    folder: OwnFolder,
    /// The process of the runner that carries out the job, if it can be seen.
    job: Option<Process>,
}

impl Watch {
    async fn ended(&self) -> Ended {
        loop {
            if self.folder.modified(CHECKPOINTS_STOP).is_some() {
                return Ended::Asked;
            }
            if self.job.is_some_and(|job| !job.lives()) || !self.folder.path().exists() {
                return Ended::JobGone;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Waits for `work`, and if the job ends meanwhile, only a moment longer, after `stop`. Returns what it did if it ended, and whether
/// the job has ended.
pub(super) async fn until_ended<T>(
    watch: &Watch,
    work: impl Future<Output = T>,
    stop: impl FnOnce(),
) -> (Option<T>, Option<Ended>) {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => (Some(done), None),
        why = watch.ended() => {
            stop();
            let grace = if why == Ended::Asked { GRACE } else { Duration::ZERO };
            (tokio::time::timeout(grace, work).await.ok(), Some(why))
        }
    }
}

struct Worker {
    job: Job,
    lookup: Lookup,
    so_far: Checkpoints,
    budget: Budget,
    /// Time of all saves.
    spent: Duration,
    failures: u32,
    pushes: Option<EarlyPushes>,
}

impl Worker {
    /// Works until the job ends. Returns why it does not go on, as a sentence.
    async fn work(&mut self, watch: &Watch) -> String {
        let tuning = Tuning::from_env();
        let interval = tuning.checkpoint_interval;
        let (start, mut idle, mut pause) = (Instant::now(), IdleMeter::default(), tuning.checkpoint_look);
        let (mut bytes, mut seen, mut first, mut last) = (0, None, None, None::<Instant>);
        loop {
            if let Ok(ended) = tokio::time::timeout(pause, watch.ended()).await {
                return ended.sentence();
            }
            let idle = idle.look();
            if let Some(pushes) = &mut self.pushes
                && let Some(most) = pushes.room(idle, start.elapsed(), interval)
                && let Some(ended) = pushes.push(&self.job, watch, (most, idle, interval)).await
            {
                return ended.sentence();
            }
            let stamp = Some(stamp(&self.job.dirs));
            if stamp != seen {
                let begin = Instant::now();
                bytes = self.pending().await.unwrap_or(bytes);
                (seen, pause) = (stamp, tuning.checkpoint_look.max(begin.elapsed() * READING));
            }
            if bytes == 0 {
                first = None;
                continue;
            }
            let since_first = first.get_or_insert_with(Instant::now).elapsed();
            let since_last = last.map(|last| last.elapsed());
            let most = self.budget.room(bytes, idle, start.elapsed());
            if most == 0 || !(Waiting { bytes, since_first, since_last }).is_due(interval) {
                continue;
            }
            last = Some(Instant::now());
            if let Err(why) = self.save(watch, (most, idle, interval)).await {
                return why;
            }
            // What is left is looked at again, and has waited.
            seen = None;
        }
    }

    /// NAR bytes of what is new.
    async fn pending(&self) -> Option<u64> {
        let (dirs, so_far) = (self.job.dirs.clone(), self.so_far.clone());
        let found = tokio::task::spawn_blocking(move || cache::pending(&dirs, &so_far)).await.ok()?;
        found.inspect_err(|error| tracing::debug!("the store cannot be read now: {error}")).ok()
    }

    /// Saves once.
    ///
    /// # Errors
    /// Why it was the last time.
    async fn save(
        &mut self,
        watch: &Watch,
        (most, idle, interval): (u64, Option<f64>, Duration),
    ) -> Result<(), String> {
        let used_up = |limit: Duration| format!("The time of `save-timeout`, {} s, is used up.", limit.as_secs());
        let (limit, start, cpu) = (self.job.inputs.save_timeout(), Instant::now(), cpu_time());
        let left = limit.saturating_sub(self.spent);
        let place = self.job.place(Some(left)).map_err(|error| error.to_string())?;
        let mut context = self.job.context(&place, &self.lookup);
        context.packing.threads = 1;
        let save = tokio::time::timeout(left, cache::checkpoint(&context, &mut self.so_far, most));
        let (done, ended) = until_ended(watch, Box::pin(save), || ()).await;
        self.spent += start.elapsed();
        match done {
            Some(Ok(Ok(bytes))) => {
                self.failures = 0;
                self.pushes.iter_mut().for_each(EarlyPushes::note_saved);
                self.budget.record(bytes, idle, cpu_time().saturating_sub(cpu), start.elapsed(), interval);
                let (size, seconds) = (human::bytes(bytes), start.elapsed().as_secs_f64());
                tracing::info!("Saved {size} of new store paths in {seconds:.1} s.");
            }
            Some(Ok(Err(error))) => {
                self.failures += 1;
                tracing::warn!("Nothing was saved while the job runs: {error}");
                self.so_far.note_trouble(&context, &error.to_string());
            }
            Some(Err(_)) => return Err(used_up(limit)),
            None => tracing::info!("A save was under way and is abandoned."),
        }
        match ended {
            Some(ended) => Err(ended.sentence()),
            None if self.failures >= FAILURES => Err("Saving failed too often; the post step tries again.".to_owned()),
            None if self.spent >= limit => Err(used_up(limit)),
            None => Ok(()),
        }
    }
}

impl Ended {
    pub(super) fn sentence(self) -> String {
        match self {
            Self::Asked => "The post step saves the rest.",
            Self::JobGone => "The job is gone.",
        }
        .to_owned()
    }
}

/// The size and the time of two files, as far as they are there.
type Stamp = [Option<(u64, SystemTime)>; 2];

/// Sizes and times of Nix's database and its log: the same as long as nothing becomes valid.
fn stamp(dirs: &StoreDirs) -> Stamp {
    let database = dirs.db_path();
    let mut log = database.clone().into_os_string();
    log.push("-wal");
    let of = |path: PathBuf| path.metadata().and_then(|found| Ok((found.len(), found.modified()?))).ok();
    [of(database), of(log.into())]
}
