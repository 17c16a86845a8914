//! `nix-cache comment` against a server that behaves like GitHub's REST interface, and misbehaves like it: many pages, limits, missing
//! permissions, comments of other accounts, lost answers.

mod closure;
mod server;

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::program::Run;
use server::{BOT, HEAD, Server, a_pull, report};

const MARKER: &str = "<!-- nix-cache:report:default -->";

#[test]
fn one_comment_is_written_and_then_replaced() {
    let server = Server::start();
    // Two pages before it, and one of somebody else who writes the same first line.
    server.with(|of| {
        of.comments = (0..205).map(|number| (number, format!("user-{number}"), "Nice.".to_owned())).collect();
        of.comments[50].2 = format!("{MARKER}\nMine.");
        of.comments[51] = (51, BOT.to_owned(), format!("A quote: {MARKER}"));
        of.comments[52] = (52, BOT.to_owned(), "<!-- nix-cache:report:other -->\nOf another workflow.".to_owned());
    });
    let run = server.comment(&[]);
    assert_eq!(run.code, Some(0), "{}", run.log);
    assert!(
        run.log.contains("Wrote the comment https://github.com/octo/clock/pull/7#issuecomment-1205"),
        "{}",
        run.log
    );
    assert_eq!(server.with(|of| (of.comments.len(), of.lists, of.changes)), (206, 3, 1));
    let body = server.with(|of| of.comments[205].2.clone());
    assert!(body.starts_with(MARKER) && body.contains("| `CI/build` | ✅ success | 90.0 % |"), "{body}");
    assert!(
        body.contains("Commit `111111111111`, in [this run](https://github.com/octo/clock/actions/runs/99)"),
        "{body}"
    );
    server.put("nix-cache-report-checks/report.json", &report("CI/checks"));
    let run = server.comment(&[]);
    assert!(run.code == Some(0) && run.log.contains("Updated the comment"), "{}", run.log);
    let (count, body) = server.with(|of| (of.comments.len(), of.comments[205].2.clone()));
    assert!(count == 206 && body.contains("`CI/checks`") && body.contains("`CI/build`"), "{body}");
    assert!(
        server.with(|of| of.comments[50].2 == format!("{MARKER}\nMine.") && of.comments[51].2.starts_with("A quote"))
    );
}

#[test]
fn the_account_is_asked_for_or_given() {
    let server = Server::start();
    server.with(|of| {
        of.login = Some("octocat");
        of.comments = vec![(1, BOT.to_owned(), MARKER.to_owned()), (2, "OctoCat".to_owned(), MARKER.to_owned())];
    });
    assert_eq!(server.comment(&[]).code, Some(0));
    assert!(server.with(|of| of.comments[0].2 == MARKER && of.comments[1].2.contains("CI/build")));
    // A token of an app writes as another account than expected, and the log says how to name it.
    let server = Server::start();
    server.with(|of| of.comments = vec![(1, "clock-app[bot]".to_owned(), MARKER.to_owned())]);
    let run = server.comment(&["--author", "clock-app[bot]"]);
    assert!(run.code == Some(0) && run.log.contains("Updated"), "{}", run.log);
    server.with(|of| of.comments.clear());
    let run = server.comment(&["--author", "clock-app[bot]"]);
    assert!(run.log.contains("was written as github-actions[bot]"), "{}", run.log);
}

#[test]
fn a_missing_permission_is_a_warning_that_names_it() {
    let server = Server::start();
    server.with(|of| of.refuses = vec![(403, "Resource not accessible by integration")]);
    let (run, outputs) = server.action(&json!({}));
    assert_eq!(run.code, Some(0), "{}{}", run.out, run.log);
    assert!(run.out.contains("::warning") && run.out.contains("`pull-requests: write`"), "{}", run.out);
    assert!(!run.out.contains("comment-forks"), "{}", run.out);
    assert!(outputs.contains("comment-result") && outputs.contains("\nfailed\n"), "{outputs}");
    // From a fork, the remedy is another workflow.
    server.with(|of| {
        of.refuses = vec![(403, "Resource not accessible by integration")];
        of.pulls = vec![a_pull(7, HEAD, "eve/clock")];
    });
    let (run, _) = server.action(&json!({}));
    assert!(run.code == Some(0) && run.out.contains("examples/comment-forks.yml"), "{}", run.out);
    // On a command line, it is an error.
    server.with(|of| of.refuses = vec![(403, "Unable to create comment because issue is locked.")]);
    let run = server.comment(&[]);
    assert!(run.code == Some(1) && run.log.contains("is locked") && !run.log.contains("permission"), "{}", run.log);
    server.with(|of| of.refuses = vec![(422, "Validation Failed")]);
    let (run, _) = server.action(&json!({}));
    assert!(run.code == Some(0) && run.out.contains("422") && run.out.contains("::warning"), "{}", run.out);
    assert_eq!(server.with(|of| of.changes), 0);
    let (run, outputs) = server.action(&json!({}));
    assert!(
        run.code == Some(0) && outputs.contains("\ncreated\n") && outputs.contains("issuecomment-1000"),
        "{outputs}"
    );
}

#[test]
fn a_lost_answer_makes_no_second_comment() {
    let server = Server::start();
    server.with(|of| of.lost = 1);
    let run = server.comment(&[]);
    assert_eq!((run.code, server.with(|of| of.comments.len())), (Some(0), 1), "{}", run.log);
    // A comment that is deleted between the list and the change is written anew.
    server.with(|of| of.refuses = vec![(404, "Not Found")]);
    let run = server.comment(&[]);
    assert_eq!((run.code, server.with(|of| of.comments.len())), (Some(0), 1), "{}", run.log);
}

