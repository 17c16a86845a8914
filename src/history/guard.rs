//! The cost guard: where the cache costs a lane more than it saves, it is used less.
//!
//! 1. What the cache saves is the sum over the last [`WINDOW`] runs of a lane. If it was negative in each of the last [`JUDGED`] runs, the lane
//!    **stops**: nothing is saved, and only what is small is restored, which is what arrives in less than half of the time that restores of the
//!    lane saved. The first save of a lane is not judged, because all later runs use it.
//! 2. A lane that has not gained anything so far is not made to lose [`JUDGED`] times: where the [`Forecast`] for the next run is a loss too, the
//!    run is **spared**, which means the same as stopped, but only for this run. The loss that it was spared counts as one. Where the forecast
//!    is in doubt because no restore has been measured, a run that the next ones will see measures one: it **follows**, which means that it
//!    restores and saves nothing. The others are spared.
//! 3. A stopped lane tests whether the cache pays by a forecast, which costs nothing: every run measures what it needs. A forecast of a gain is
//!    followed by a real **test**, which restores and saves as usual: in every [`EVERY`]th run, and earlier if the need has grown or the
//!    test is cheap. How fast restores are cannot be forecast, so there is a test every [`RARELY`] runs in any case, unless it is dear.
//! 4. If a test loses time, the next run follows, and with its measurement the cache is used as usual again or the lane stays stopped. It is left
//!    out where the test has restored enough to know.
//! 5. A saving that is unknown never stops anything. Runs that failed or were cancelled are not judged. Only a run whose record the next one
//!    will see is a test: one of the ref that the lane's newest record is of.
//! 6. Before a job saves, the guard decides once more: see `before_save.rs`.

use std::cell::LazyCell;

use super::forecast::{Forecast, is_restore, need};
use super::saving::Costs;
use super::{History, Run, RunKind, lower_median};
use crate::report::Guard;

/// What the cache saves is the sum over so many runs.
const WINDOW: usize = 10;
/// Runs in a row in which it must be negative.
const JUDGED: usize = 5;
/// Of the runs of a stopped lane, one in so many is a test.
const EVERY: usize = 10;
/// One in so many is a test although the forecast is a loss, if it is cheap, and one in four times as many in any case.
const RARELY: usize = 50;
/// A test is cheap if it costs at most this share of the time of the lane's jobs since the last one, and after each test half of it.
const CHEAP: f64 = 0.02;
/// The share for a test although the forecast is a loss.
const CHEAP_RARELY: f64 = 0.005;
/// Milliseconds of a loss from which on a lane is spared it: registration times are whole seconds, so less may be none.
const NOTICED: i64 = 2_000;
/// Restored runs by which the expected saving of a restore is measured.
const MEASURED: usize = 5;
/// What a restore may take, as a share of what it is expected to save.
const SHARE: f64 = 0.5;
/// The need of a lane has grown when it is so many times the greatest one before.
const GROWN: f64 = 1.5;

pub(crate) const STOPPED: &str = "stopped";
pub(crate) const SPARED: &str = "spared";
pub(crate) const TEST: &str = "test";
pub(crate) const FOLLOW: &str = "follow";

/// Whether a job adds a record of its own to the history; only such a job can be a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    Yes,
    No,
}

/// The lane that a job is of, and where it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobOf<'a> {
    pub lane: &'a str,
    pub system: &'a str,
    /// The full ref.
    pub git_ref: &'a str,
}

impl JobOf<'_> {
    /// Whether a record is of a job of this lane, on this system.
    pub(super) fn is_of_lane(&self, run: &Run) -> bool {
        run.lane == self.lane && run.system == self.system && run.kind == RunKind::Job
    }
}

/// Whether the run restored only what is small, and saved nothing.
pub(super) fn is_sparing(run: &Run) -> bool {
    spares(&run.guard)
}

/// Whether this state means to restore only what is small, and to save nothing.
pub(super) fn spares(state: &str) -> bool {
    state == STOPPED || state == SPARED
}

