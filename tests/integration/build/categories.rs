//! A real failure of each category.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::project::{Built, Project, each};
use crate::support::skip_refused;

#[test]
fn evaluation() {
    for project in each() {
        let built = project.build(&["throws"]);
        let failure = built.assert_category("evaluation");
        assert!(failure["message"].as_str().unwrap().contains("this attribute is broken"), "{failure}");
        let built = project.build(&["broken"]);
        let failure = built.assert_category("evaluation");
        assert_eq!((&failure["file"], &failure["line"]), (&"broken.nix".into(), &2.into()), "{failure}");
        assert!(built.log.contains("broken.nix:2"), "{}", built.log);
        let built = project.build(&["undefined"]);
        assert_eq!(built.assert_category("evaluation")["file"], "flake.nix");
        project.build(&["no-such-package"]).assert_category("evaluation");
        let flake = format!("path:{}#one", project.machine.path("nowhere").display());
        project.build(&[&flake]).assert_category("evaluation");
    }
}

#[test]
fn a_target_that_cannot_be_evaluated_does_not_stop_the_others() {
    for project in each() {
        let built = project.build(&["one", "throws", "two", "undefined"]);
        assert_eq!(built.code, Some(1));
        assert_eq!(built.endings(), [("one", "built"), ("two", "built")], "{}{}", built.report, built.log);
        let failures = built.report["failures"].as_array().unwrap();
        let targets: Vec<_> = failures.iter().map(|failure| (&failure["target"], &failure["category"])).collect();
        let evaluation = serde_json::json!("evaluation");
        assert_eq!(targets, [(&"throws".into(), &evaluation), (&"undefined".into(), &evaluation)], "{}", built.report);
        assert!(built.log.contains("throws, undefined cannot be evaluated: the rest is built."), "{}", built.log);
        // Nothing is built where somebody wants to stop at the first failure, or where nothing is left.
        assert_eq!(project.build(&["one", "throws", "--no-keep-going"]).report["derivations"], serde_json::json!([]));
        assert_eq!(project.build(&["undefined", "throws"]).code, Some(1));
    }
}

#[test]
fn build() {
    for project in each() {
        let built = project.build(&["fails"]);
        let failure = built.assert_category("build");
        assert!(failure["derivation"].as_str().unwrap().ends_with("-fails.drv"), "{failure}");
        assert_eq!(failure["log"], serde_json::json!(["some line", "main.c:2:11: error: expected ;"]));
        assert_eq!((&failure["file"], &failure["line"]), (&"main.c".into(), &2.into()));
        assert_eq!((&failure["column"], &failure["transient"]), (&11.into(), &false.into()));
        assert!(failure["remedy"].as_str().unwrap().contains("nix log /nix/store/"), "{failure}");
        let verdicts = built.log.lines().filter(|line| line.contains("Failed"));
        assert_eq!(verdicts.count(), 1, "said once: {}", built.log);
        project.build(&["noOutput"]).assert_category("build");
    }
}

#[test]
fn every_failure_is_told_and_none_twice() {
    for project in each() {
        let built = project.build(&["both", "two"]);
        assert_eq!(built.code, Some(1));
        assert_eq!(
            built.endings(),
            [("fails", "failed"), ("fails-too", "failed"), ("two", "built")],
            "{}",
            built.report
        );
        let failures = built.report["failures"].as_array().unwrap();
        assert_eq!(failures.len(), 2, "{}", built.report);
        let stopped = project.build(&["both", "--no-keep-going"]);
        assert_eq!(
            stopped.endings(),
            [("fails", "failed"), ("fails-too", "stopped")],
            "{}{}",
            stopped.report,
            stopped.log
        );
        stopped.assert_category("build");
    }
}

#[test]
fn test() {
    for project in each() {
        let built = project.build(&["test"]);
        let failure = built.assert_category("test");
        assert_eq!(failure["phase"], "checkPhase");
        assert_eq!(failure["log"], serde_json::json!(["built", "not ok 3"]));
        let phases: Vec<_> =
            built.report["derivations"][0]["phases"].as_array().unwrap().iter().map(|phase| &phase["name"]).collect();
        assert_eq!(phases, ["buildPhase", "checkPhase"]);
    }
}

#[test]
fn hash_mismatch() {
    for project in each() {
        let built = project.build(&["hash"]);
        let failure = built.assert_category("hash-mismatch");
        let remedy = failure["remedy"].as_str().unwrap();
        assert!(remedy.contains("put sha256-") && remedy.contains("in place of sha256-AAAA"), "{failure}");
        let line = fs::read_to_string(project.folder.join("flake.nix")).unwrap();
        let line = line.lines().position(|line| line.contains("sha256-AAAA")).unwrap() + 1;
        assert_eq!((&failure["file"], &failure["line"]), (&"flake.nix".into(), &line.into()));
    }
}

