//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the seconds since 1970.
#[must_use]
pub(crate) fn now() -> u64 {
    seconds(SystemTime::now())
}

/// Returns the seconds from 1970 to `time`; 0 for an earlier time.
#[must_use]
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
