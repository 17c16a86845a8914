//! The examples that need GitHub itself or a bucket, as far as act can run them: what act would have to download does nothing, and the fake service
//! answers for GitHub, moto for the bucket.

use std::fs;

use nix_cache::base::digest::Sha;
use serde_json::json;

use super::examples::Repository;
use super::reusable::ended;
use crate::action::artifacts::zip;
use crate::signed::key;
use crate::support::fake::FakeRun;
use crate::support::moto;

/// The commit of a fork's branch.
const HEAD: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";

/// A run of pull request 7 from a fork, whose branch is called `main` as ours is.
fn fork() -> FakeRun {
    FakeRun { id: 70, event: "pull_request", head: (66, "eve/nix", "main"), sha: HEAD, pulls: vec![7] }
}

#[test]
fn a_comment_on_a_forks_pull_request_is_written_when_its_run_has_ended() {
    let Some(repository) = Repository::new() else { return };
    let project = &repository.project;
    project.fake.begin(fork());
    let report = json!({ "schema": 1, "version": "0.1.0", "action": "both",
        "job": { "repository": "octo/nix", "workflow": "CI", "job": "build", "lane": "CI/build", "event": "pull_request",
            "ref": "refs/pull/7/merge", "sha": "2".repeat(40), "head-sha": HEAD, "started": 1_790_000_000_u64, "ended": 1_790_000_060_u64,
            "run-id": 70, "run-attempt": 1, "status": "success" },
        "key": { "primary": "k-1", "prefixes": ["k-"], "hit": "exact" },
        "paths": { "needed": 90, "built-here": 8, "fetched-upstream": 2 } });
    let file = project.machine.path("report.json");
    fs::write(&file, report.to_string()).unwrap();
    // The artifact of the other run, as its download leaves it.
    let folder = "nix-cache-reports/nix-cache-report-build";
    let download = format!("run: mkdir -p {folder} && cp '{}' {folder}/", file.display());
    repository.put("comment-forks.yml", &[("run: true", &download)]);
    let event = project.machine.path("event.json");
    for (of, comments) in [("push", 0), ("pull_request", 1)] {
        let payload = json!({ "action": "completed", "repository": { "default_branch": "main" }, "workflow_run": {
            "id": 70, "run_attempt": 1, "event": of, "head_sha": HEAD, "head_branch": "main", "pull_requests": [],
            "head_repository": { "full_name": "eve/nix", "owner": { "login": "eve" } } } });
        fs::write(&event, payload.to_string()).unwrap();
        let run = project.workflow("comment-forks.yml").on("workflow_run").with_event(&event).run();
        assert!(run.green, "{}", run.text);
        assert_eq!(project.fake.comments().len(), comments, "{of}: {}", run.text);
    }
    let comment = &project.fake.comments()[0];
    assert!(comment.contains("| `CI/build` | ✅ success | 90.0 % |") && comment.contains(&HEAD[..12]), "{comment}");
}

#[test]
fn the_dashboard_is_made_and_shows_a_forks_job() {
    let Some(repository) = Repository::new() else { return };
    let project = &repository.project;
    project.fake.begin(fork());
    let lane = Sha::of(b"CI/build").to_string();
    let record = json!({ "time": 1_790_000_000_u64, "run": 70, "attempt": 1, "lane": "CI/build", "workflow": "CI", "ref": "refs/pull/7/merge",
        "event": "pull_request", "sha": "merge", "system": "x86_64-linux", "status": "success", "hit": "exact", "cached": 9, "built": 1 });
    let name = format!("nix-cache-history-70-1-{}", &lane[..12]);
    project.fake.put_artifact(&name, &zip("run.jsonl", format!("{record}\n").as_bytes()));
    let keep = "run: cp -r \"${{ steps.dashboard.outputs.folder }}\" \"${{ vars.RESULTS }}/page\"\n  publish:";
    let event = repository.put("dashboard.yml", &[("run: true\n  publish:", keep)]);
    let run = project.workflow("dashboard.yml").on("workflow_dispatch").with_event(&event).run();
    assert!(run.green, "{}", run.text);
    for job in ["make", "publish"] {
        assert_eq!(ended(&run, job), Some("success"), "{job}: {}", run.text);
    }
    let page = fs::read_to_string(run.folder.join("results/page/index.html")).unwrap();
    assert!(page.contains("pull/7/merge") && page.contains("90.0 %"), "{page}");
    assert!(page.contains("Before the cache, and since"), "{page}");
    assert_eq!(run.annotations("warning"), [""; 0], "{}", run.text);
}

