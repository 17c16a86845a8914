//! Temporary failures are retried, and substituters that keep failing are left out.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::project::{Built, Project, each};
use super::server::{Fault, Refusals, Server};

/// A binary cache with `one`.
fn cache_of(project: &Project) -> PathBuf {
    let filled = project.machine.store("elsewhere");
    Built::of(project.command_in(&filled, &["one"])).assert_succeeded();
    let cache = project.machine.path("cache");
    let flake = format!("path:{}#one", project.folder.display());
    filled.nix(&["copy", "--to", &format!("file://{}", cache.display()), &flake]);
    cache
}

/// A build of `one` that may come from the server; each download is tried as often as given by Nix itself.
fn build(project: &Project, server: &Server, attempts: &str, more: &[&str]) -> Built {
    let settings = ["--", "--option", "substituters", &server.url, "--option", "require-sigs", "false"];
    let settings = [&settings[..], &["--option", "download-attempts", attempts]].concat();
    project.build(&[&["one"], more, &settings].concat())
}

fn retried(built: &Built) -> Vec<&Value> {
    built.report["retried"].as_array().unwrap().iter().map(|failure| &failure["category"]).collect()
}

#[test]
fn a_server_that_refuses_twice_is_tried_once_more() {
    for project in each() {
        let refusals = Refusals { of: ".narinfo", times: 2, fault: Fault::Status(503) };
        let server = Server::start(cache_of(&project), refusals);
        // Nix tries each download twice, and then gives up: that is one attempt of ours.
        let built = build(&project, &server, "2", &["--retries", "3", "--retry-delay", "1"]);
        built.assert_succeeded();
        assert_eq!((server.refused(), &built.report["attempts"]), (2, &2.into()), "{}", built.log);
        assert_eq!(retried(&built), ["substituter"]);
        assert_eq!(built.report["retried"][0]["substituter"], server.url);
        assert_eq!(built.report["substituters-left-out"], json!([]));
        // It came from the server and was not built.
        assert_eq!((built.endings(), &built.report["totals"]["substituted"]), (vec![], &1.into()), "{}", built.report);
        assert!(built.log.contains("Retrying in "), "{}", built.log);
        let transfer = &built.report["transfers"][0];
        assert_eq!((&transfer["way"], &transfer["from"]), (&"substituted".into(), &server.url.as_str().into()));
    }
}

#[test]
fn a_path_that_fails_to_come_once_is_fetched_again() {
    for project in each() {
        let cache = cache_of(&project);
        for (number, fault) in
            [Fault::Status(500), Fault::Status(503), Fault::Cut, Fault::Damaged].into_iter().enumerate()
        {
            let server = Server::start(cache.clone(), Refusals { of: ".nar.xz", times: 1, fault });
            let store = project.machine.store(&format!("again-{number}"));
            let fresh = Project { machine: project.machine.clone(), store, folder: project.folder.clone() };
            let built = build(&fresh, &server, "1", &["--retries", "3", "--retry-delay", "1"]);
            built.assert_succeeded();
            assert_eq!(server.refused(), 1, "{fault:?}: {}", built.log);
            // Nix itself may ask for the rest of what was cut off.
            if matches!(fault, Fault::Cut) && built.report["attempts"] == 1 {
                continue;
            }
            assert_eq!(built.report["attempts"], 2, "{fault:?}: {}", built.log);
            assert!(retried(&built).iter().all(|category| **category == "substituter"), "{fault:?}: {}", built.report);
            assert_eq!(built.report["retried"][0]["substituter"], server.url, "{fault:?}");
            assert_eq!(
                (built.endings(), &built.report["totals"]["substituted"]),
                (vec![], &1.into()),
                "{}",
                built.report
            );
        }
    }
}

#[test]
fn one_that_keeps_failing_is_left_out() {
    for project in each() {
        for status in [503, 500, 200] {
            let refusals = Refusals { of: ".narinfo", times: u64::MAX, fault: Fault::Status(status) };
            let server = Server::start(project.machine.path("no-cache"), refusals);
            std::fs::create_dir_all(project.machine.path("no-cache")).unwrap();
            std::fs::write(project.machine.path("no-cache/nix-cache-info"), "StoreDir: /nix/store\nWantMassQuery: 1\n")
                .unwrap();
            let store = project.machine.store(&format!("store-{status}"));
            let fresh = Project { machine: project.machine.clone(), store, folder: project.folder.clone() };
            let built = build(&fresh, &server, "1", &["--retries", "3", "--retry-delay", "1"]);
            built.assert_succeeded();
            assert_eq!((&built.report["attempts"], retried(&built).len()), (&3.into(), 2), "{status}: {}", built.log);
            assert_eq!(built.report["substituters-left-out"], json!([server.url]));
            assert_eq!(built.endings(), [("one", "built")], "what nobody gives is built");
            assert!(built.log.contains("is not used for the rest of the job"), "{}", built.log);
        }
    }
}

#[test]
fn without_retries_a_substituter_fails_the_build() {
    for project in each() {
        let refusals = Refusals { of: ".narinfo", times: u64::MAX, fault: Fault::Status(503) };
        let server = Server::start(cache_of(&project), refusals);
        let built = build(&project, &server, "1", &[]);
        let failure = built.assert_category("substituter");
        assert_eq!((&failure["substituter"], &failure["transient"]), (&server.url.as_str().into(), &true.into()));
        assert_eq!(built.report["attempts"], 1);
    }
}

#[test]
fn what_lasts_is_not_tried_again() {
    for project in each() {
        let built = project.build(&["fails", "--retries", "5", "--retry-delay", "1"]);
        built.assert_category("build");
        assert_eq!(built.report["attempts"], 1);
        // Not even beside something that may pass.
        let built = project.build(&["fails", "refused", "--retries", "5", "--retry-delay", "1"]);
        assert_eq!(
            (&built.report["attempts"], &built.report["category"]),
            (&1.into(), &"build".into()),
            "{}",
            built.report
        );
        assert_eq!(built.report["failures"].as_array().unwrap().len(), 2, "{}", built.report);
    }
}

#[test]
fn the_budget_ends_the_retries() {
    let Some(project) = super::project::first() else { return };
    let built = project.build(&["refused", "--retries", "20", "--retry-delay", "30", "--retry-budget", "1"]);
    built.assert_category("network");
    assert_eq!(built.report["attempts"], 1);
}

#[test]
fn a_substituter_without_an_answer_does_not_fail_the_build() {
    for project in each() {
        let refusals = Refusals { of: "nix-cache-info", times: u64::MAX, fault: Fault::Status(503) };
        let server = Server::start(cache_of(&project), refusals);
        let built = build(&project, &server, "1", &[]);
        built.assert_succeeded();
        assert_eq!((built.endings(), &built.report["attempts"]), (vec![("one", "built")], &1.into()));
        assert!(!server.asked().is_empty());
    }
}
