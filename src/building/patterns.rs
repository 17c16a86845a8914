//! The table of messages of Nix and builders when something fails. The first matching row counts, so specific rows are above general
//! ones. Texts are compared in lower case with single spaces; the parts of a row must occur in order in the text.
//! `testdata/failures.tsv` has a real line for every row.

use super::category::Category;

/// Where a row looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In what Nix says.
    Message,
    /// In the last lines of the log of a derivation whose builder failed.
    Log,
    /// In the same, where the derivation is a download: others have no network, and what they say of it is a test's.
    DownloadLog,
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
    /// What follows from another failure.
    Consequence,
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Where to look.
    pub place: Place,
    /// Parts that follow each other.
    pub parts: &'static [&'static str],
    /// What that says.
    pub meaning: Meaning,
}

const fn row(place: Place, parts: &'static [&'static str], meaning: Meaning) -> Row {
    Row { place, parts, meaning }
}

use Category as C;
use Meaning::{Builder, Consequence, Fails, Passes};
use Place::{DownloadLog, Log, Message};

pub(crate) static TABLE: &[Row] = &[
    // What follows from something else. Nix 2.8, then 2.34, then `nix-build`.
    row(Message, &["dependencies of derivation", "failed to build"], Consequence),
    row(Message, &["cannot build", "reason:", "dependenc", "failed"], Consequence),
    row(Message, &["build of '/nix/store/", "' failed"], Consequence),
    // Wrong arguments.
    row(Message, &["unrecognised flag"], Fails(C::Unknown)),
    // Stopped.
    row(Message, &["interrupted by the user"], Fails(C::Cancelled)),
    // Time.
    row(Message, &["timed out after", "seconds"], Fails(C::TimeOut)),
    // Hashes.
    row(Message, &["hash mismatch in fixed-output derivation"], Fails(C::HashMismatch)),
    row(Message, &["hash mismatch in file downloaded from"], Fails(C::HashMismatch)),
    row(Message, &["nar hash mismatch in input"], Fails(C::HashMismatch)),
    row(Message, &["hash mismatch importing path"], Passes(C::Substituter)),
    // The machine. Above the builder's failure, since newer Nix adds a note to it.
    row(Message, &["no space left on device"], Fails(C::DiskFull)),
    row(Message, &["lack of free disk space"], Fails(C::DiskFull)),
    row(Message, &["database or disk is full"], Fails(C::DiskFull)),
    row(Message, &["disk quota exceeded"], Fails(C::DiskFull)),
    row(Message, &["failed with exit code 137"], Fails(C::OutOfMemory)),
    row(Message, &["failed due to signal 9"], Fails(C::OutOfMemory)),
    row(Message, &["cannot allocate memory"], Fails(C::OutOfMemory)),
    row(Message, &["out of memory"], Fails(C::OutOfMemory)),
    // What a builder did. Nix 2.8, then 2.34.
    row(Message, &["builder for '/nix/store/", "' failed"], Builder),
    row(Message, &["cannot build", "reason: builder failed"], Builder),
    row(Message, &["output '/nix/store/", "is not allowed to refer to"], Fails(C::Build)),
    row(Message, &["required system or feature not available"], Fails(C::Build)),
    row(Message, &["is required to build", "but i am a"], Fails(C::Build)),
    row(Message, &["may not be deterministic"], Fails(C::Build)),
    // Binary caches: what is asked for tells them from other downloads.
    row(Message, &["nar info file", "is corrupt"], Passes(C::Substituter)),
    row(Message, &["unable to download", ".narinfo", "http error"], Passes(C::Substituter)),
    row(Message, &["unable to download", ".narinfo"], Passes(C::Substituter)),
    row(Message, &["unable to download", "/nix-cache-info"], Passes(C::Substituter)),
    row(Message, &["unable to download", "/nar/"], Passes(C::Substituter)),
    row(Message, &["some substitutes for the outputs of derivation", "failed"], Passes(C::Substituter)),
    row(Message, &["lacks a signature by a trusted key"], Fails(C::Substituter)),
    row(Message, &["lacks a valid signature"], Fails(C::Substituter)),
    // Downloads. What a server refuses, it refuses the next time too.
    row(Message, &["unable to download", "http error 40"], Fails(C::Network)),
    row(Message, &["unable to download", "http error 41"], Fails(C::Network)),
    row(Message, &["unable to download"], Passes(C::Network)),
    row(Message, &["could not resolve host"], Passes(C::Network)),
    row(Message, &["unable to connect to", "connection refused"], Passes(C::Network)),
    row(Message, &["failed to connect to"], Passes(C::Network)),
    row(Message, &["connection timed out"], Passes(C::Network)),
    row(Message, &["connection reset by peer"], Passes(C::Network)),
    // Rights.
    row(Message, &["permission denied"], Fails(C::Permission)),
    row(Message, &["operation not permitted"], Fails(C::Permission)),
    row(Message, &["read-only file system"], Fails(C::Permission)),
    row(Message, &["you are not privileged"], Fails(C::Permission)),
    // A store whose files are not what its database says.
    row(Message, &["getting status of", "/nix/store/", "no such file or directory"], Fails(C::Cache)),
    row(Message, &["getting attributes of", "/nix/store/", "no such file or directory"], Fails(C::Cache)),
    row(Message, &["/nix/store/", "input/output error"], Fails(C::Cache)),
    row(Message, &["database disk image is malformed"], Fails(C::Cache)),
    row(Message, &["/nix/store/", "stale file handle"], Fails(C::Cache)),
    // Logs of builders that failed.
    row(Log, &["no space left on device"], Fails(C::DiskFull)),
    row(Log, &["disk quota exceeded"], Fails(C::DiskFull)),
    row(Log, &["out of memory"], Fails(C::OutOfMemory)),
    row(Log, &["cannot allocate memory"], Fails(C::OutOfMemory)),
    row(Log, &["virtual memory exhausted"], Fails(C::OutOfMemory)),
    row(Log, &["std::bad_alloc"], Fails(C::OutOfMemory)),
    row(Log, &["java.lang.outofmemoryerror"], Fails(C::OutOfMemory)),
    row(Log, &["killed signal terminated program"], Fails(C::OutOfMemory)),
    row(Log, &["(signal: 9, sigkill: kill)"], Fails(C::OutOfMemory)),
    row(DownloadLog, &["http error 40"], Fails(C::Network)),
    row(DownloadLog, &["returned error: 40"], Fails(C::Network)),
    row(DownloadLog, &["unable to download"], Passes(C::Network)),
    row(DownloadLog, &["could not resolve host"], Passes(C::Network)),
    row(DownloadLog, &["curl: ("], Passes(C::Network)),
    row(DownloadLog, &["cannot download", "from any mirror"], Passes(C::Network)),
    row(DownloadLog, &["connection refused"], Passes(C::Network)),
    row(DownloadLog, &["connection timed out"], Passes(C::Network)),
    row(DownloadLog, &["connection reset"], Passes(C::Network)),
    row(DownloadLog, &["temporary failure in name resolution"], Passes(C::Network)),
    row(Log, &["test result: failed."], Fails(C::Test)),
    row(Log, &["failed (failures="], Fails(C::Test)),
    row(Log, &["failed (errors="], Fails(C::Test)),
    row(Log, &["short test summary info"], Fails(C::Test)),
    row(Log, &["--- fail:"], Fails(C::Test)),
    row(Log, &["tests passed,", "tests failed out of"], Fails(C::Test)),
    row(Log, &["test script finished", "failed"], Fails(C::Test)),
    // What is left of Nix's errors at the end, once none of the above fits.
    row(Message, &["syntax error"], Fails(C::Evaluation)),
    row(Message, &["undefined variable"], Fails(C::Evaluation)),
    row(Message, &["does not provide attribute"], Fails(C::Evaluation)),
    row(Message, &["attribute '", "' missing"], Fails(C::Evaluation)),
    row(Message, &["infinite recursion"], Fails(C::Evaluation)),
    row(Message, &["while evaluating"], Fails(C::Evaluation)),
    row(Message, &["while calling"], Fails(C::Evaluation)),
    row(Message, &["assertion", "failed"], Fails(C::Evaluation)),
    row(Message, &["getting status of", "no such file or directory"], Fails(C::Evaluation)),
    row(Message, &["could not find a flake.nix file"], Fails(C::Evaluation)),
    row(Message, &["is not a flake"], Fails(C::Evaluation)),
    row(Message, &["cannot find flake"], Fails(C::Evaluation)),
    row(Message, &["unexpected argument"], Fails(C::Evaluation)),
    row(Message, &["called without required argument"], Fails(C::Evaluation)),
    row(Message, &["while a", "was expected"], Fails(C::Evaluation)),
];

