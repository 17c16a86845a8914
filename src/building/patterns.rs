//! What rows of the table of failures say, and how they are found.
//!
//! The first row that fits counts, so what is special stands above what is general. Texts are compared in lower case with single
//! spaces; the parts of a row must follow each other in the text.

use super::category::Category;
use super::statuses;
use super::table::TABLE;
use super::text::folded;

/// Where a row looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In what Nix says.
    Message,
    /// In the last lines of the log of a derivation whose builder failed.
    Log,
    /// In what a program says that downloads: the log of a derivation that is a download, and what Git says when Nix runs it. Other
    /// builders have no network, and what they say of it is a test's.
    Download,
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A failure of this category that lasts.
    Fails(Category),
    /// A failure of this category that may be over the next time.
    Passes(Category),
    /// The builder failed: its log may know better.
    Builder,
    /// A program that fetches an input failed: what it said may know better.
    Fetcher,
    /// No substituter has a path that cannot be built: what was said of substituters before may know better.
    Missing,
    /// A file is missing: from the flake, from the store, or elsewhere.
    File,
    /// What follows from another failure.
    Consequence,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Where to look.
    pub place: Place,
    /// Parts that follow each other.
    pub parts: &'static [&'static str],
    /// What that says.
    pub meaning: Meaning,
    /// What to do about it; empty where the category's remedy is as good.
    pub remedy: &'static str,
}

pub(super) const fn row(place: Place, parts: &'static [&'static str], meaning: Meaning) -> Row {
    Row { place, parts, meaning, remedy: "" }
}

pub(super) const fn with(remedy: &'static str, row: Row) -> Row {
    Row { remedy, ..row }
}

/// The first row of `places` that fits a text.
#[must_use]
pub(crate) fn look_up(places: &[Place], text: &str) -> Option<&'static Row> {
    let text = folded(text);
    TABLE.iter().find(|row| places.contains(&row.place) && fits(row.parts, &text))
}

/// The uppermost row of `places` that fits one of several lines.
#[must_use]
pub(crate) fn look_up_in(places: &[Place], lines: &[&str]) -> Option<&'static Row> {
    let lines: Vec<String> = lines.iter().map(|line| statuses::marked(&folded(line))).collect();
    let mut rows = TABLE.iter().filter(|row| places.contains(&row.place));
    rows.find(|row| lines.iter().any(|line| fits(row.parts, line)))
}

fn fits(parts: &[&str], text: &str) -> bool {
    let rest = parts.iter().try_fold(text, |rest, part| rest.split_once(part).map(|(_, rest)| rest));
    rest.is_some()
}

#[cfg(test)]
#[path = "patterns_test.rs"]
mod tests;
