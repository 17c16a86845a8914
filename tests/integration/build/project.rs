//! A flake with one package for each way to fail, and runs of `nix-cache build` on it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::machine::{Machine, TestStore, system};
use crate::support::nix::{self, Nix};
use crate::support::program::Run;

/// A flake in a folder of its own, and a store.
pub(super) struct Project {
    pub machine: Machine,
    pub store: TestStore,
    pub folder: PathBuf,
}

/// What a run came to.
pub(super) struct Built {
    pub code: Option<i32>,
    pub report: Value,
    pub log: String,
}

/// A project for each Nix that is here.
pub(super) fn each() -> impl Iterator<Item = Project> {
    nix::all().iter().map(Project::new)
}

/// A project for the first Nix.
pub(super) fn first() -> Option<Project> {
    nix::all().first().map(Project::new)
}

impl Project {
    pub(super) fn new(nix: &Nix) -> Self {
        let machine = Machine::new(nix);
        let folder = machine.path("flake");
        fs::create_dir_all(folder.join("tools")).unwrap();
        fs::copy(machine.path("project/tools/busybox"), folder.join("tools/busybox")).unwrap();
        let flake = include_str!("flake.nix").replace("@system@", &system());
        fs::write(folder.join("flake.nix"), flake).unwrap();
        fs::write(folder.join("broken.nix"), "{\n  a = 1 +;\n}\n").unwrap();
        fs::write(folder.join("main.c"), "int main() {\n  return 0\n}\n").unwrap();
        let store = machine.store("store");
        Self { machine, store, folder }
    }

    /// `nix-cache build` of these, told as JSON. No retries unless they are given.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.command_in(&self.store, arguments)
    }

    /// The same on another store.
    pub(super) fn command_in(&self, store: &TestStore, arguments: &[&str]) -> Command {
        let mut command = self.machine.nix_cache(&["build", "--format", "json", "--no-link", "--quiet"]);
        command.arg("--flake").arg(format!("path:{}", self.folder.display())).arg("--store-root").arg(&store.root);
        command.args(arguments).current_dir(&self.folder);
        if !arguments.contains(&"--retries") {
            // In front of what stands behind two dashes.
            let all: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
            let mut again = self.machine.nix_cache(&[]);
            let at = all.iter().position(|argument| argument == "--").unwrap_or(all.len());
            again.args(&all[..at]).args(["--retries", "0"]).args(&all[at..]).current_dir(&self.folder);
            return again;
        }
        command
    }

    /// Runs it to its end.
    pub(super) fn build(&self, arguments: &[&str]) -> Built {
        Built::of(self.command(arguments))
    }
}

impl Built {
    pub(super) fn of(command: Command) -> Self {
        let Run { code, out, log } = Run::of(command);
        let report = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{log}"));
        Self { code, report, log }
    }

    /// The category, and the failure, of which there must be one.
    pub(super) fn failure(&self) -> (&str, &Value) {
        assert_eq!((self.code, &self.report["outcome"]), (Some(1), &"failed".into()), "{}{}", self.report, self.log);
        let failures = self.report["failures"].as_array().unwrap();
        assert_eq!(failures.len(), 1, "{}{}", self.report, self.log);
        (self.report["category"].as_str().unwrap(), &failures[0])
    }

    /// Fails unless it failed for this one reason.
    pub(super) fn assert_category(&self, expected: &str) -> &Value {
        let (category, failure) = self.failure();
        assert_eq!(
            (category, failure["category"].as_str().unwrap()),
            (expected, expected),
            "{}{}",
            self.report,
            self.log
        );
        let remedy = failure["remedy"].as_str().unwrap();
        assert!(remedy.ends_with('.') && self.log.contains(remedy), "{}", self.log);
        failure
    }

    /// Fails unless all was well.
    pub(super) fn assert_succeeded(&self) {
        assert_eq!((self.code, &self.report["outcome"]), (Some(0), &"succeeded".into()), "{}{}", self.report, self.log);
        assert_eq!(self.report["category"], Value::Null);
    }

    /// The derivations and how each ended.
    pub(super) fn endings(&self) -> Vec<(&str, &str)> {
        let all = self.report["derivations"].as_array().unwrap().iter();
        let mut all: Vec<_> =
            all.map(|time| (time["name"].as_str().unwrap(), time["ending"].as_str().unwrap())).collect();
        all.sort_unstable();
        all
    }
}
