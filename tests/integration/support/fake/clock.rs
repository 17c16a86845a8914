//! The fake's own clock: it runs with the machine's and can be moved forward.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

/// Milliseconds since 1970, in UTC.
pub(super) type Millis = u64;

/// A clock that tests can move.
#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead: AtomicU64,
}

impl Clock {
    /// The time here.
    pub(super) fn now(&self) -> Millis {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine's clock is past 1970");
        millis(real) + self.ahead.load(Ordering::SeqCst)
    }

    /// Moves the clock forward.
    pub(super) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(millis(by), Ordering::SeqCst);
    }
}

/// A duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> Millis {
    duration.as_millis() as u64
}

/// The form of signed addresses and of the REST answers: `2026-11-24T01:02:03Z`.
pub(super) fn rfc3339(at: Millis) -> String {
    date(at).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The form of the HTTP header `Last-Modified`.
pub(super) fn http_date(at: Millis) -> String {
    date(at).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Reads what [`rfc3339`] wrote.
pub(super) fn parse_rfc3339(text: &str) -> Option<Millis> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis().max(0) as u64)
}

fn date(at: Millis) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp_millis(at as i64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_back() {
        assert_eq!(rfc3339(1_795_482_123_000), "2026-11-24T01:02:03Z");
        assert_eq!(parse_rfc3339("2026-11-24T01:02:03Z"), Some(1_795_482_123_000));
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn the_clock_moves_when_told() {
        let clock = Clock::default();
        let before = clock.now();
        clock.advance(Duration::from_hours(1));
        assert!(clock.now() >= before + 3_600_000);
    }
}
