//! The closure of a real build, compared with that of the base branch: through a directory, and through GitHub's cache, where the pull
//! request has entries of its own that would be found first.

use std::fs;

use serde_json::{Value, json};

use super::server::{HEAD, Server, a_pull};
use crate::support::fake::{Fake, FakeConfig, Scope};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::Run;

/// A job on a store of its own: restores, builds the project with these words, and saves. Returns its report.
fn job(machine: &Machine, name: &str, words: &[&str], variables: &[(String, String)]) -> Value {
    let store: TestStore = machine.store(name);
    let temp = machine.path(&format!("{name}-temp"));
    fs::create_dir_all(&temp).unwrap();
    let step = |step: &str| {
        let mut command = machine.nix_cache(&["action", step]);
        command.envs(variables.iter().cloned());
        command.env("NIX_CACHE_STORE_ROOT", &store.root).env("RUNNER_TEMP", &temp).env("GITHUB_ACTIONS", "true");
        command.env("GITHUB_WORKFLOW", "CI").env("GITHUB_JOB", "build").env("GITHUB_RUN_ATTEMPT", "1");
        command.env("GITHUB_STATE", temp.join("state"));
        command.env(
            "NIX_CACHE_INPUTS",
            json!({ "key": "tests", "job-status": "success", "restore-mode": "unpack" }).to_string(),
        );
        let run = Run::of(command);
        assert_eq!(run.code, Some(0), "{}{}", run.out, run.log);
    };
    step("restore");
    store.build(words);
    step("post");
    let mut files = walkdir::WalkDir::new(&temp).into_iter().map(Result::unwrap);
    let report = files.find(|file| file.file_name() == "report.json").expect("a job leaves a report");
    let report = fs::read_to_string(report.path()).unwrap();
    serde_json::from_str(&report).unwrap()
}

fn variables(git_ref: &str, run: u64, event: &str, more: &[(String, String)]) -> Vec<(String, String)> {
    let own = [
        ("GITHUB_REPOSITORY", "octo/clock".to_owned()),
        ("GITHUB_REF", git_ref.to_owned()),
        ("GITHUB_RUN_ID", run.to_string()),
        ("GITHUB_EVENT_NAME", event.to_owned()),
    ];
    own.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(more.iter().cloned()).collect()
}

#[test]
fn a_build_is_compared_with_the_snapshot_that_the_job_started_with() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let server = Server::start();
        let remote = format!("dir:{}", machine.path("cache").display());
        let remote_variable = [("NIX_CACHE_REMOTE".to_owned(), remote.clone())];
        let first = job(
            &machine,
            "first",
            &["everything", "salt=one"],
            &variables("refs/heads/main", 1, "push", &remote_variable),
        );
        let outputs = first["closure"]["outputs"].as_array().unwrap();
        assert!(outputs.len() == 1 && outputs[0].as_str().unwrap().ends_with("-everything"), "{}", first["closure"]);
        assert_eq!(first["job"]["head-sha"], "");
        let event = machine.path("event.json");
        fs::write(&event, json!({ "pull_request": { "number": 7, "head": { "sha": HEAD } } }).to_string()).unwrap();
        let of_event = ("GITHUB_EVENT_PATH".to_owned(), event.display().to_string());
        let more: Vec<_> = remote_variable.iter().cloned().chain([of_event]).collect();
        let second = job(
            &machine,
            "second",
            &["everything", "salt=two"],
            &variables("refs/pull/7/merge", 99, "pull_request", &more),
        );
        assert_eq!((&second["key"]["hit"], &second["job"]["head-sha"]), (&"exact".into(), &HEAD.into()));
        server.put("nix-cache-report-build/report.json", &second);
        let run = server.comment(&["--dry-run", "--remote", &remote]);
        assert_eq!(run.code, Some(0), "{}", run.log);
        let page = &run.out;
        assert!(
            page.contains("compared with the snapshot that the job started with (generation 1 of `tests`)"),
            "{page}"
        );
        assert!(page.contains("- `everything`, compared with `everything`"), "{page}");
        assert!(page.contains("| Rebuilt with the same version | `main` | here | Size |"), "{page}");
        // The job has no run on the base branch to be compared with but the first one.
        assert!(page.contains("medians of the last 1 successful run of this lane"), "{page}");
        assert!(!page.contains("| Removed |") && !page.contains("**Closure**: unknown"), "{page}");
    }
}

#[test]
fn in_githubs_cache_the_base_branch_counts_and_not_what_the_pull_request_saved() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let server = Server::start();
    let fake = Fake::start(FakeConfig { repository: "octo/clock".to_owned(), ..FakeConfig::default() });
    let main = || fake.env_with(&[Scope::read_write("refs/heads/main")]);
    let pull = || fake.env_with(&[Scope::read_write("refs/pull/7/merge"), Scope::read("refs/heads/main")]);
    job(&machine, "first", &["everything", "salt=one"], &variables("refs/heads/main", 1, "push", &main()));
    // Two pushes to the pull request, each of which saves: a lookup there finds the first of them.
    job(&machine, "second", &["everything", "salt=two"], &variables("refs/pull/7/merge", 98, "push", &pull()));
    let last =
        job(&machine, "third", &["everything", "salt=two"], &variables("refs/pull/7/merge", 99, "push", &pull()));
    assert_eq!((&last["key"]["generation"], &last["paths"]["built-here"]), (&2.into(), &0.into()), "{last}");
    let mut report = last;
    report["job"]["head-sha"] = HEAD.into();
    server.put("nix-cache-report-build/report.json", &report);
    server.with(|of| of.pulls = vec![a_pull(7, HEAD, "octo/clock")]);
    // The list of the cache, as the REST interface has it.
    let listed = fake.saved().into_iter().enumerate().map(|(number, entry)| {
        let time = format!("2026-11-26T10:{number:02}:00Z");
        json!({ "id": entry.id, "ref": entry.scope, "key": entry.key, "version": entry.version, "size_in_bytes": entry.size,
            "created_at": time, "last_accessed_at": time })
    });
    let listed: Vec<Value> = listed.collect();
    assert!(listed.iter().any(|entry| entry["key"] == "tests#g2" && entry["ref"] == "refs/pull/7/merge"), "{listed:?}");
    server.with(|of| of.caches = Some(listed));
    let comment = || {
        let mut command = server.command(&["comment", "--dry-run", "--remote", "github"]);
        command.envs(pull());
        let run = Run::of(command);
        assert_eq!(run.code, Some(0), "{}", run.log);
        run.out
    };
    let page = comment();
    assert!(page.contains("compared with the snapshot of `main` (generation 1 of `tests`)"), "{page}");
    assert!(page.contains("| Rebuilt with the same version | `main` | here | Size |"), "{page}");
    // Without the permission to list, what the job restored is what there is.
    server.with(|of| of.caches = None);
    let page = comment();
    assert!(
        page.contains("the snapshot that the job started with (generation 2 of `tests`): ")
            && page.contains("unchanged"),
        "{page}"
    );
}
