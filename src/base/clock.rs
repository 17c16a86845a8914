//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the seconds since 1970.
#[must_use]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
