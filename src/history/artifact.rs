//! The record of one job as an artifact of its run: a zip archive with one line of JSON, which may come from a fork when it is read.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::Run;
use crate::base::digest::Sha;
use crate::base::zip::{self, ZipError};

/// The name of the file.
const FILE: &str = "run.jsonl";
/// What the names of artifacts begin with.
const PREFIX: &str = "nix-cache-history-";

/// Files of an archive that are read, and their size together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub files: usize,
    pub bytes: u64,
}

impl Bounds {
    /// For an archive that a user names, which may have been made of many artifacts.
    pub(crate) const FILE: Self = Self { files: 1_000, bytes: 16 << 20 };
    /// For the artifact of one job: a record has some hundred bytes.
    pub(crate) const ARTIFACT: Self = Self { files: 4, bytes: 64 << 10 };
}

/// The name of the artifact of a job, which no other job and no other attempt has.
pub(crate) fn artifact_name(run: &Run) -> String {
    let lane = Sha(Sha256::digest(&run.lane).into()).to_string();
    format!("{PREFIX}{}-{}-{}", run.run, run.attempt, &lane[..12])
}

/// The number of the run in the name of an artifact. None for the name of anything else.
pub(crate) fn run_in_name(name: &str) -> Option<u64> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let (run, attempt, lane) = (parts.next()?, parts.next()?, parts.next()?);
    let is_lane = lane.len() == 12 && lane.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_ours = is_lane && is_number(run) && attempt.parse::<u32>().is_ok() && is_number(attempt);
    is_ours.then(|| run.parse().ok()).flatten()
}

/// The artifact of a job.
pub(crate) fn artifact(run: &Run) -> Vec<u8> {
    let line = serde_json::to_string(run).unwrap_or_default() + "\n";
    zip::write(FILE, line.as_bytes())
}

/// The texts with records in an artifact. Other files in it are ignored.
pub(crate) fn texts_in(archive: &[u8], most: Bounds) -> Result<Vec<String>, ZipError> {
    let files = zip::read(archive, most.files, most.bytes)?;
    let wanted =
        files.into_iter().filter(|(name, _)| Path::new(name).extension().is_some_and(|ending| ending == "jsonl"));
    Ok(wanted.map(|(_, content)| String::from_utf8_lossy(&content).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_has_the_record_and_a_name_of_its_own() {
        let run = Run { run: 7, attempt: 2, lane: "CI/build ä".into(), hit: "miss".into(), ..Run::default() };
        let texts = texts_in(&artifact(&run), Bounds::ARTIFACT).unwrap();
        assert_eq!(
            texts.iter().map(|text| serde_json::from_str::<Run>(text).unwrap()).collect::<Vec<_>>(),
            std::slice::from_ref(&run)
        );
        let names = [
            artifact_name(&run),
            artifact_name(&Run { attempt: 3, ..run.clone() }),
            artifact_name(&Run { run: 8, ..run.clone() }),
            artifact_name(&Run { lane: "CI/build".into(), ..run }),
        ];
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')));
        assert_eq!(names.each_ref().map(|name| run_in_name(name)), [Some(7), Some(7), Some(8), Some(7)]);
        assert_eq!(std::collections::BTreeSet::from(names).len(), 4);
        for other in [
            "nix-cache-report-build",
            "nix-cache-history-",
            "nix-cache-history-7-1-short",
            "nix-cache-history--1-0123456789ab",
        ] {
            assert_eq!(run_in_name(other), None, "{other}");
        }
        assert_eq!(run_in_name("nix-cache-history-7-1-0123456789ab\n::warning::"), None);
    }
}
