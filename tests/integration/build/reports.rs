//! The report of a successful build: times, phases, machine usage, artifacts, checks.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use super::project::{Built, each, first};
use crate::support::machine::system;
use crate::support::program::Run;

#[test]
fn times_phases_and_paths_are_told() {
    for project in each() {
        let built = project.build(&["default", ".#two"]);
        built.assert_succeeded();
        assert_eq!(built.endings(), [("default-1.0", "built"), ("one", "built"), ("two", "built")]);
        let report = &built.report;
        assert_eq!(report["paths"].as_array().unwrap().len(), 2, "{report}");
        assert_eq!((&report["totals"]["built"], &report["attempts"]), (&3.into(), &1.into()));
        let all = report["derivations"].as_array().unwrap();
        let default = all.iter().find(|time| time["name"] == "default-1.0").unwrap();
        let phases: Vec<_> = default["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]).collect();
        assert_eq!(phases, ["buildPhase", "installPhase"]);
        // `one` is built before what needs it, and that was over when the next one began.
        let one = all.iter().find(|time| time["name"] == "one").unwrap();
        let number = |time: &Value, name: &str| time[name].as_u64().unwrap();
        assert!(number(one, "start-ms") + number(one, "ms") <= number(default, "start-ms") + 1, "{report}");
        assert!(number(&report["resources"], "samples") >= 2 && number(&report["resources"], "memory-peak-bytes") > 0);
        assert!(report["max-jobs"].as_u64().unwrap() >= 1 && report["cores"].as_u64().unwrap() >= 1);
        // On a terminal, lines stand behind the name of their build, and steer nobody's log.
        assert!(built.log.contains("one> ::error::from the builder"), "{}", built.log);
        // Nothing is left to do the second time.
        let again = project.build(&["default"]);
        again.assert_succeeded();
        assert_eq!(again.endings(), []);
    }
}

#[test]
fn limits_are_the_users_where_he_has_some() {
    let Some(project) = first() else { return };
    let report = project.build(&["two", "--max-jobs", "1", "--cores", "config"]).report;
    assert_eq!((&report["max-jobs"], &report["cores"]), (&1.into(), &Value::Null));
    for (arguments, said) in [
        (&["--max-jobs", "many"][..], "auto, config"),
        (&["--retry-delay", "0"], "above 0"),
        (&["--check-command", "ls"], "a colon and a command"),
        (&["--artifact-format", "zip"], "nar.zst"),
    ] {
        let run = Run::of(project.command(&[&["two"], arguments].concat()));
        assert!(run.code == Some(2) && run.log.contains(said), "{run:?}");
    }
}

#[test]
fn results_are_linked_as_nix_does() {
    let Some(project) = first() else { return };
    let mut command = project.machine.nix_cache(&["build", "two", "--out-link", "here"]);
    command.arg("--flake").arg(format!("path:{}", project.folder.display()));
    command.arg("--store-root").arg(&project.store.root).current_dir(&project.folder);
    let run = Run::of(command);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.starts_with("Built in ") && run.out.contains("-two\n"), "{}", run.out);
    assert!(fs::read_link(project.folder.join("here")).unwrap().to_string_lossy().ends_with("-two"));
}