/// What is known about a lane.
struct Known<'a> {
    costs: Costs,
    /// Its judged runs, newest first.
    runs: Vec<&'a Run>,
    /// Computed when it is asked for, which is seldom where a cache pays.
    forecast: LazyForecast<'a>,
}

type LazyForecast<'a> = LazyCell<Option<Forecast>, Box<dyn FnOnce() -> Option<Forecast> + 'a>>;

fn total<'a>(times: impl IntoIterator<Item = &'a i64>) -> i64 {
    times.into_iter().fold(0, |sum, time| sum.saturating_add(*time))
}

/// Decides how the next run of a lane uses the cache. None as usual.
pub(crate) fn decide(history: &History, job: JobOf<'_>, recorded: Recorded) -> Option<Guard> {
    decide_after(&history.own_by_time(), job, recorded)
}

/// The same after these runs, oldest first.
pub(super) fn decide_after(runs: &[&Run], job: JobOf<'_>, recorded: Recorded) -> Option<Guard> {
    let costs = Costs::of(runs.iter().copied(), job.lane, job.system);
    let of_lane: Vec<&Run> = runs.iter().copied().rev().filter(|run| job.is_of_lane(run)).collect();
    let measured: Vec<&Run> = of_lane.iter().copied().filter(|run| run.status == "success").collect();
    // A run that spared the cache counts however it ended; the others are judged by their success.
    let judged: Vec<&Run> = of_lane.into_iter().filter(|run| is_sparing(run) || run.status == "success").collect();
    let last = *judged.first()?;
    let can_test = recorded == Recorded::Yes && last.git_ref == job.git_ref;
    let forecast = LazyCell::new(Box::new(move || Forecast::of(runs, &costs, &measured)) as Box<dyn FnOnce() -> _>);
    let known = Known { costs, runs: judged, forecast };
    match &*last.guard {
        FOLLOW => known.after_follow(last, can_test),
        TEST => known.after_test(last, can_test),
        STOPPED => known.stopped_before(can_test),
        _ => known.as_usual(can_test),
    }
}

