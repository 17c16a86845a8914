//! Tests of [`super`]: real commands, side by side.

use super::*;
use crate::building::live::Style;

fn setting(folder: &Path) -> Setting {
    Setting { folder: folder.to_owned(), store_root: None, nix_args: Vec::new() }
}

async fn run_all(requests: &[CheckRequest], folder: &Path) -> Vec<Check> {
    let (_keep, cancelled) = watch::channel(false);
    let mut live = Live::new(Box::new(io::sink()), Style::Groups);
    run(requests, &setting(folder), &mut live, &cancelled).await
}

#[tokio::test]
async fn every_result_is_there_and_none_hides_another() {
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str| Work::Program(vec![name.to_owned()]);
    let mut requests: Vec<_> = ["bad: echo out; echo err >&2; exit 3", "good: test -z \"$GITHUB_TOKEN\""]
        .iter()
        .filter_map(|line| parse(line))
        .collect();
    requests.push(CheckRequest { name: "absent".into(), work: program("nix-cache-no-such-program") });
    requests.push(CheckRequest { name: "flake".into(), work: Work::Flake(vec!["flake".into(), "check".into()]) });
    requests.push(CheckRequest { name: "format".into(), work: Work::Format });
    let checks = run_all(&requests, folder.path()).await;
    let verdicts: Vec<_> = checks.iter().map(|check| (check.name.as_str(), check.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            ("bad", Verdict::Failed),
            ("good", Verdict::Passed),
            ("absent", Verdict::NotRun),
            ("flake", Verdict::NotRun),
            ("format", Verdict::NotRun)
        ]
    );
    assert_eq!(checks[0].log, ["out", "err"]);
    assert!(checks[0].reason.contains('3') && checks[2].reason.contains("not installed"), "{checks:?}");
    assert!(checks[3].reason.contains("no flake.nix"), "{checks:?}");
}

#[tokio::test]
async fn checks_run_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    // Each waits for the other: one after the other, neither would end.
    let wait = |mine: &str, other: &str| format!("{mine}: touch {mine}; while ! test -e {other}; do sleep 0.05; done");
    let requests: Vec<_> = [wait("a", "b"), wait("b", "a")].iter().filter_map(|line| parse(line)).collect();
    let done = tokio::time::timeout(std::time::Duration::from_mins(1), run_all(&requests, folder.path())).await;
    assert!(done.expect("both end").iter().all(|check| check.verdict == Verdict::Passed));
}

#[tokio::test]
async fn a_cancelled_check_has_not_passed() {
    let folder = tempfile::tempdir().unwrap();
    let (cancel, cancelled) = watch::channel(false);
    let requests = [parse("slow: touch begun; sleep 1000").unwrap()];
    let mut live = Live::new(Box::new(io::sink()), Style::Plain);
    let begun = folder.path().join("begun");
    tokio::spawn(async move {
        while !begun.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let _ = cancel.send(true);
        std::future::pending::<()>().await;
    });
    let checks = run(&requests, &setting(folder.path()), &mut live, &cancelled).await;
    assert_eq!((checks[0].verdict, checks[0].reason.as_str()), (Verdict::NotRun, "it was cancelled"));
}

#[test]
fn lines_have_a_name_and_a_command() {
    let check = parse(" my lint :  cargo fmt --check: x ").unwrap();
    assert_eq!((check.name.as_str(), check.work), ("my lint", Work::Shell("cargo fmt --check: x".into())));
    for wrong in ["cargo fmt", ": x", "a:", "a/b: c", ""] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
    let names: Vec<_> = defaults().into_iter().map(|check| check.name).collect();
    assert_eq!(names, ["format", "statix", "deadnix", "flake-check"]);
}

#[test]
fn nix_gets_store_and_settings_in_front_of_the_dashes() {
    let setting = Setting { store_root: Some("/s".into()), nix_args: vec!["-v".into()], ..setting(Path::new("/")) };
    let words = nix(&["fmt", "--", "."].map(str::to_owned), &setting);
    assert_eq!(words[words.len() - 5..], ["--store", "/s", "-v", "--", "."]);
    assert_eq!(words[..2], ["nix", "fmt"]);
}
