//! Which artifacts are read, and in which order.

use super::*;
use crate::remote::github::OfRun;

fn artifact(id: u64, run: u64) -> ArtifactInfo {
    ArtifactInfo { id, workflow_run: Some(OfRun { id: run }), ..ArtifactInfo::default() }
}

#[test]
fn a_run_with_many_artifacts_does_not_keep_those_of_others_away() {
    // One run has the newest thousand.
    let mut all: Vec<ArtifactInfo> = (0..1_000).map(|index| artifact(2_000 - index, 9)).collect();
    all.extend([artifact(7, 8), artifact(6, 8), artifact(5, 7)]);
    let order: Vec<u64> = in_turn(all).iter().map(|artifact| artifact.id).collect();
    assert_eq!(order[..6], [2_000, 7, 5, 1_999, 6, 1_998]);
    assert_eq!(order.len(), MOST_OF_RUN + 3);
}

#[test]
fn what_was_not_read_is_said() {
    let read = Collected { runs: vec![Run::default()], total: 1, ..Collected::default() };
    assert_eq!(read.sentence(), "1 record of jobs in artifacts: 1 read.");
    let why = Some("GitHub limits requests.".to_owned());
    let some = Collected { total: 9, known: 2, expired: 1, refused: vec!["x".to_owned()], why, ..read };
    let said = some.sentence();
    assert!(
        said.starts_with("9 records of jobs in artifacts: 1 read, 2 known already, 1 expired, 1 left out. The rest"),
        "{said}"
    );
    assert!(said.ends_with("GitHub limits requests."), "{said}");
}
