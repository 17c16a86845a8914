//! Tests of the base for each event, in real clones, and of the outputs.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::plan::{Decision, Level, Matrix};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=t", "-c", "user.email=t@t"];
    let output = Command::new("git").arg("-C").arg(folder).args(who).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A commit with this message, which distinguishes it from others of the same second.
fn commit(folder: &Path, message: &str) -> String {
    git(folder, &["commit", "--quiet", "--allow-empty", "--message", message]);
    git(folder, &["rev-parse", "HEAD"])
}

/// A repository with a default branch and another branch, and a clone with only the merge of the two, as actions/checkout
/// creates it for a pull request.
struct Repositories {
    _folder: tempfile::TempDir,
    clone: Repository,
    /// The newest commits of the default branch and of the other one, and the commit that they have in common.
    main: String,
    branch: String,
    fork: String,
    head: String,
}

fn repositories() -> Repositories {
    let folder = tempfile::tempdir().unwrap();
    let (origin, clone) = (folder.path().join("origin"), folder.path().join("clone"));
    fs::create_dir_all(&origin).unwrap();
    git(&origin, &["init", "--quiet", "--initial-branch=main"]);
    let fork = commit(&origin, "fork");
    git(&origin, &["checkout", "--quiet", "-b", "topic"]);
    let branch = commit(&origin, "branch");
    git(&origin, &["checkout", "--quiet", "main"]);
    let main = commit(&origin, "main");
    git(&origin, &["checkout", "--quiet", "--detach"]);
    git(&origin, &["merge", "--quiet", "--no-ff", "--message", "merge", "topic"]);
    let head = git(&origin, &["rev-parse", "HEAD"]);
    let from = format!("file://{}", origin.display());
    git(folder.path(), &["clone", "--quiet", "--depth=1", &from, clone.to_str().unwrap()]);
    Repositories { clone: Repository::open(&clone, None).unwrap(), _folder: folder, main, branch, fork, head }
}

fn facts(git_ref: &str, sha: &str) -> Facts {
    Facts { git_ref: git_ref.to_owned(), sha: sha.to_owned(), ..Facts::default() }
}

fn push(before: Option<&str>) -> Event {
    Event::Push { before: before.map(str::to_owned), default_branch: "main".to_owned() }
}

fn to(commit: &str, trust: Trust) -> Wish {
    Wish::Commit { commit: commit.to_owned(), trust }
}

#[test]
fn each_event_has_its_base() {
    let all = repositories();
    let of = |event: Result<Event, String>, facts: &Facts| wish(&event, facts, &all.clone);
    let on = |git_ref: &str| facts(git_ref, &all.head);
    assert_eq!(of(Ok(push(Some("c0ffee"))), &on("refs/heads/main")), to("c0ffee", Trust::Planned));
    assert_eq!(
        of(Ok(push(None)), &on("refs/heads/topic")),
        to(&all.main, Trust::Planned),
        "the default branch, which is not here"
    );
    let base = |base: &str| Ok(Event::PullRequest { base: base.to_owned() });
    // The event names an older commit than the one that was merged.
    assert_eq!(of(base(&all.fork), &on("refs/pull/7/merge")), to(&all.main, Trust::Assumed));
    // If something else than the merge is checked out, the event decides.
    assert_eq!(of(base(&all.fork), &facts("refs/pull/7/merge", "another")), to(&all.fork, Trust::Assumed));
    let group = Ok(Event::MergeGroup { base: all.main.clone() });
    assert_eq!(of(group, &on("refs/heads/gh-readonly-queue/main/pr-7")), to(&all.main, Trust::Assumed));
    for (event, git_ref, why) in [
        (Ok(push(None)), "refs/heads/main", "first push"),
        (Ok(push(None)), "refs/tags/v1", "new tag"),
        (Ok(Event::Other("schedule".to_owned())), "refs/heads/main", "`schedule`"),
        (Err("no payload".to_owned()), "refs/heads/main", "no payload"),
    ] {
        let Wish::None { why: said } = of(event, &on(git_ref)) else { panic!("{why}") };
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_pull_request_whose_head_is_checked_out_is_compared_with_what_both_have_in_common() {
    let all = repositories();
    git(all.clone.top(), &["fetch", "--quiet", "--unshallow", "origin", &all.branch, &all.main]);
    git(all.clone.top(), &["checkout", "--quiet", &all.branch]);
    let event = Ok(Event::PullRequest { base: all.main.clone() });
    assert_eq!(wish(&event, &facts("refs/pull/7/merge", &all.head), &all.clone), to(&all.fork, Trust::Assumed));
}

#[test]
fn a_default_branch_that_cannot_be_had_is_no_base() {
    let all = repositories();
    git(all.clone.top(), &["remote", "set-url", "origin", "/does/not/exist"]);
    let Wish::None { why } = wish(&Ok(push(None)), &facts("refs/heads/topic", &all.head), &all.clone) else { panic!() };
    assert!(why.starts_with("the branch is new, and main is not available: git ls-remote"), "{why}");
}

fn sample(targets: usize) -> Plan {
    let decision = |number: usize| Decision {
        target: format!("checks.x86_64-linux.check-{number:04}"),
        attr: String::new(),
        verdict: if number.is_multiple_of(2) { Verdict::Skip } else { Verdict::Build },
        level: Level::Derivation,
        reason: "its derivation changed, and this says so at some length".repeat(3),
        system: "x86_64-linux".to_owned(),
        drv: None,
        wanted: String::new(),
        is_small: true,
    };
    Plan {
        base: plan::Base { commit: None, why: String::new(), planned: None, changed: Ok(Vec::new()) },
        rules: String::new(),
        decisions: (0..targets).map(decision).collect(),
        matrix: Matrix::default(),
        notes: Vec::new(),
        kept: None,
        scope: String::new(),
        evaluation_ms: 0,
    }
}

/// The names under `outputs:` in an action file of ours.
fn declared(file: &str) -> Vec<&str> {
    let lines = file.lines().skip_while(|line| *line != "outputs:").skip(1).take_while(|line| line.starts_with(' '));
    let names = lines.filter_map(|line| line.strip_prefix("  ")).filter(|rest| !rest.starts_with(' '));
    names.map(|name| name.trim_end_matches(':')).collect()
}

#[test]
fn outputs_are_those_that_are_declared() {
    let all = outputs(&sample(3));
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, declared(include_str!("../../plan/action.yml")));
    let hook = declared(include_str!("../../hook/action.yml"));
    assert!(names.iter().all(|name| hook.contains(name)));
    let value = |name: &str| all.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()).unwrap();
    assert_eq!((value("matrix"), value("any-jobs")), (r#"{"include":[]}"#, "false"));
    assert_eq!(value("affected"), r#"["checks.x86_64-linux.check-0001"]"#);
    let reasons: Value = serde_json::from_str(value("reason")).unwrap();
    assert_eq!(reasons["checks.x86_64-linux.check-0000"]["verdict"], "skip");
}

#[test]
fn reasons_of_what_is_built_have_room_first() {
    let reasons = reasons(&sample(6000));
    assert!(reasons.len() <= MOST_REASONS && reasons.len() > MOST_REASONS / 2);
    let all: BTreeMap<String, Value> = serde_json::from_str(&reasons).unwrap();
    assert!(all.values().all(|one| one["verdict"] == "build"), "there is no room even for all of these");
}
