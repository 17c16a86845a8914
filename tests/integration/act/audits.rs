//! `uses: ./audit` in whole workflows: that of `examples/audit.yml`, and a job without the cache that the policy fails.

use std::fs;
use std::path::Path;

use super::project::Project;
use super::{ActRun, green, project};
use crate::audit::validate;

/// Copies the example into the repository, in a form that act can run: with the action of the repository, on this machine's store, and with a
/// step that keeps what it wrote in place of those that hand it to GitHub.
fn prepare(project: &Project) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/audit.yml");
    let mut text = fs::read_to_string(example).unwrap();
    for (theirs, ours) in [
        (
            "      - uses: cachix/install-nix-action@v31\n",
            "      - uses: ./keep\n        with: { into: \"${{ vars.RESULTS }}\" }\n",
        ),
        ("uses: blazedots/nix-cache-action@v1", "uses: ./nix-cache"),
        ("uses: blazedots/nix-cache-action/audit@v1", "uses: ./nix-cache/audit"),
        (
            "run: nix build\n",
            "run: nix build --store \"$NIX_CACHE_STORE_ROOT\" --out-link \"$NIX_CACHE_STORE_ROOT/result\"\n",
        ),
        ("    steps:\n", "    env: { NIX_CACHE_STORE_ROOT: \"${{ vars.STORE }}\" }\n    steps:\n"),
        (
            "uses: github/codeql-action/upload-sarif@v4\n        with:\n          sarif_file: ${{ steps.audit.outputs.sarif }}\n          category: nix-cache-audit\n",
            "run: cp \"${{ steps.audit.outputs.sarif }}\" \"${{ vars.RESULTS }}/audit.sarif\"\n",
        ),
        (
            "uses: actions/upload-artifact@v7\n        with:\n          name: sbom\n          path: sbom.json\n",
            "run: cp sbom.json \"${{ vars.RESULTS }}/sbom.json\"\n",
        ),
        ("packages.x86_64-linux.default", &format!("packages.{}.default", crate::support::machine::system())),
    ] {
        assert!(text.contains(theirs), "examples/audit.yml has no {theirs}");
        text = text.replace(theirs, ours);
    }
    assert!(!text.contains("blazedots/") && !text.contains("actions/upload"), "{text}");
    let repository = project.machine.path("repository");
    fs::write(repository.join(".github/workflows/audit.yml"), text).unwrap();
    for entry in fs::read_dir(repository.join("flake")).unwrap().map(Result::unwrap) {
        fs::rename(entry.path(), repository.join(entry.file_name())).unwrap();
    }
    project.ship_binary();
}

/// The event of a push of `commit` onto `before`.
fn event(project: &Project, before: &str, commit: &str) -> std::path::PathBuf {
    let payload = serde_json::json!({
        "before": before, "after": commit, "ref": "refs/heads/main", "repository": { "default_branch": "main" },
    });
    let file = project.machine.path("event.json");
    fs::write(&file, payload.to_string()).unwrap();
    file
}

/// The audit in the history of its job.
fn remembered(run: &ActRun, lane: &str) -> serde_json::Value {
    assert!(run.text.contains("This job is in the history, as generation "), "{}", run.text);
    run.report(lane)["audit"].clone()
}

#[test]
fn the_example_audits_what_it_built_and_only_what_is_new_can_fail() {
    let Some(project) = project() else { return };
    prepare(&project);
    let before = project.commit("the flake");
    let first = green(project.workflow("audit.yml").with_event(&event(&project, &"0".repeat(40), &before)));
    let warnings = first.annotations("warning");
    assert!(warnings.iter().any(|text| text.contains("on the machine that wrote the lock file")), "{warnings:?}");
    assert!(first.summary().contains("### Audit"), "{}", first.summary());
    for (file, schema) in [("audit.sarif", "sarif-2.1.0.json"), ("sbom.json", "cyclonedx-1.5.json")] {
        validate(&first.folder.join("results").join(file), schema);
    }
    let sbom = first.result("sbom.json");
    assert!(sbom["components"].to_string().contains("package-11"), "{sbom}");
    let found = remembered(&first, "audit");
    assert!(found["warnings"].as_u64() > Some(0) && found["errors"] == 0, "{found}");
    assert!(found["paths"].as_u64() >= Some(13) && found["new"].is_null(), "{found}");

    // The policy forbids what is there already: nothing of it is new.
    let policy = "[audit.severity]\nlock-path = \"error\"\n";
    fs::write(project.machine.path("repository/nix-cache.toml"), policy).unwrap();
    let commit = project.commit("a policy");
    let second = green(project.workflow("audit.yml").with_event(&event(&project, &before, &commit)));
    let found = remembered(&second, "audit");
    assert!(found["errors"].as_u64() > Some(0) && found["new"] == 0, "{found}");
    assert_eq!(second.annotations("error"), [""; 0], "{}", second.text);
}

#[test]
fn an_audit_without_the_cache_fails_by_its_policy_and_is_in_the_history() {
    let Some(project) = project() else { return };
    let policy = "[audit.severity]\nlock-path = \"error\"\n";
    fs::write(project.machine.path("repository/nix-cache.toml"), policy).unwrap();
    let commit = project.commit("a policy");
    let run = project.workflow("only-audit.yml").with_event(&event(&project, &"0".repeat(40), &commit)).run();
    assert_eq!((run.green, run.job("")), (false, "failure"), "{}", run.text);
    let outputs = run.outputs();
    assert_eq!(outputs["new-findings"], "", "nothing was compared: {outputs}");
    assert!(outputs["sarif"].as_str().unwrap().contains("audit.sarif"), "{outputs}");
    let errors = run.annotations("error");
    assert!(errors.iter().any(|text| text.contains("The audit fails for 1 finding")), "{errors:?}");
    let found = remembered(&run, "policy");
    assert_eq!((&found["errors"], &found["paths"]), (&1.into(), &0.into()), "{found}");
    // Only the history is in the cache: the step that evaluates has no token.
    let entries = project.fake.entries();
    assert!(!entries.is_empty() && entries.iter().all(|entry| entry.key.starts_with("history-v1-")), "{entries:?}");
}
