//! A job on a runner: the files and variables that a step of the action gets, and its two steps as processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::fake::{Fake, RestPermission};
use crate::support::machine::{Machine, TestStore};
use crate::support::program::Run;

/// A job with a store that is empty at first.
pub(super) struct Job {
    pub store: TestStore,
    folder: PathBuf,
    variables: BTreeMap<String, String>,
    inputs: Value,
    secrets: Vec<String>,
}

/// What a step of the action did.
#[derive(Debug)]
pub(super) struct Step {
    /// Its exit code; 0 leaves the job green.
    pub code: Option<i32>,
    /// What it wrote to the job's log.
    pub log: String,
    /// The report after it.
    pub report: Value,
}

impl Step {
    /// The words that stay the same of the notes so far.
    pub(super) fn notes(&self) -> Vec<&str> {
        self.report["notes"].as_array().into_iter().flatten().filter_map(|note| note["code"].as_str()).collect()
    }
}

impl Job {
    /// A job of the repository of this fake, with the token that the fake gives out now.
    pub(super) fn new(machine: &Machine, fake: &Fake, name: &str, rest: RestPermission) -> Self {
        let folder = machine.path(&format!("{name}-runner"));
        for place in ["temp", "workspace"] {
            fs::create_dir_all(folder.join(place)).unwrap();
        }
        let mut variables: BTreeMap<String, String> = fake.env().into_iter().collect();
        let (tokens, others): (Vec<_>, Vec<_>) =
            fake.rest_env(rest).into_iter().partition(|(name, _)| name == "GITHUB_TOKEN");
        variables.extend(others);
        let token = tokens[0].1.clone();
        let secrets = vec![variables["ACTIONS_RUNTIME_TOKEN"].clone(), token.clone()];
        for (name, value) in [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_WORKFLOW", "CI"),
            ("GITHUB_JOB", "build"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("RUNNER_ENVIRONMENT", "self-hosted"),
            ("NIX_CACHE_TUNING", "rpc_delay=100,rpc_timeout=10000,finalize_delay=300,blob_delay=50"),
        ] {
            variables.insert(name.into(), value.into());
        }
        // Two jobs are two runs here.
        variables.insert(
            "GITHUB_RUN_ID".into(),
            name.bytes().fold(7_u64, |id, byte| id * 31 % 1_000_007 + u64::from(byte)).to_string(),
        );
        for (name, file) in [
            ("GITHUB_OUTPUT", "output"),
            ("GITHUB_STATE", "state"),
            ("GITHUB_ENV", "env"),
            ("GITHUB_STEP_SUMMARY", "summary"),
            ("RUNNER_TEMP", "temp"),
            ("GITHUB_WORKSPACE", "workspace"),
        ] {
            if !folder.join(file).is_dir() {
                fs::write(folder.join(file), "").unwrap();
            }
            variables.insert(name.into(), folder.join(file).display().to_string());
        }
        // The history, and saves while the job runs, have entries and requests of their own; their tests switch them on.
        let inputs = json!({
            "action": "both", "key": "tests", "token": token, "job-status": "success", "history": "false",
            "progressive": "off"
        });
        Self { store: machine.store(&format!("{name}-store")), folder, variables, inputs, secrets }
    }

    /// Sets a variable of the runner's.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// The number of its run.
    pub(crate) fn run_id(&self) -> u64 {
        self.variables["GITHUB_RUN_ID"].parse().unwrap()
    }

    /// Sets an input of the action's.
    pub(super) fn input(&mut self, name: &str, value: &str) {
        self.inputs[name] = value.into();
    }

    /// Leaves out an input that the action does not have.
    pub(super) fn without_input(&mut self, name: &str) {
        self.inputs.as_object_mut().unwrap().remove(name);
    }

    /// From now on, no step may tell this text.
    pub(super) fn keep_secret(&mut self, text: &str) {
        self.secrets.push(text.to_owned());
    }

    /// Where its repository is checked out.
    pub(super) fn workspace(&self) -> PathBuf {
        self.folder.join("workspace")
    }

    /// The main step.
    pub(super) fn restore(&self) -> Step {
        self.step("restore")
    }

    /// The post step.
    pub(super) fn post(&self) -> Step {
        let step = self.step("post");
        self.assert_no_token_is_written();
        step
    }

    /// The job's summary so far.
    pub(super) fn summary(&self) -> String {
        self.file("summary")
    }

    /// The outputs that later steps see.
    pub(super) fn outputs(&self) -> BTreeMap<String, String> {
        entries(&self.file("output"))
    }

    /// A step by its name.
    pub(super) fn step(&self, step: &str) -> Step {
        let run = Run::of(self.command(step));
        let log = format!("{}{}", run.out, run.log);
        self.assert_no_token_in(&log, "the log");
        let report = read_report(&self.folder.join("temp/nix-cache"));
        let report = report.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Step { code: run.code, log, report }
    }

    /// The command of a step, as the runner starts it.
    pub(super) fn command(&self, step: &str) -> Command {
        let mut command: Command = self.store.machine.nix_cache(&["action", step]);
        let state = entries(&self.file("state")).into_iter().map(|(name, value)| (format!("STATE_{name}"), value));
        command.envs(&self.variables).envs(state).env("NIX_CACHE_STORE_ROOT", &self.store.root);
        command.env("NIX_CACHE_INPUTS", self.inputs.to_string()).stdin(Stdio::null());
        command
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap()
    }

    pub(super) fn assert_no_token_is_written(&self) {
        for name in ["output", "state", "env", "summary"] {
            self.assert_no_token_in(&self.file(name), name);
        }
        if let Ok(text) = read_report(&self.folder.join("temp/nix-cache")) {
            self.assert_no_token_in(&text, "the report");
        }
    }

    fn assert_no_token_in(&self, text: &str, what: &str) {
        let lines = text.lines().filter(|line| !line.starts_with("::add-mask::"));
        for line in lines {
            let signed = line.contains("sig=") && !line.contains("sig=***");
            let told = signed || self.secrets.iter().any(|secret| line.contains(secret.as_str()));
            assert!(!told, "{what} holds a token or a signature: {line}");
        }
    }
}

/// The only report in a folder.
fn read_report(folder: &Path) -> std::io::Result<String> {
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let mut reports = entries.filter(|entry| entry.file_name() == "report.json");
    let report = reports.next().ok_or(std::io::ErrorKind::NotFound)?;
    fs::read_to_string(report.path())
}

/// What a file of the runner's holds: `name<<end`, lines, `end`.
fn entries(text: &str) -> BTreeMap<String, String> {
    let mut lines = text.lines();
    let mut found = BTreeMap::new();
    while let Some(line) = lines.next() {
        let (name, end) = line.split_once("<<").unwrap_or_else(|| panic!("{line:?} is not name<<end"));
        let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        found.insert(name.to_owned(), value.join("\n"));
    }
    found
}
