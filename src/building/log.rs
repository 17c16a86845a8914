//! The log of one build, bounded: a builder may print for hours.

use std::collections::VecDeque;

/// Lines from the start that are kept.
const FIRST: usize = 500;
/// Lines from the end that are kept.
const LAST: usize = 4_500;

/// The first and the last lines of a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    first: Vec<String>,
    last: VecDeque<String>,
    left_out: u64,
}

impl Log {
    /// Adds a line.
    pub(crate) fn push(&mut self, line: String) {
        if self.first.len() < FIRST {
            self.first.push(line);
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(line);
    }

    /// The lines that are kept, with a word on those that are not.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let gap = (self.left_out > 0).then(|| format!("… {} lines are left out here …", self.left_out));
        self.first.iter().cloned().chain(gap).chain(self.last.iter().cloned())
    }

    /// The last `count` lines.
    #[must_use]
    pub(crate) fn tail(&self, count: usize) -> Vec<&str> {
        let all = self.first.iter().chain(&self.last).map(String::as_str);
        all.skip((self.first.len() + self.last.len()).saturating_sub(count)).collect()
    }

    /// Whether nothing was printed.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_long_log_are_kept() {
        let mut log = Log::default();
        assert!(log.is_empty() && log.tail(1).is_empty());
        for number in 0..10_000 {
            log.push(number.to_string());
        }
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), FIRST + LAST + 1);
        assert_eq!((lines[0].as_str(), lines.last().unwrap().as_str()), ("0", "9999"));
        assert_eq!(lines[FIRST], "… 5000 lines are left out here …");
        assert_eq!(log.tail(2), ["9998", "9999"]);
        assert_eq!(log.tail(1), ["9999"]);
    }
}
