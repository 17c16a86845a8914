//! The record of one job as an artifact of its run: a zip archive with one line of JSON, which may come from a fork when it is read.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::Run;
use crate::base::digest::Sha;
use crate::base::zip::{self, ZipError};

/// The name of the file.
const FILE: &str = "run.jsonl";
/// Files of an archive that are read, and their size together: a record has some hundred bytes, but an archive may have many of them.
const MOST_FILES: usize = 1_000;
const MOST_BYTES: u64 = 16 << 20;

/// The name of the artifact of a job, which no other job and no other attempt has.
pub(crate) fn artifact_name(run: &Run) -> String {
    let lane = Sha(Sha256::digest(&run.lane).into()).to_string();
    format!("nix-cache-history-{}-{}-{}", run.run, run.attempt, &lane[..12])
}

/// The artifact of a job.
pub(crate) fn artifact(run: &Run) -> Vec<u8> {
    let line = serde_json::to_string(run).unwrap_or_default() + "\n";
    zip::write(FILE, line.as_bytes())
}

/// The texts with records in an artifact. Other files in it are ignored.
pub(crate) fn texts_in(archive: &[u8]) -> Result<Vec<String>, ZipError> {
    let files = zip::read(archive, MOST_FILES, MOST_BYTES)?;
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
        let texts = texts_in(&artifact(&run)).unwrap();
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
        assert_eq!(std::collections::BTreeSet::from(names).len(), 4);
    }
}
