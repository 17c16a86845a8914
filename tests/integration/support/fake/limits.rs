//! Counting requests in windows of a minute, as the service limits creations and downloads of a repository.

use super::clock::Millis;

const WINDOW: Millis = 60_000;

/// The requests of one window, which opens with the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    opened: Millis,
    used: u64,
}

impl Window {
    /// Counts one request at `now`.
    ///
    /// # Errors
    /// The seconds until the window closes, when `limit` of them were counted in it.
    pub(super) fn admit(&mut self, now: Millis, limit: u64) -> Result<(), u64> {
        if self.used == 0 || now >= self.opened + WINDOW {
            *self = Self { opened: now, used: 0 };
        }
        if self.used >= limit {
            return Err((self.opened + WINDOW - now).div_ceil(1000).max(1));
        }
        self.used += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fills_and_opens_again() {
        let mut window = Window::default();
        assert_eq!(window.admit(1_000, 2), Ok(()));
        assert_eq!(window.admit(2_000, 2), Ok(()));
        assert_eq!(window.admit(21_000, 2), Err(40));
        assert_eq!(window.admit(60_999, 2), Err(1));
        assert_eq!(window.admit(61_000, 2), Ok(()));
    }
}