#[test]
fn an_organisation_shares_a_bucket_that_pull_requests_only_read() {
    let Some(server) = moto::server() else { return };
    let Some(repository) = Repository::new() else { return };
    let project = &repository.project;
    let key = key(&project.machine, "ci");
    let variable = format!("NIX_CACHE_PUBLIC_KEYS={}", key.public.trim());
    let secret = format!("NIX_CACHE_KEY={}", fs::read_to_string(&key.secret).unwrap().trim());
    let remote = format!("s3://{}/ci?endpoint=http://{server}", moto::bucket(server));
    let with = |event: &std::path::Path, kind: &'static str| {
        let mut act = project.workflow("organisation.yml").on(kind).with_event(event).with_settings(&variable, &secret);
        for (name, value) in moto::KEYS {
            act = act.env(name, value);
        }
        let run = act.run();
        assert!(run.green, "{}", run.text);
        run
    };
    let replaced = [("s3://example-nix-cache/ci?region=eu-central-1", &*remote)];
    let cold = with(&repository.put("organisation.yml", &replaced), "push");
    assert!(cold.text.contains("Saved"), "{}", cold.text);
    assert_eq!((ended(&cold, "main"), project.fake.saved().len()), (Some("success"), 0), "{}", cold.text);
    let event = repository.put("organisation.yml", &replaced);
    let warm = with(&event, "push");
    assert!(warm.text.contains("Exact hit") && !warm.log().contains("building '"), "{}", warm.text);
    // A pull request of the repository reads the bucket, and saves nothing.
    let payload = json!({ "pull_request": { "number": 7, "head": { "sha": HEAD, "ref": "fix", "repo": { "fork": false } },
        "base": { "sha": "0".repeat(40), "ref": "main" } }, "repository": { "default_branch": "main" } });
    fs::write(&event, payload.to_string()).unwrap();
    let pull = with(&event, "pull_request");
    assert_eq!(ended(&pull, "pull-request"), Some("success"), "{}", pull.text);
    assert!(pull.text.contains("Exact hit") && !pull.text.contains("Saved generation"), "{}", pull.text);
}

#[test]
fn everything_in_one_workflow_is_green() {
    let Some(repository) = Repository::new() else { return };
    let project = &repository.project;
    let key = key(&project.machine, "ci");
    let secret = fs::read_to_string(&key.secret).unwrap();
    let top = project.machine.path("repository");
    fs::create_dir_all(top.join("scripts")).unwrap();
    fs::write(top.join("scripts/lint.sh"), "#!/bin/sh\necho linted\n").unwrap();
    let event = repository.put(
        "everything.yml",
        &[
            ("ci.example-1:0dLzrIZ4vDgoM8Ll5cmgD0bjEd3vX9ax2lsyAbHKKkA=", key.public.trim()),
            ("lint: ./scripts/lint.sh", "lint: sh ./scripts/lint.sh"),
            ("      exclude: devShells\n", "      exclude: devShells\n      install-nix: false\n"),
        ],
    );
    let act = project.workflow("everything.yml").with_event(&event);
    let run = act.with_settings("UNUSED=1", &format!("NIX_CACHE_KEY={}", secret.trim())).run();
    for job in ["plan", "build", "checks", "audit", "sarif", "dashboard", "done"] {
        assert_eq!(ended(&run, job), Some("success"), "{job}: {}", run.text);
    }
    for job in ["comment", "warm", "prune"] {
        assert_eq!(ended(&run, job), None, "{job} is not for a push: {}", run.text);
    }
    assert!(run.green && run.log().contains("linted"), "{}", run.text);
}