#[test]
fn limits_are_waited_for_up_to_a_point() {
    let server = Server::start();
    server.with(|of| of.limits = 1);
    assert_eq!(server.comment(&[]).code, Some(0));
    server.with(|of| of.limits = 99);
    let (run, _) = server.action(&json!({}));
    assert!(run.code == Some(0) && run.out.contains("GitHub limits requests"), "{}{}", run.out, run.log);
    assert_eq!(server.with(|of| of.changes), 1);
}

#[test]
fn a_run_that_ended_is_matched_with_its_pull_request_by_what_github_says() {
    let server = Server::start();
    server.with(|of| {
        of.pulls = vec![
            a_pull(6, &"4".repeat(40), "eve/clock"),
            a_pull(7, HEAD, "eve/clock"),
            a_pull(8, HEAD, "mallory/clock"),
        ];
    });
    let run = |head: &str| {
        json!({ "workflow_run": { "id": 99, "run_attempt": 1, "head_sha": head, "head_branch": "fix", "event": "pull_request",
            "pull_requests": [], "head_repository": { "full_name": "eve/clock", "owner": { "login": "eve" } } } })
    };
    server.event("workflow_run", &run(HEAD));
    // This workflow's own run has another number.
    let mut command = server.command(&["comment"]);
    command.env("GITHUB_RUN_ID", "1234");
    let done = Run::of(command);
    assert_eq!((done.code, server.with(|of| of.comments.len())), (Some(0), 1), "{}", done.log);
    assert_eq!(server.with(|of| of.queries.clone()), ["eve:fix"]);
    // The pull request has moved on since.
    server.event("workflow_run", &run(&"5".repeat(40)));
    let (done, outputs) = server.action(&json!({}));
    assert!(done.code == Some(0) && done.log.contains("has newer commits"), "{}", done.log);
    assert!(outputs.contains("\nskipped\n") && !done.out.contains("::warning"), "{outputs}");
    // A run of a branch without one is nothing to talk about.
    server.event(
        "workflow_run",
        &json!({ "workflow_run": { "id": 99, "head_sha": HEAD, "head_branch": "main",
        "head_repository": { "owner": { "login": "octo" } } } }),
    );
    let (done, _) = server.action(&json!({}));
    assert!(done.code == Some(0) && done.log.contains("no pull request from octo:main"), "{}", done.log);
    server.event("push", &json!({}));
    let (done, _) = server.action(&json!({}));
    assert!(done.code == Some(0) && done.log.contains("push is not about a pull request"), "{}", done.log);
    assert_eq!(server.with(|of| of.changes), 1);
}

#[test]
fn hostile_reports_are_refused_one_by_one_and_named() {
    let server = Server::start();
    let mut other = report("CI/other-run");
    other["job"]["run-id"] = 98.into();
    server.put("a/report.json", &other);
    let mut wrong = report("CI/other-commit");
    wrong["job"]["head-sha"] = "3".repeat(40).into();
    server.put("b/report.json", &wrong);
    let mut huge = report("CI/huge");
    huge["paths"]["built-here"] = json!(1e300);
    server.put("c/@octocat.json", &huge);
    let folder = server.path().join("nix-cache-reports");
    fs::write(folder.join("bomb.json"), "[".repeat(1 << 20)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.join("link.json")).unwrap();
    let run = server.comment(&["--dry-run"]);
    assert_eq!(run.code, Some(0), "{}", run.log);
    assert!(run.out.contains("4 reports were not used") && run.out.contains("`CI/build`"), "{}", run.out);
    assert!(run.out.contains("- `c/@octocat.json`: `it is not a report"), "{}", run.out);
    assert!(
        !run.out.contains("CI/other") && !run.out.contains("CI/huge") && !run.out.contains("link.json"),
        "{}",
        run.out
    );
    assert_eq!(server.with(|of| of.changes), 0);
    // With no report left, there is no comment.
    fs::remove_dir_all(folder.join("nix-cache-report-build")).unwrap();
    let (run, _) = server.action(&json!({}));
    assert!(run.code == Some(0) && run.out.contains("none of 4 files") && run.out.contains("::warning"), "{}", run.out);
    fs::remove_dir_all(&folder).unwrap();
    let (run, _) = server.action(&json!({}));
    assert!(run.code == Some(0) && run.out.contains("there is no report (*.json) in nix-cache-reports"), "{}", run.out);
    assert_eq!(server.with(|of| of.changes), 0);
}

#[test]
fn wrong_arguments_are_explained() {
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nix-cache"));
        command.arg("comment").args(arguments).env_clear().envs(variables.iter().copied());
        let run = Run::of(command);
        assert_eq!(run.code, Some(2), "{}", run.log);
        run.log
    };
    assert!(run(&["--pull-request", "7"], &[]).contains("GITHUB_TOKEN"));
    assert!(run(&[], &[("GITHUB_TOKEN", "t"), ("GITHUB_REPOSITORY", "a/b")]).contains("--pull-request 12"));
    assert!(run(&["--header", "a--b"], &[]).contains("letters, digits"));
    assert!(run(&["--pull-request", "0"], &[]).contains("from 1 to"));
}
