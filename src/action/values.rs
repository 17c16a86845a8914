//! The types of input values and how each is read from text. Whatever a value may be, the text that says so for an
//! error message stands beside its parser.

use std::fmt;

use crate::base::typed::number;
use crate::cache::Include;
use crate::github::status::JobStatus;
use crate::report::Action;

/// When to save.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SaveWhen {
    /// Whenever there is anything new, however the job went: `auto` and `always` are the same. What a path costs to build is known to
    /// nobody here, so there is no honest way to weigh it against its upload.
    #[default]
    Always,
    /// As `Always`, in jobs that have not failed.
    OnSuccess,
    /// Not at all.
    Never,
}

/// How paths get into the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RestoreMode {
    /// Mount where that is possible, unpack elsewhere.
    #[default]
    Auto,
    /// Mount, and unpack only where the kernel does not mount.
    Mount,
    /// Unpack.
    Unpack,
}

/// What fails a job, on the user's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailOn {
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

pub(crate) const SAVE: &[(&str, SaveWhen)] = &[
    ("auto", SaveWhen::Always),
    ("always", SaveWhen::Always),
    ("on-success", SaveWhen::OnSuccess),
    ("never", SaveWhen::Never),
    ("true", SaveWhen::Always),
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
pub(crate) const ACTION: &[(&str, Action)] =
    &[("both", Action::Both), ("restore", Action::Restore), ("save", Action::Save), ("build", Action::Build)];
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            let _ = level(&text);
            for item in lines_and_commas(&text).iter().chain(&words(&text)) {
                prop_assert!(!item.is_empty() && item.trim() == item && !item.contains(['\n', ',']));
            }
        }
    }
}
