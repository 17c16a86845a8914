//! Pushes while the job runs: what `push-to` names gets what this job built after each checkpoint, by the same code as at the end.
//!
//! 1. A push is due after a checkpoint. On a busy machine it has a budget of its own, as large as that of the saves.
//! 2. It takes at most as long as the time between two saves, so that a sink that hangs does not keep anything from being saved. All
//!    pushes together take at most `save-timeout`.
//! 3. A sink that hangs, or that refuses three times in a row, is left to the post step, which alone warns about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::checkpoint_budget::Budget;
use super::checkpoints::{Ended, Watch, until_ended};
use super::job::Job;
use super::push::push;
use crate::app::push::{Early, Push, push as carry_out};
use crate::app::settings::sinks;
use crate::base::process::cpu_time;
use crate::push::{PushOutcome, Pushed, Sink, SinkOutcome};

/// Number of failures in a row after which a sink is left to the post step.
const FAILURES: u32 = 3;
/// Least time for a push.
const LEAST: Duration = Duration::from_secs(5);
/// Time beyond the limit after which a push is abandoned.
const AFTER: Duration = Duration::from_secs(30);

/// The pushes of a job that goes on.
pub(super) struct EarlyPushes {
    sinks: Vec<Sink>,
    pushed: Arc<Pushed>,
    budget: Budget,
    /// Time of all pushes.
    spent: Duration,
    /// Failures in a row, by the names of the sinks.
    failures: BTreeMap<String, u32>,
    /// Notes that are in the log.
    said: BTreeSet<String>,
    is_due: bool,
    last: Option<Instant>,
}

impl EarlyPushes {
    /// None if `push-to` names nothing.
    pub(super) fn begin(job: &Job, budget: Budget) -> Option<Self> {
        let sinks = sinks(&job.inputs.push.push_to).ok().filter(|sinks| !sinks.is_empty())?;
        let pushed = Arc::new(Pushed::begin(&job.dirs, job.name()));
        let (spent, failures, said) = (Duration::ZERO, BTreeMap::new(), BTreeSet::new());
        Some(Self { sinks, pushed, budget, spent, failures, said, is_due: false, last: None })
    }

    /// Records that something new may be there to push.
    pub(super) fn note_saved(&mut self) {
        self.is_due = true;
    }

    /// Returns how many NAR bytes may be pushed now; None if nothing is due.
    pub(super) fn room(&self, idle: Option<f64>, elapsed: Duration, interval: Duration) -> Option<u64> {
        let has_waited = self.last.is_none_or(|last| last.elapsed() >= interval);
        if !self.is_due || !has_waited || self.left_out().len() == self.sinks.len() {
            return None;
        }
        Some(self.budget.room(u64::MAX, idle, elapsed)).filter(|room| *room > 0)
    }

    /// The names of the sinks that are left to the post step.
    fn left_out(&self) -> BTreeSet<String> {
        let failed = self.failures.iter().filter(|(_, count)| **count >= FAILURES);
        failed.map(|(name, _)| name.clone()).collect()
    }

    /// Pushes once. Returns why it was the last time, if it was.
    pub(super) async fn push(
        &mut self,
        job: &Job,
        watch: &Watch,
        (most, idle, interval): (u64, Option<f64>, Duration),
    ) -> Option<Ended> {
        let left = job.inputs.save_timeout().saturating_sub(self.spent);
        if left.is_zero() {
            tracing::info!("The time for pushes while the job runs is used up; the post step pushes the rest.");
            self.sinks.clear();
            return None;
        }
        let (start, cpu, limit) = (Instant::now(), cpu_time(), left.min(interval.max(LEAST)));
        let skip = self.left_out();
        let count = (self.sinks.len() - skip.len()).max(1) as u64;
        let early = Some(Early { most: (most / count).max(1), skip });
        let pushed = Arc::clone(&self.pushed);
        let push = Push { pushed, early, threads: 1, ..push(job, self.sinks.clone(), Vec::new(), start + limit) };
        // The post step alone warns. The limit does not hold for questions to substituters.
        let push = tokio::time::timeout(limit + AFTER, carry_out(push).with_subscriber(NoSubscriber::new()));
        let (done, ended) = until_ended(watch, Box::pin(push), || self.pushed.end()).await;
        let took = start.elapsed();
        self.spent += took;
        self.last = Some(Instant::now());
        self.is_due = false;
        let mut bytes = 0;
        match done {
            Some(Ok(Ok(outcome))) => {
                bytes = outcome.sinks.iter().map(|sink| sink.nar_bytes).sum();
                self.take_in(&outcome, took >= limit);
            }
            Some(Ok(Err(failure))) => tracing::info!("Nothing was pushed while the job runs: {}", failure.message),
            Some(Err(_)) => tracing::info!("A push while the job runs took too long."),
            None => tracing::info!("A push was under way and is abandoned."),
        }
        self.budget.record(bytes, idle, cpu_time().saturating_sub(cpu), took, interval);
        self.pushed.write(&job.dirs);
        ended
    }

    /// Takes in what a push did.
    fn take_in(&mut self, outcome: &PushOutcome, is_late: bool) {
        let has_pushed = |sink: &&SinkOutcome| sink.paths_pushed > 0;
        for sink in outcome.sinks.iter().filter(has_pushed) {
            tracing::info!("{}", sink.sentence());
        }
        // The same every minute tells nobody anything.
        for note in outcome.notes.iter().filter(|_| !is_late) {
            if self.said.insert(note.message.clone()) {
                tracing::info!("{}", note.message);
            }
        }
        for sink in &outcome.sinks {
            let count = self.failures.entry(sink.name.clone()).or_default();
            let has_failed = !sink.complete && sink.paths_pushed == 0;
            *count = match (has_failed, is_late) {
                (false, _) => 0,
                (true, false) => *count + 1,
                (true, true) => FAILURES,
            };
            if *count >= FAILURES {
                tracing::info!("{} gets nothing more while the job runs; the post step tries it again.", sink.sink);
            } else if !sink.complete || sink.paths_later > 0 {
                self.is_due = true;
            }
        }
    }
}
