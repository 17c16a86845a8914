//! Limits the rate of requests: gates that the service closes, and a pace for reservations.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A gate that is closed for as long as the service asked us to wait. There is one per method, so that throttled reservations
/// never delay lookups.
#[derive(Default)]
pub(super) struct Gate {
    opens: Mutex<Option<Instant>>,
}

impl Gate {
    /// Closes the gate for `time`, unless it is already closed for longer.
    pub(super) fn shut(&self, time: Duration) {
        let mut opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner);
        *opens = (*opens).max(Some(Instant::now() + time));
    }

    /// Waits until the gate is open. If that is after `deadline`, returns how much longer it stays closed.
    pub(super) async fn pass(&self, deadline: Instant) -> Result<(), Duration> {
        while let Some(opens) = self.opens().filter(|opens| *opens > Instant::now()) {
            if opens > deadline {
                return Err(opens - Instant::now());
            }
            tokio::time::sleep_until(opens).await;
        }
        Ok(())
    }

    fn opens(&self) -> Option<Instant> {
        *self.opens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Allows a burst at once and the rest at a steady pace, because all jobs of the repository share one rate limit.
pub(super) struct Pacer {
    /// When the full burst is available again.
    refilled: Mutex<Option<Instant>>,
    interval: Duration,
    burst: u32,
}

impl Pacer {
    pub(super) fn new(interval: Duration, burst: u32) -> Self {
        Self { refilled: Mutex::new(None), interval, burst }
    }

    /// Waits for the next turn.
    pub(super) async fn turn(&self) {
        let wait = self.book(Instant::now());
        tokio::time::sleep(wait).await;
    }

    /// Books a turn at `now` and returns the time until then (generic cell rate algorithm).
    fn book(&self, now: Instant) -> Duration {
        let mut refilled = self.refilled.lock().unwrap_or_else(PoisonError::into_inner);
        let next = refilled.map_or(now, |at| at.max(now)) + self.interval;
        *refilled = Some(next);
        (next - now).saturating_sub(self.interval * self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_is_paced() {
        let second = Duration::from_secs(1);
        let pacer = Pacer::new(second, 3);
        let now = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| pacer.book(now)).collect();
        assert_eq!(waits, [Duration::ZERO, Duration::ZERO, Duration::ZERO, second, 2 * second]);
        // Long after, the full burst is available again.
        let later = now + 100 * second;
        assert_eq!(
            (0..4).map(|_| pacer.book(later)).collect::<Vec<_>>(),
            [Duration::ZERO, Duration::ZERO, Duration::ZERO, second]
        );
    }

    #[test]
    fn no_minute_has_the_two_hundred_reservations_after_which_the_service_throttles() {
        let tuning = super::super::Tuning::default();
        let pacer = Pacer::new(tuning.creation_interval, tuning.creation_burst);
        let start = Instant::now();
        // A burst, a pause in which part of it becomes available again, and then full speed.
        let asked = (0..30).map(|_| start).chain(std::iter::repeat_n(start + Duration::from_secs(20), 400));
        let turns: Vec<Instant> = asked.map(|at| at + pacer.book(at)).collect();
        for first in &turns {
            let within = turns.iter().filter(|turn| *turn >= first && **turn < *first + Duration::from_mins(1)).count();
            assert!(within < 200, "{within} in one minute");
        }
    }

    #[tokio::test]
    async fn a_shut_gate_turns_away_whoever_cannot_wait() {
        let gate = Gate::default();
        assert_eq!(gate.pass(Instant::now()).await, Ok(()));
        gate.shut(Duration::from_mins(1));
        gate.shut(Duration::from_secs(1));
        let left = gate.pass(Instant::now() + Duration::from_secs(5)).await.unwrap_err();
        assert!(left > Duration::from_secs(50), "{left:?}");
    }

    #[tokio::test]
    async fn a_gate_opens_by_itself() {
        let gate = Gate::default();
        gate.shut(Duration::from_millis(20));
        assert_eq!(gate.pass(Instant::now() + Duration::from_secs(5)).await, Ok(()));
        assert!(gate.opens() <= Some(Instant::now()), "it let somebody through while it was shut");
    }
}
