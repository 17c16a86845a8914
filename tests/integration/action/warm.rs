//! The three steps of the action `warm`, and what a later job finds.

use std::fs;

use serde_json::Value;

use super::job::Job;
use crate::plan::flake::prepare;
use crate::support::fake::{Fake, FakeConfig, RestPermission, Scope};
use crate::support::machine::{Machine, system};
use crate::support::nix;
use crate::support::program::Run;

/// A job with the flake in its workspace.
fn job(machine: &Machine, fake: &Fake, name: &str, inputs: &[(&str, &str)]) -> Job {
    let mut job = Job::new(machine, fake, name, RestPermission::Read);
    prepare(machine, &job.workspace());
    fs::write(machine.path("words/list"), "first\n").unwrap();
    job.store.nix(&["flake", "lock", &format!("path:{}", job.workspace().display())]);
    for (name, value) in inputs {
        job.input(name, value);
    }
    job.without_input("progressive");
    // The folders of the tests are inside of this repository.
    job.set("GIT_CEILING_DIRECTORIES", &job.workspace().parent().unwrap().display().to_string());
    job
}

#[test]
fn what_one_job_warms_another_finds() {
    let Some(nix) = nix::all().last() else { return };
    let (machine, fake) = (Machine::new(nix), Fake::start(FakeConfig::default()));
    let first = job(&machine, &fake, "first", &[]);
    for step in ["warm-restore", "warm"] {
        let done = first.step(step);
        assert_eq!(done.code, Some(0), "{step}: {}", done.log);
    }
    let done = first.step("warm-save");
    assert_eq!((done.code, &done.report["save"]["outcome"]), (Some(0), &Value::from("saved")), "{}", done.log);
    let outputs = first.outputs();
    let warmed: Vec<String> = serde_json::from_str(&outputs["warmed"]).unwrap();
    assert!(warmed.contains(&format!("packages.{}.tool", system())) && warmed.len() > 4, "{warmed:?}");
    assert_eq!((&*outputs["failed"], &*outputs["left"], &*outputs["pull-request"]), ("[]", "[]", ""), "{}", done.log);
    assert_ne!(outputs["touched"], "0", "{}", done.log);
    let summary = first.summary();
    assert!(summary.contains("Warming of the cache") && summary.contains("checks."), "{summary}");
    assert!(!done.log.contains("::warning"), "{}", done.log);
    first.assert_no_token_is_written();

    // The entries that the next run touches are read later than they were written, though nothing is restored or saved.
    fake.advance(std::time::Duration::from_hours(24));
    let second = job(&machine, &fake, "second", &[("targets", "tool"), ("flake-inputs", "false")]);
    for step in ["warm-restore", "warm", "warm-save"] {
        let done = second.step(step);
        assert_eq!((done.code, &done.report["key"]["hit"]), (Some(0), &Value::from("exact")), "{step}: {}", done.log);
    }
    let unread: Vec<_> = fake.saved().into_iter().filter(|entry| entry.accessed == entry.created).collect();
    assert!(unread.is_empty(), "{unread:?}");
}

#[test]
fn feeds_that_one_job_fetches_another_reads_offline_with_their_age() {
    let Some(nix) = nix::all().last() else { return };
    let (machine, fake) = (Machine::new(nix), Fake::start(FakeConfig::default()));
    let nvd = machine.path("nvd");
    fs::create_dir_all(&nvd).unwrap();
    let feed = concat!(env!("CARGO_MANIFEST_DIR"), "/src/audit/testdata/nvd.json");
    fs::copy(feed, nvd.join("nvdcve-2.0-2026.json")).unwrap();
    let inputs = [("targets", "tool"), ("flake-inputs", "false"), ("touch", "false"), ("paths", ".feeds")];
    let mut first = job(&machine, &fake, "first", &inputs);
    first.input("feeds-from", nvd.to_str().unwrap());
    let policy = "[audit.vulnerabilities]\nfeeds = \".feeds\"\n";
    fs::write(first.workspace().join("nix-cache.toml"), policy).unwrap();
    for step in ["warm-restore", "warm", "warm-save"] {
        let done = first.step(step);
        assert_eq!(done.code, Some(0), "{step}: {}", done.log);
    }
    // The feeds are gone from where they came from, and a pull request may only read the cache.
    fs::remove_dir_all(&nvd).unwrap();
    let scopes = [Scope::read_write("refs/pull/7/merge"), Scope::read("refs/heads/main")];
    let mut second = job(&machine, &fake, "second", &[("paths", ".feeds"), ("save", "never")]);
    for (name, value) in fake.env_with(&scopes) {
        second.set(&name, &value);
    }
    fs::write(second.workspace().join("nix-cache.toml"), policy).unwrap();
    let done = second.restore();
    assert!(second.workspace().join(".feeds").is_dir(), "{}", done.log);
    let mut audit = machine.nix_cache(&["audit", "--format", "json", "--project"]);
    // The folders of the tests are inside of this repository.
    audit.arg(second.workspace()).env("GIT_CEILING_DIRECTORIES", second.workspace().parent().unwrap());
    let notes = Run::of(audit).json()["notes"].to_string();
    assert!(notes.contains("The vulnerability data is of 2026-11-20, "), "{notes}");
}

#[test]
fn a_target_that_fails_is_a_warning_and_the_rest_is_saved() {
    let Some(nix) = nix::all().last() else { return };
    let (machine, fake) = (Machine::new(nix), Fake::start(FakeConfig::default()));
    let job = job(&machine, &fake, "failing", &[("flake-inputs", "false"), ("touch", "false")]);
    let file = job.workspace().join("flake.nix");
    let text = fs::read_to_string(&file).unwrap().replace("default = tool;", "default = throw \"on purpose\";");
    fs::write(&file, text).unwrap();
    assert_eq!(job.step("warm-restore").code, Some(0));
    let done = job.step("warm");
    let warning = format!("Not warmed: packages.{}.default: on purpose", system());
    assert!(done.code == Some(0) && done.log.contains("::warning") && done.log.contains(&warning), "{}", done.log);
    let done = job.step("warm-save");
    assert_eq!((done.code, &done.report["save"]["outcome"]), (Some(0), &Value::from("saved")), "{}", done.log);
    assert_eq!(job.outputs()["failed"], format!("[\"packages.{}.default\"]", system()));
    assert!(job.summary().contains("on purpose"), "{}", job.summary());
    assert_eq!(job.outputs()["touched"], "0");
}

#[test]
fn a_pull_request_is_followed_only_where_nobody_else_decides_what_runs() {
    let Some(nix) = nix::all().last() else { return };
    let (machine, fake) = (Machine::new(nix), Fake::start(FakeConfig::default()));
    let mut job = job(&machine, &fake, "pull", &[("pull-request", "7")]);
    for event in ["pull_request", "pull_request_target", "issue_comment", "merge_group", ""] {
        job.set("GITHUB_EVENT_NAME", event);
        let done = job.step("warm-restore");
        assert!(done.code == Some(2) && done.log.contains("The input \"pull-request\" cannot be used"), "{}", done.log);
    }
    // Not the commit of the run: somebody checked something else out.
    let git = |arguments: &[&str]| crate::plan::flake::git(&machine, &job.workspace(), arguments);
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "m"]);
    job.set("GITHUB_EVENT_NAME", "schedule");
    job.set("GITHUB_SHA", &"1".repeat(40));
    let done = job.step("warm-restore");
    assert!(done.code == Some(2) && done.log.contains("check out the default branch"), "{}", done.log);
}
