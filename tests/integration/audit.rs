//! The audit by the program: what it prints, its files held against the published schemas, and what it compares with.

mod packages;
mod tools;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::Run;

/// A lock file whose Nixpkgs is of `rev` and `owner`, and as old as can be.
fn lock(owner: &str, rev: &str) -> String {
    format!(
        r#"{{"version": 7, "root": "root", "nodes": {{"root": {{"inputs": {{"nixpkgs": "nixpkgs", "tool": "tool"}}}},
        "nixpkgs": {{"locked": {{"type": "github", "owner": "{owner}", "repo": "nixpkgs", "rev": "{rev}", "narHash": "sha256-x", "lastModified": 1600000000}},
            "original": {{"type": "github", "owner": "{owner}", "repo": "nixpkgs", "ref": "nixos-20.09"}}}},
        "tool": {{"locked": {{"type": "path", "path": "/home/me/tool", "narHash": "sha256-x", "lastModified": 1}}, "original": {{"type": "path", "path": "/home/me/tool"}}}}}}}}"#
    )
}

/// A repository with one commit for each lock file.
struct Project {
    machine: Machine,
}

impl Project {
    fn new() -> Option<Self> {
        let project = Self { machine: Machine::new(nix::all().first()?) };
        fs::create_dir_all(project.machine.path("audited")).unwrap();
        project.git(&["init", "--quiet", "--initial-branch=main"]);
        Some(project)
    }

    fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.machine.path("audited")).args(["-c", "user.name=t", "-c", "user.email=t@t"]);
        assert!(git.args(arguments).status().unwrap().success());
    }

    fn commit(&self, file: &str, text: &str) {
        let path = self.machine.path("audited").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "m"]);
    }

    fn audit(&self, more: &[&str]) -> Run {
        Run::of(self.command(more))
    }

    fn command(&self, more: &[&str]) -> Command {
        self.machine.nix_cache(&[&["audit", "--project", "audited"], more].concat())
    }
}

fn rules(report: &Value, only_new: bool) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    let wanted = findings.iter().filter(|finding| !only_new || finding["is-new"] == true);
    wanted.map(|finding| finding["rule"].as_str().unwrap()).collect()
}

/// Holds a file against a schema of tests/data/schemas.
pub(crate) fn validate(file: &Path, schema: &str) {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schemas").join(schema);
    let check = Command::new("check-jsonschema").arg("--schemafile").arg(schema).arg(file).output();
    match check {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => crate::support::skip(&format!("check-jsonschema cannot be run: {error}")),
    }
}

#[test]
fn a_lock_file_is_audited_by_a_policy_and_compared_with_a_commit() {
    let Some(project) = Project::new() else { return };
    project.commit("flake.lock", &lock("NixOS", "1"));
    let found = project.audit(&["--format", "json"]).json();
    assert_eq!(rules(&found, false), ["lock-age", "lock-branch", "lock-path"]);
    // Nothing is compared, and nothing fails by itself.
    assert_eq!(rules(&found, true), [""; 0]);
    project.commit("flake.lock", &lock("Evil", "2"));
    let report = project.machine.path("audit.json");
    let sarif = project.machine.path("audit.sarif");
    let files = ["--json", report.to_str().unwrap(), "--sarif", sarif.to_str().unwrap()];
    let text = project.audit(&[&["--base", "HEAD^"], &files[..]].concat());
    assert_eq!(text.code, Some(0), "{}", text.log);
    assert!(text.out.contains("3 new since HEAD^.\n"), "{}", text.out);
    let found: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(rules(&found, true), ["lock-moved", "lock-owner", "lock-changed"]);
    validate(&sarif, "sarif-2.1.0.json");
    // What the policy forbids fails, and with a base only what is new.
    let policy = "[audit.severity]\nlock-owner = \"error\"\nlock-path = \"error\"\n";
    fs::write(project.machine.path("audited/nix-cache.toml"), policy).unwrap();
    let fails = project.audit(&["--base", "HEAD^"]);
    assert_eq!(fails.code, Some(1));
    assert!(
        fails.log.contains("fails for 1 finding that the base lacks, first input nixpkgs (lock-owner)"),
        "{}",
        fails.log
    );
    assert_eq!(project.audit(&["--baseline", report.to_str().unwrap()]).code, Some(0), "the baseline has both");
    let all = project.audit(&[]);
    assert!(all.code == Some(1) && all.log.contains("fails for 2 findings, first"), "{}", all.log);
}

#[test]
fn what_cannot_be_audited_is_told() {
    let Some(project) = Project::new() else { return };
    let none = project.audit(&["--base", "0123456789012345678901234567890123456789"]);
    assert_eq!(none.code, Some(0), "{}", none.log);
    assert!(none.out.contains("note: There is no flake.lock here"), "{}", none.out);
    for (text, part) in [(&b"[\xff"[..], "broken at line 1"), (b"{\"version\": 99}", "version 99")] {
        fs::write(project.machine.path("audited/flake.lock"), text).unwrap();
        let broken = project.audit(&[]);
        assert!(broken.code == Some(2) && broken.log.contains(part), "{}", broken.log);
    }
    fs::remove_file(project.machine.path("audited/flake.lock")).unwrap();
    for (policy, part) in [("[audit]\nfail = 1", "line 2"), ("[audit.severity]\nx = \"off\"", "there is no rule \"x\"")]
    {
        fs::write(project.machine.path("audited/nix-cache.toml"), policy).unwrap();
        let wrong = project.audit(&[]);
        assert!(wrong.code == Some(2) && wrong.log.contains(part), "{}", wrong.log);
    }
}

#[test]
fn a_flake_in_a_folder_of_a_repository_has_its_place() {
    let Some(project) = Project::new() else { return };
    project.commit("sub dir/flake.lock", &lock("NixOS", "1"));
    let run = Run::of(project.machine.nix_cache(&[
        "audit",
        "--project",
        "audited/sub dir",
        "--base",
        "HEAD",
        "--format",
        "sarif",
    ]));
    let found = run.json();
    let place = &found["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(place, "sub%20dir/flake.lock");
    assert_eq!(found["runs"][0]["results"][0]["baselineState"], "unchanged");
}