#[test]
fn artifacts_are_what_nix_makes_of_the_outputs() {
    for project in each() {
        for format in ["nar.zst", "nar.gz"] {
            let built = project.build(&["folder", "one", "--artifacts", "out", "--artifact-format", format]);
            built.assert_succeeded();
            let artifacts = built.report["artifacts"].as_array().unwrap();
            assert_eq!(artifacts.len(), 2, "{}", built.report);
            for artifact in artifacts {
                let file = project.folder.join(artifact["file"].as_str().unwrap());
                assert!(file.to_string_lossy().ends_with(format));
                assert_eq!(artifact["bytes"], file.metadata().unwrap().len());
                let unpacked = project.machine.path("unpacked");
                let input = fs::File::open(&file).unwrap();
                let nar: Box<dyn std::io::Read> = match format {
                    "nar.zst" => Box::new(zstd::Decoder::new(input).unwrap()),
                    _ => Box::new(flate2::read::GzDecoder::new(input)),
                };
                let mut restore = project.store.command("nix-store");
                let mut child = restore.arg("--restore").arg(&unpacked).stdin(Stdio::piped()).spawn().unwrap();
                let copied = std::io::copy(&mut { nar }, &mut child.stdin.take().unwrap()).unwrap();
                assert_eq!(artifact["nar-bytes"], copied);
                assert!(child.wait().unwrap().success());
                let real = project.store.root.join(&artifact["path"].as_str().unwrap()[1..]);
                let hash = |path| nix_cache::layer::hash_of(path).unwrap();
                assert_eq!(hash(&unpacked), hash(&real));
                nix_cache::store::tree::remove_tree(&unpacked).unwrap();
            }
            nix_cache::store::tree::remove_tree(&project.folder.join("out")).unwrap();
        }
    }
}

#[test]
fn checks_are_all_run_and_told() {
    for project in each() {
        let checks = ["--check-command", "good: true", "--check-command", "bad: echo so bad; false"];
        let built = project.build(&[&checks[..], &["--checks", "two"]].concat());
        assert_eq!((built.code, &built.report["outcome"]), (Some(1), &"failed".into()), "{}", built.log);
        // What was to be built is built all the same.
        assert_eq!(built.endings(), [("two", "built")], "{}", built.log);
        let verdict = |name: &str| {
            let all = built.report["checks"].as_array().unwrap();
            let check = all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}"));
            (check["verdict"].as_str().unwrap().to_owned(), check["reason"].as_str().unwrap().to_owned())
        };
        assert_eq!((verdict("good").0, verdict("bad").0), ("passed".into(), "failed".into()));
        for (name, reason) in [("format", "no formatter"), ("statix", "not installed"), ("deadnix", "not installed")] {
            let (verdict, why) = verdict(name);
            assert!(verdict == "not-run" && why.contains(reason), "{name}: {verdict}, {why}: {}", built.log);
        }
        // This flake has packages that cannot be evaluated.
        assert_eq!(verdict("flake-check").0, "failed");
        assert!(built.log.contains("bad> so bad"), "{}", built.log);
    }
}

#[test]
fn a_formatter_that_would_change_something_fails_its_check() {
    for project in each() {
        fs::write(project.folder.join("flake.nix"), include_str!("formatted.nix").replace("@system@", &system()))
            .unwrap();
        for (text, verdict, reason) in [("untidy\n", "failed", "a.txt"), ("tidy\n", "passed", "")] {
            fs::write(project.folder.join("a.txt"), text).unwrap();
            let built = project.build(&["--checks", "--check-command", "flake-check: true"]);
            let check = &built.report["checks"][0];
            assert_eq!(
                (&check["name"], &check["verdict"]),
                (&"format".into(), &verdict.into()),
                "{check}{}",
                built.log
            );
            assert!(check["reason"].as_str().unwrap().ends_with(reason), "{check}");
            assert_eq!(built.code, Some(i32::from(verdict == "failed")), "{}", built.log);
            assert_eq!(fs::read_to_string(project.folder.join("a.txt")).unwrap(), text, "the project stays as it is");
        }
    }
}

#[test]
fn nothing_is_built_where_only_checks_are_wanted() {
    let Some(project) = first() else { return };
    let built = project.build(&["--check-command", "good: true"]);
    built.assert_succeeded();
    assert_eq!((&built.report["attempts"], built.endings()), (&0.into(), vec![]));
    let failed = Built::of(project.command(&["--check-command", "bad: exit 3"]));
    assert_eq!((failed.code, &failed.report["category"]), (Some(1), &"test".into()));
}

#[test]
fn without_nix_it_says_so() {
    let Some(project) = first() else { return };
    let mut command = project.command(&["one"]);
    command.env("PATH", "/nowhere");
    let run = Run::of(command);
    assert_eq!(run.code, Some(1));
    assert!(run.log.contains("Install Nix"), "{}", run.log);
}
