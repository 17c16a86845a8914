//! When a job saves while it runs, and how much: decided from what is new, what earlier saves took, and how busy the machine is.
//!
//! 1. Something is due when [`LAYER`] are new, or the interval has passed since the first new path; and the interval has passed since the
//!    last save began.
//! 2. While a processor is idle, a save slows nothing. Otherwise all saves together may take [`SHARE`] of what the processors could have
//!    done since the job began: that is by how much a build on all of them is slowed at most. Where the job pushes too, half of it is for
//!    pushes.

use std::time::Duration;

use crate::cache::LIKELY_RATIO as RATIO;

/// Bytes in the cache of a layer that is not waited for.
const LAYER: u64 = 256 << 20;
/// Share of the processors' time.
const SHARE: f64 = 0.02;
/// Idle processors from which a save slows nothing.
const IDLE: f64 = 0.75;
/// NAR bytes that one processor packs in a second, before it was measured.
const RATE: f64 = 40e6;
/// NAR bytes for which a save of a part is worth while.
const LEAST: u64 = 16 << 20;
/// Most NAR bytes of one save, however fast it is.
const MOST: u64 = 8 << 30;

/// What is known about the new paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Their NAR bytes.
    pub bytes: u64,
    /// Time since the first of them.
    pub since_first: Duration,
    /// Time since the last save began; None before the first.
    pub since_last: Option<Duration>,
}

impl Waiting {
    /// Returns whether a save is due.
    pub(super) fn is_due(&self, interval: Duration) -> bool {
        self.bytes > 0
            && (self.bytes / RATIO >= LAYER || self.since_first >= interval)
            && self.since_last.is_none_or(|since| since >= interval)
    }
}

/// What saves took so far, and may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Seconds of CPU in a second.
    share: f64,
    /// Seconds of CPU of all saves that began while no processor was idle.
    spent: f64,
    /// NAR bytes per second of CPU.
    rate: f64,
    /// NAR bytes that a save gets done within the interval.
    most: u64,
}

impl Budget {
    pub(super) fn new(cores: usize) -> Self {
        Self { share: SHARE * cores as f64, spent: 0.0, rate: RATE, most: LAYER * RATIO }
    }

    /// Half of it.
    pub(super) fn half(self) -> Self {
        Self { share: self.share / 2.0, ..self }
    }

    /// Returns how many of `bytes` may be saved now, `elapsed` after the job began; 0 if it is to wait.
    pub(super) fn room(&self, bytes: u64, idle: Option<f64>, elapsed: Duration) -> u64 {
        if is_idle(idle) {
            return self.most;
        }
        let left = self.share * elapsed.as_secs_f64() - self.spent;
        let room = ((left * self.rate) as u64).min(self.most);
        if room < bytes.min(LEAST) { 0 } else { room }
    }

    /// Records a save.
    pub(super) fn record(&mut self, bytes: u64, idle: Option<f64>, cpu: Duration, took: Duration, interval: Duration) {
        if !is_idle(idle) {
            self.spent += cpu.as_secs_f64();
        }
        // Small ones mostly consist of requests.
        if bytes >= LEAST {
            self.rate = bytes as f64 / cpu.as_secs_f64().max(0.01);
            let in_time = bytes as f64 / took.as_secs_f64().max(0.01) * interval.as_secs_f64();
            self.most = (in_time as u64).clamp(LAYER * RATIO, MOST);
        }
    }
}

fn is_idle(idle: Option<f64>) -> bool {
    idle.is_some_and(|idle| idle >= IDLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_minute_or_a_layer_is_waited_for_and_never_less_than_a_minute_between_two() {
        let due = |bytes, since_first, since_last| Waiting { bytes, since_first, since_last }.is_due(MINUTE);
        assert!(!due(0, MINUTE * 9, None));
        assert!(!due(1, SECOND * 59, None) && due(1, MINUTE, None));
        assert!(!due(LAYER, SECOND, None) && due(LAYER * RATIO, SECOND, None));
        assert!(!due(LAYER * RATIO, MINUTE, Some(SECOND * 59)) && due(LAYER * RATIO, SECOND, Some(MINUTE)));
    }

    #[test]
    fn on_a_busy_machine_saves_take_their_share_and_no_more() {
        let mut budget = Budget::new(4);
        let (large, tiny) = (10 << 30, 1000);
        assert_eq!(budget.room(large, Some(1.0), SECOND), LAYER * RATIO, "a processor is idle");
        assert_eq!(budget.room(large, Some(0.1), SECOND), 0);
        assert_eq!(budget.room(large, None, SECOND), 0, "it is not known");
        assert!(budget.room(tiny, Some(0.1), SECOND) > tiny);
        // Of 240 s of four processors in a minute, 4.8 s.
        let room = budget.room(large, Some(0.1), MINUTE);
        assert!((150 << 20..200 << 20).contains(&room), "{room}");
        budget.record(room, Some(0.1), Duration::from_millis(4800), SECOND * 5, MINUTE);
        assert_eq!(budget.room(large, Some(0.1), MINUTE), 0);
        assert_eq!(budget.room(tiny, Some(0.1), MINUTE), 0);
        assert!(budget.room(large, Some(0.1), MINUTE * 2) > room / 2);
        assert!(
            Budget::new(4).half().room(large, Some(0.1), MINUTE).abs_diff(room / 2) < 2,
            "pushes have the other half"
        );
        // What is saved while a processor is idle costs nothing.
        budget.record(large, Some(2.0), MINUTE, MINUTE, MINUTE);
        assert!(budget.room(tiny, Some(0.1), MINUTE * 2) > tiny);
        assert_eq!(budget.room(large, Some(2.0), MINUTE), MOST, "it is fast");
    }
}