/// What the first row of `places` that fits a text says. The text is folded (see [`super::text::folded`]).
#[must_use]
pub(crate) fn look_up(places: &[Place], folded: &str) -> Option<Meaning> {
    let fitting = TABLE.iter().find(|row| places.contains(&row.place) && fits(row.parts, folded));
    fitting.map(|row| row.meaning)
}

/// What the uppermost row of `places` that fits one of several folded lines says.
#[must_use]
pub(crate) fn look_up_in(places: &[Place], lines: &[String]) -> Option<Meaning> {
    let rows = TABLE.iter().filter(|row| places.contains(&row.place));
    let fitting = rows.into_iter().find(|row| lines.iter().any(|line| fits(row.parts, line)));
    fitting.map(|row| row.meaning)
}

fn fits(parts: &[&str], text: &str) -> bool {
    let rest = parts.iter().try_fold(text, |rest, part| rest.split_once(part).map(|(_, rest)| rest));
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::building::text::folded;

    const REAL: &str = include_str!("testdata/failures.tsv");

    fn real() -> impl Iterator<Item = (Place, &'static str, String)> {
        REAL.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let mut parts = line.splitn(3, '\t');
            let place = match parts.next().unwrap() {
                "message" => Place::Message,
                "log" => Place::Log,
                "download" => Place::DownloadLog,
                other => panic!("{other} is no place"),
            };
            (place, parts.next().unwrap(), folded(&parts.next().unwrap().replace("\\n", "\n")))
        })
    }

    fn word(meaning: Option<Meaning>) -> String {
        match meaning {
            Some(Meaning::Fails(category)) => category.word().to_owned(),
            Some(Meaning::Passes(category)) => format!("{}?", category.word()),
            Some(Meaning::Builder) => "builder".to_owned(),
            Some(Meaning::Consequence) => "consequence".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn real_lines_are_understood() {
        for (place, expected, line) in real() {
            assert_eq!(word(look_up(&[place], &line)), expected, "{line}");
        }
    }

    #[test]
    fn every_row_has_a_real_line_that_no_row_above_it_takes() {
        for row in TABLE {
            let first = |line: &str| TABLE.iter().find(|other| other.place == row.place && fits(other.parts, line));
            let taken = real().any(|(place, _, line)| {
                place == row.place && first(&line).is_some_and(|found| std::ptr::eq(found, row))
            });
            assert!(taken, "no real line comes to the row {row:?}");
        }
    }

    #[test]
    fn parts_follow_each_other() {
        assert!(fits(&["a", "b"], "x a y b z") && !fits(&["b", "a"], "a b") && fits(&[], ""));
        assert!(
            TABLE.iter().all(|row| row.parts.iter().all(|part| *part == folded(part) || part.trim() == folded(part)))
        );
    }
}