impl Known<'_> {
    fn saved(&self, run: &Run) -> Option<i64> {
        self.costs.saved(run)
    }

    /// What a run saved, or would have saved if it had not been spared.
    fn judged(&self, run: &Run) -> Option<i64> {
        match &*run.guard {
            SPARED => Some((*self.forecast)?.saving(need(&self.costs, run)?)),
            _ => self.saved(run),
        }
    }

    fn as_usual(&self, can_test: bool) -> Option<Guard> {
        let (_first, later) = self.runs.split_last()?;
        let usual = || later.iter().take_while(|run| ["", SPARED, FOLLOW].contains(&&*run.guard));
        let known: Vec<i64> = usual().take(JUDGED + WINDOW - 1).map_while(|run| self.judged(run)).collect();
        let sums = known.iter().enumerate().map(|(at, _)| total(known[at..].iter().take(WINDOW)));
        let losses = sums.take(JUDGED).take_while(|sum| *sum < 0).count();
        let judged = known.iter().copied().take(WINDOW).collect();
        if losses == JUDGED {
            return Some(self.stop(judged));
        }
        if losses < usual().count() {
            return None;
        }
        let forecast = (*self.forecast)?;
        if forecast.next() < -NOTICED {
            return Some(self.spare(SPARED, judged));
        }
        let doubt = forecast.doubt()?;
        if can_test {
            return Some(follow(judged));
        }
        Some(Guard { expected_ms: Some(doubt), ..self.spare(SPARED, judged) })
    }

    fn after_test(&self, test: &Run, can_test: bool) -> Option<Guard> {
        let loss = self.saved(test).filter(|saved| *saved < 0)?;
        if self.forecast.is_some_and(|forecast| forecast.is_much()) {
            return None;
        }
        let is_known = is_restore(test) && self.expected().is_some_and(|expected| expected < 0);
        if is_known || !can_test {
            return Some(self.stop(vec![loss]));
        }
        Some(follow(vec![loss]))
    }

    fn after_follow(&self, follow: &Run, can_test: bool) -> Option<Guard> {
        let Some(test) = self.runs.iter().skip(1).find(|run| run.guard == TEST) else { return self.as_usual(can_test) };
        let judged = vec![self.saved(follow)?, self.saved(test)?];
        // A usual run saves as well.
        let is_loss = match *self.forecast {
            Some(forecast) => judged[0] < forecast.save() as i64 || forecast.next() < 0,
            None => judged[0].saturating_add(judged[1]) < 0,
        };
        is_loss.then(|| self.stop(judged))
    }

    fn stopped_before(&self, can_test: bool) -> Option<Guard> {
        let since = self.runs.iter().take_while(|run| is_sparing(run)).count();
        let before = &self.runs[since..];
        let judged: Vec<i64> = if before.is_empty() {
            self.runs.iter().take(JUDGED).filter_map(|run| self.judged(run)).collect()
        } else {
            before.iter().take(JUDGED).filter_map(|run| self.saved(run)).collect()
        };
        if self.has_grown() && self.forecast.is_some_and(|forecast| forecast.is_much()) {
            return None;
        }
        if can_test && self.is_test_due(since) {
            let expected_ms = self.expected();
            return Some(Guard { state: TEST.to_owned(), judged_ms: judged, expected_ms, most_bytes: None });
        }
        Some(self.stop(judged))
    }

    /// Whether the next run is a test, after so many runs without.
    fn is_test_due(&self, since: usize) -> bool {
        let turn = since + 1;
        let Some(forecast) = *self.forecast else { return turn.is_multiple_of(EVERY) };
        let time: f64 = self.runs[..since].iter().map(|run| run.job_ms.unwrap_or(0) as f64).sum();
        let tests = self.runs.iter().filter(|run| run.guard == TEST).count() as i32;
        let costs_at_most = |share: f64| forecast.test() <= share * time;
        if forecast.next() > 0 {
            return turn.is_multiple_of(EVERY) && costs_at_most(CHEAP)
                || costs_at_most(CHEAP / 2f64.powi(tests))
                || self.has_grown();
        }
        turn >= RARELY && costs_at_most(CHEAP_RARELY) || turn >= 4 * RARELY
    }

    /// Whether the last run needed much more than those before.
    fn has_grown(&self) -> bool {
        let mut needs = self.runs.iter().filter_map(|run| need(&self.costs, run));
        let Some(new) = needs.next() else { return false };
        let old = needs.take(EVERY).fold(0.0, f64::max);
        old > 0.0 && new > GROWN * old
    }

    /// What the next run is expected to save.
    fn expected(&self) -> Option<i64> {
        self.forecast.map(|forecast| forecast.next())
    }

    fn stop(&self, judged_ms: Vec<i64>) -> Guard {
        self.spare(STOPPED, judged_ms)
    }

    fn spare(&self, state: &str, judged_ms: Vec<i64>) -> Guard {
        let most_bytes = Some(self.most_bytes().unwrap_or(0));
        Guard { state: state.to_owned(), most_bytes, judged_ms, expected_ms: self.expected() }
    }

    /// The largest download that is expected to pay, by the last runs that restored something.
    fn most_bytes(&self) -> Option<u64> {
        let is_restored = |run: &&Run| run.downloaded > 0 && run.hit != "miss";
        let restored: Vec<&Run> = self.runs.iter().copied().filter(is_restored).take(MEASURED).collect();
        let gross: Option<Vec<f64>> = restored.iter().map(|run| self.costs.gross(run)).collect();
        let per_byte: Vec<f64> =
            restored.iter().filter_map(|run| Some(run.restore_ms? as f64 / run.downloaded as f64)).collect();
        let (gross, per_byte) = (lower_median(gross?, f64::total_cmp)?, lower_median(per_byte, f64::total_cmp)?);
        Some((SHARE * gross / per_byte.max(f64::MIN_POSITIVE)) as u64)
    }
}

fn follow(judged_ms: Vec<i64>) -> Guard {
    Guard { state: FOLLOW.to_owned(), judged_ms, ..Guard::default() }
}

#[cfg(test)]
#[path = "guard_replay_test.rs"]
mod replay;
#[cfg(test)]
#[path = "guard_test.rs"]
mod tests;
