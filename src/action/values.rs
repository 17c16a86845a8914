//! The types of input values and how each is read from text. Whatever a value may be, the text that says so for an
//! error message stands beside its parser.

use std::fmt;
use std::time::Duration;

use crate::github::status::JobStatus;
use crate::report::Action;

/// When to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveWhen {
    /// When something new is worth its upload, however the job went.
    #[default]
    Auto,
    /// Whenever there is anything new.
    Always,
    /// As `Auto`, in jobs that have not failed.
    OnSuccess,
    /// Not at all.
    Never,
}

/// What to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Every path that the job has.
    #[default]
    All,
    /// Only what no substituter offers.
    NotUpstream,
}

/// How paths get into the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestoreMode {
    /// Mount where that is possible, unpack elsewhere.
    #[default]
    Auto,
    /// Mount, or miss.
    Mount,
    /// Unpack.
    Unpack,
}

/// What fails a job, on the user's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailOn {
    /// The key itself was not found.
    PrimaryKeyMiss,
    /// The key itself was not found, or could not be restored.
    PrimaryKeyNotRestored,
    /// Neither the key nor one of its prefixes was found.
    FirstMatchMiss,
    /// Nothing was restored.
    FirstMatchNotRestored,
}

impl fmt::Display for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = FAIL_ON.iter().find(|(_, value)| value == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

/// A text that is neither shown nor written by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for a request's header and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

pub(crate) const SAVE: &[(&str, SaveWhen)] = &[
    ("auto", SaveWhen::Auto),
    ("always", SaveWhen::Always),
    ("on-success", SaveWhen::OnSuccess),
    ("never", SaveWhen::Never),
    ("true", SaveWhen::Auto),
    ("false", SaveWhen::Never),
];
pub(crate) const INCLUDE: &[(&str, Include)] = &[("all", Include::All), ("not-upstream", Include::NotUpstream)];
pub(crate) const RESTORE_MODE: &[(&str, RestoreMode)] =
    &[("auto", RestoreMode::Auto), ("mount", RestoreMode::Mount), ("unpack", RestoreMode::Unpack)];
pub(crate) const FAIL_ON: &[(&str, FailOn)] = &[
    ("primary-key.miss", FailOn::PrimaryKeyMiss),
    ("primary-key.not-restored", FailOn::PrimaryKeyNotRestored),
    ("first-match.miss", FailOn::FirstMatchMiss),
    ("first-match.not-restored", FailOn::FirstMatchNotRestored),
];
pub(crate) const ACTION: &[(&str, Action)] = &[
    ("both", Action::Both),
    ("restore", Action::Restore),
    ("save", Action::Save),
    ("probe", Action::Probe),
    ("build", Action::Build),
];
pub(crate) const JOB_STATUS: &[(&str, JobStatus)] = &[
    ("success", JobStatus::Success),
    ("failure", JobStatus::Failure),
    ("cancelled", JobStatus::Cancelled),
    ("unknown", JobStatus::Unknown),
];
pub(crate) const BOOLEAN: &[(&str, bool)] = &[("true", true), ("false", false)];

pub(crate) const SIZE: &str = "a number of bytes above 0, or one with K, M, G or T behind it, such as 500M or 5G";
pub(crate) const DURATION: &str = "a number of seconds above 0, or hours, minutes and seconds such as 10m or 1h30m";
pub(crate) const COUNT: &str = "a whole number";
pub(crate) const LEVEL: &str = "a whole number from 1 to 22";

/// The value that `text` names in `table`.
pub(crate) fn one_of<T: Copy>(table: &[(&str, T)], text: &str) -> Option<T> {
    table.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

/// The names of `table`, for a sentence.
pub(crate) fn names<T>(table: &[(&str, T)]) -> String {
    table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Bytes: `5G`, `500M`, `1024K`, `2T` (powers of 1024, either case) or a plain number. None for zero and for more than
/// 64 bits can hold.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let last = text.chars().next_back()?;
    let shift = match last.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    number(digits)?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

/// A time: seconds (`600`) or parts in falling order (`1h30m`, `10m`, `90s`). None for zero and for anything else.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let seconds = if text.ends_with(|last: char| last.is_ascii_digit()) { number(text)? } else { parts(text)? };
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The zstd level that `text` says, 1 to 22.
pub(crate) fn level(text: &str) -> Option<i32> {
    number(text).and_then(|level| i32::try_from(level).ok()).filter(|level| (1..=22).contains(level))
}

pub(crate) fn count(text: &str) -> Option<u32> {
    number(text).and_then(|count| u32::try_from(count).ok())
}

/// Lines without white space at either end, without empty ones.
pub(crate) fn lines(text: &str) -> Vec<String> {
    split(text, |c| c == '\n')
}

/// As [`lines`], and commas part too.
pub(crate) fn lines_and_commas(text: &str) -> Vec<String> {
    split(text, |c| matches!(c, '\n' | ','))
}

/// Words between commas and any white space.
pub(crate) fn words(text: &str) -> Vec<String> {
    split(text, |c| c == ',' || c.is_whitespace())
}

fn split(text: &str, at: fn(char) -> bool) -> Vec<String> {
    text.split(at).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parts(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut seconds = 0_u64;
    for (unit, worth) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((count, behind)) = rest.split_once(unit) {
            seconds = seconds.checked_add(number(count)?.checked_mul(worth)?)?;
            rest = behind;
        }
    }
    rest.is_empty().then_some(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let taken =
            [("1", 1), ("500M", 500 << 20), ("5G", 5 << 30), ("5g", 5 << 30), ("1024K", 1 << 20), ("2T", 2 << 40)];
        for (text, bytes) in taken {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in
            ["", "0", "0G", "-1", "+1", "5 G", "5GB", "G", "1.5G", "5Ġ", "é", "18446744073709551616", "16777216T"]
        {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        let taken = [("600", 600), ("10m", 600), ("1h30m", 5400), ("1h", 3600), ("90s", 90), ("1h1m1s", 3661)];
        for (text, seconds) in taken {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "0", "0m", "-5", "m", "10m30", "30s10m", "1m1m", "10 m", "10min", "1d", "99999999999999999999h"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn lists_and_levels() {
        assert_eq!(lines(" a,b \r\n\n c\n"), ["a,b", "c"]);
        assert_eq!(lines_and_commas("a, b\nc,,"), ["a", "b", "c"]);
        assert_eq!(words("CC CXX,RUSTFLAGS\n\tX "), ["CC", "CXX", "RUSTFLAGS", "X"]);
        assert_eq!(
            (level("1"), level("22"), level("0"), level("23"), level("+3")),
            (Some(1), Some(22), None, None, None)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = (size(&text), duration(&text), level(&text));
            for item in lines_and_commas(&text).iter().chain(&words(&text)) {
                prop_assert!(!item.is_empty() && item.trim() == item && !item.contains(['\n', ',']));
            }
        }

        #[test]
        fn a_size_is_its_digits_times_its_unit(digits in 1_u64..1 << 23, unit in 0_usize..5) {
            let text = format!("{digits}{}", ["", "K", "M", "G", "T"][unit]);
            prop_assert_eq!(size(&text), Some(digits << (10 * unit)));
        }

        #[test]
        fn hours_minutes_and_seconds_add_up(h in 0_u64..100, m in 0_u64..100, s in 1_u64..100) {
            prop_assert_eq!(duration(&format!("{h}h{m}m{s}s")), Some(Duration::from_secs(h * 3600 + m * 60 + s)));
        }
    }
}
