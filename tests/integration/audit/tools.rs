//! Tools that look at files, for real: deadnix, zizmor and nixfmt.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::{Project, rules, validate};
use crate::support::program::Run;
use crate::support::skip;

const WORKFLOW: &str =
    "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ github.head_ref }}\n";

/// Whether a tool is on PATH; says so where it is not.
fn has(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        skip(&format!("{tool} is not on PATH"));
    }
    there
}

/// PATH, and the folder with a tool that no other test may find: see `scripts/setup-act.sh`.
fn path_with(tool: &str) -> Option<OsString> {
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let tools = folders.iter().map(|folder| folder.join("../tools/bin")).find(|tools| tools.join(tool).exists())?;
    folders.push(tools);
    std::env::join_paths(folders).ok()
}

#[test]
fn zizmor_looks_at_workflows_and_what_the_base_had_is_not_new() {
    let Some(project) = Project::new().filter(|_| has("zizmor")) else { return };
    project.commit(".github/workflows/a.yml", WORKFLOW);
    let found = project.audit(&["--format", "json"]).json();
    let all = rules(&found, false);
    assert!(all.contains(&"zizmor/template-injection"), "{found}");
    let place = &found["findings"][0]["place"];
    assert_eq!((&place["file"], place["line"].as_u64().unwrap() > 0), (&".github/workflows/a.yml".into(), true));
    project.commit(".github/workflows/b.yml", WORKFLOW);
    let sarif = project.machine.path("audit.sarif");
    let found = project.audit(&["--format", "json", "--base", "HEAD^", "--sarif", sarif.to_str().unwrap()]).json();
    let new: Vec<&str> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["is-new"] == true)
        .map(|it| it["place"]["file"].as_str().unwrap())
        .collect();
    assert!(!new.is_empty() && new.iter().all(|file| *file == ".github/workflows/b.yml"), "{new:?}");
    validate(&sarif, "sarif-2.1.0.json");
    // A policy may switch a tool off, or name those that are run.
    project.commit("nix-cache.toml", "[audit]\ntools = [\"deadnix\"]\n");
    assert_eq!(rules(&project.audit(&["--format", "json"]).json(), false), [""; 0]);
}

#[test]
fn deadnix_looks_at_nix_files() {
    let Some(project) = Project::new() else { return };
    let Some(path) = path_with("deadnix") else { return skip("deadnix is not installed") };
    let audit = |more: &[&str]| {
        let mut command = project.command(more);
        command.env("PATH", &path);
        Run::of(command)
    };
    project.commit("a b.nix", "{ x, unused }: let y = 1; in x\n");
    let found = audit(&["--format", "json"]).json();
    let of_deadnix: Vec<&str> = rules(&found, false).into_iter().filter(|rule| rule.starts_with("deadnix")).collect();
    assert_eq!(of_deadnix, ["deadnix/unused-lambda-pattern", "deadnix/unused-let-binding"], "{found}");
    assert_eq!(found["findings"][0]["place"]["file"], "a b.nix");
    project.commit("nix-cache.toml", "[audit]\ntools = [\"deadnix\"]\n[audit.severity]\ndeadnix = \"error\"\n");
    let fails = audit(&[]);
    assert!(fails.code == Some(1) && fails.log.contains("fails for 2 findings"), "{}", fails.log);
}

#[test]
fn nixfmt_finds_files_that_it_would_write_otherwise() {
    let Some(project) = Project::new() else { return };
    let Some(path) = path_with("nixfmt") else { return skip("nixfmt is not installed") };
    let audit = |more: &[&str]| {
        let mut command = project.command(more);
        command.env("PATH", &path);
        Run::of(command)
    };
    project.commit("nix-cache.toml", "[audit]\ntools = [\"formatter\"]\n");
    project.commit("good.nix", "{ a = 1; }\n");
    project.commit("a b/bad.nix", "# A comment.\n{ a=1; }\n");
    project.commit("broken.nix", "{ a = ");
    let run = audit(&["--format", "json"]);
    let found = run.json();
    assert_eq!(rules(&found, false), ["formatter/nixfmt"], "{found}");
    let place = &found["findings"][0]["place"];
    assert_eq!((&place["file"], &place["line"]), (&"a b/bad.nix".into(), &2.into()));
    let notes = found["notes"].to_string();
    assert!(notes.contains("nixfmt could not format 1 file, first broken.nix: "), "{notes}");
    // Another line of it is not another finding.
    project.commit("a b/bad.nix", "# A comment.\n# One more.\n{ a=1; }\n");
    let again = audit(&["--format", "json", "--base", "HEAD^"]).json();
    assert_eq!((rules(&again, false).len(), rules(&again, true).len()), (1, 0), "{again}");
    // Where no formatter is on PATH, only who asked for it by name is told.
    let none = project.audit(&["--format", "json"]).json()["notes"].to_string();
    assert!(none.contains("No formatter for Nix files is on PATH"), "{none}");
}