#[test]
fn inputs_that_git_cannot_fetch() {
    for project in each() {
        for (name, url, category) in [
            ("host", "git+https://no-such-host.invalid/a.git", "network"),
            ("port", "git+https://127.0.0.1:1/a.git", "network"),
            ("ssh", "git+ssh://git@127.0.0.1:1/a.git", "network"),
        ] {
            let folder = project.machine.path(name);
            fs::create_dir_all(&folder).unwrap();
            let text = format!("{{ inputs.a.url = \"{url}\"; outputs = {{ self, a }}: {{ x = a.x; }}; }}\n");
            fs::write(folder.join("flake.nix"), text).unwrap();
            let target = format!("path:{}#x", folder.display());
            let built = project.build(&[&target, "--retries", "1", "--retry-delay", "1"]);
            let failure = built.assert_category(category);
            assert_eq!((&failure["transient"], &built.report["attempts"]), (&true.into(), &2.into()), "{failure}");
            assert!(!failure["log"].as_array().unwrap().is_empty(), "Git says why: {failure}");
        }
    }
}

#[test]
fn network() {
    for project in each() {
        for target in ["refused", "fetched", "tarball"] {
            let built = project.build(&[target, "--", "--option", "download-attempts", "1"]);
            assert_eq!(built.assert_category("network")["transient"], true, "{target}");
        }
    }
}

#[test]
fn disk_full() {
    for project in each() {
        let disk = project.machine.path("disk");
        fs::create_dir_all(&disk).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=0755", "tmpfs"]).arg(&disk).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            return skip_refused("a small disk cannot be mounted here.");
        }
        let store = project.machine.store("disk");
        let built = Built::of(project.command_in(&store, &["large"]));
        let unmounted = Command::new("umount").arg("--lazy").arg(&disk).output().unwrap();
        assert!(unmounted.status.success(), "{unmounted:?}");
        built.assert_category("disk-full");
    }
}

#[test]
fn out_of_memory() {
    for project in each() {
        let built = project.build(&["hungry"]);
        assert_eq!(built.assert_category("out-of-memory")["log"][0], "dd: out of memory");
        project.build(&["killed"]).assert_category("out-of-memory");
    }
}

#[test]
fn time_out() {
    for project in each() {
        for limit in ["--derivation-timeout", "--max-silent-time"] {
            let built = project.build(&["slow", limit, "1"]);
            let failure = built.assert_category("time-out");
            assert!(failure["derivation"].as_str().unwrap().ends_with("-slow.drv"), "{failure}");
        }
        let built = project.build(&["slow", "--timeout", "8"]);
        let failure = built.assert_category("time-out");
        assert!(failure["message"].as_str().unwrap().contains("`timeout`"), "{failure}");
        assert!(failure["derivation"].as_str().unwrap().ends_with("-slow.drv"), "{failure}");
        assert_eq!(failure["log"], serde_json::json!(["begun"]), "{failure}");
    }
}

#[test]
fn cache() {
    for project in each() {
        let built = project.build(&["one"]);
        built.assert_succeeded();
        let path = built.report["paths"][0].as_str().unwrap();
        let real = project.store.root.join(&path[1..]);
        // As if what the cache had mounted were gone.
        fs::remove_file(real).unwrap();
        let built = project.build(&["default"]);
        assert!(built.assert_category("cache")["message"].as_str().unwrap().contains(path), "{}", built.report);
    }
}

#[test]
fn permission() {
    if !geteuid().is_root() {
        return skip_refused("only root can run something as somebody else.");
    }
    for project in each() {
        project.build(&["one"]).assert_succeeded();
        // The test's folder must be open to the other user, and its home must be his.
        let home = tempfile::tempdir().unwrap();
        assert!(Command::new("chown").arg("65534").arg(home.path()).status().unwrap().success());
        let flake = tempfile::tempdir().unwrap();
        assert!(
            Command::new("cp")
                .arg("-r")
                .arg(&project.folder)
                .arg(flake.path().join("flake"))
                .status()
                .unwrap()
                .success()
        );
        assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(flake.path()).status().unwrap().success());
        let ours = project.command(&["two"]);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--clear-groups"]).arg(ours.get_program());
        for argument in ours.get_args() {
            let text = argument.to_str().unwrap();
            match text.strip_prefix("path:") {
                Some(_) => command.arg(format!("path:{}", flake.path().join("flake").display())),
                None => command.arg(argument),
            };
        }
        for (name, value) in ours.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("HOME", home.path()).env("XDG_CACHE_HOME", home.path()).current_dir(flake.path());
        Built::of(command).assert_category("permission");
    }
}

#[test]
fn cancelled() {
    for project in each() {
        for signal in [Signal::INT, Signal::TERM] {
            let built = interrupted(&project, signal);
            assert_eq!((built.code, &built.report["outcome"]), (Some(1), &"cancelled".into()), "{}", built.log);
            assert_eq!(built.report["category"], "cancelled");
            assert_eq!(built.report["attempts"], 1, "a cancelled build is not retried");
            assert_eq!(built.endings(), [("slow", "stopped")]);
        }
    }
}

/// A build that gets a signal as soon as its builder has begun.
fn interrupted(project: &Project, signal: Signal) -> Built {
    let mut command = project.command(&["slow", "--retries", "2"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("slow> begun") {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        log = format!("{log}{line}\n");
    }
    let output = child.wait_with_output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {log}"));
    Built { code: output.status.code(), report, log }
}

#[test]
fn unknown() {
    for project in each() {
        // Nix refuses, and not for one of the known reasons.
        let built = project.build(&["one", "--", "--no-such-flag"]);
        let failure = built.assert_category("unknown");
        assert!(failure["message"].as_str().unwrap().contains("no-such-flag"), "{failure}");
    }
}
