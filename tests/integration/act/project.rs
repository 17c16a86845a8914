//! A repository with a flake, the workflows of `tests/workflows` and a copy of the action, and runs of it with act.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::run::ActRun;
use crate::support::fake::{Fake, FakeConfig, RestPermission, Scope};
use crate::support::folder::copy;
use crate::support::machine::{Machine, TestStore};
use crate::support::nix::Nix;
use crate::support::skip;

/// Where act is: in the folder that `scripts/setup-act.sh` makes, or on PATH. Says so where it is missing.
pub(super) fn act() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/act");
    let found = [ours, "act".into()]
        .into_iter()
        .find(|act| Command::new(act).arg("--version").output().is_ok_and(|output| output.status.success()));
    let found = found.filter(|_| Command::new("node").arg("--version").output().is_ok());
    if found.is_none() {
        skip("there is no `act` or no `node`: scripts/setup-act.sh gets them.");
    }
    found
}

/// A repository, the cache service that its workflows see, and the machine that they run on.
pub(super) struct Project {
    pub machine: Machine,
    pub fake: Fake,
    act: PathBuf,
    runs: AtomicU32,
}

impl Project {
    /// A repository whose lock is up to date.
    pub(super) fn new(act: &Path, nix: &Nix, config: FakeConfig) -> Self {
        let machine = Machine::new(nix);
        let (ours, repository) = (Path::new(env!("CARGO_MANIFEST_DIR")), machine.path("repository"));
        copy(&ours.join("tests/workflows"), &repository.join(".github/workflows"));
        for part in ["flake", "keep", "machines"] {
            fs::rename(repository.join(".github/workflows").join(part), repository.join(part)).unwrap();
        }
        copy(&machine.path("project/tools"), &repository.join("flake/tools"));
        for part in [
            "action.yml",
            "hook",
            "restore",
            "save",
            "plan",
            "build",
            "audit",
            "dashboard",
            "prune",
            "warm",
            "push",
            "comment",
        ] {
            copy(&ours.join(part), &repository.join("nix-cache").join(part));
        }
        // act does not know `$/`, the action's own repository. Nothing else is changed.
        let nested = ["restore", "save", "plan", "build", "audit", "dashboard", "prune", "warm", "push", "comment"]
            .map(|folder| format!("{folder}/action.yml"));
        for action in nested.iter().map(String::as_str).chain(["action.yml"]) {
            replace(&repository.join("nix-cache").join(action), "uses: $/hook", "uses: ./nix-cache/hook");
        }
        let words = machine.path("words");
        replace(&repository.join("flake/flake.nix"), "@words@", words.to_str().unwrap());
        fs::create_dir_all(&words).unwrap();
        let project = Self { machine, fake: Fake::start(config), act: act.to_owned(), runs: AtomicU32::new(0) };
        project.write_words("first\n");
        project
    }

    /// Puts the program where the actions look for it when no input names one: a script that starts it, because the runs copy the repository and
    /// look through all files for tokens.
    pub(super) fn ship_binary(&self) {
        let dist = self.machine.path("repository/nix-cache/dist");
        fs::create_dir_all(&dist).unwrap();
        let name = format!("nix-cache-{}-linux", std::env::consts::ARCH);
        let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_nix-cache"));
        fs::write(dist.join(&name), script).unwrap();
        fs::set_permissions(dist.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Changes the flake's input, locks it and commits.
    pub(super) fn write_words(&self, words: &str) {
        fs::write(self.machine.path("words/list"), words).unwrap();
        let flake = self.machine.path("repository/flake");
        let _ = fs::remove_file(flake.join("flake.lock"));
        let store = self.machine.store("for-locking");
        store.nix(&["flake", "lock", &format!("path:{}", flake.display())]);
        assert!(flake.join("flake.lock").is_file());
        self.git(&["init", "--quiet", "--initial-branch=main"]);
        self.commit(words.trim());
    }

    /// Changes how the flake is written and not what it is: no derivation is another one. Commits that.
    pub(super) fn rewrite_flake(&self) {
        let flake = self.machine.path("repository/flake/flake.nix");
        replace(&flake, "Every third package", "Each third package");
        self.commit("other words");
    }

    /// Commits everything. Returns the commit.
    pub(super) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", message]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let repository = self.machine.path("repository");
        let output = self.machine.command("git").args(arguments).current_dir(repository).output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A run of a workflow on a machine that is new: its store is empty.
    pub(super) fn workflow<'a>(&'a self, name: &'a str) -> Act<'a> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let folder = self.machine.path(&format!("run-{number}"));
        Act {
            project: self,
            name,
            folder,
            env: self.fake.env(),
            interrupt: None,
            event: None,
            kind: "push",
            given: Vec::new(),
            programs: None,
        }
    }

    /// All tokens that the runs had.
    pub(super) fn secrets(&self, env: &[(String, String)]) -> Vec<String> {
        let tokens = env.iter().filter(|(name, _)| name == "ACTIONS_RUNTIME_TOKEN").map(|(_, token)| token.clone());
        tokens.chain([self.fake.rest_token(RestPermission::Read)]).collect()
    }
}

/// A run that has not begun.
pub(super) struct Act<'a> {
    project: &'a Project,
    name: &'a str,
    folder: PathBuf,
    env: Vec<(String, String)>,
    interrupt: Option<&'a str>,
    event: Option<PathBuf>,
    kind: &'a str,
    given: Vec<String>,
    programs: Option<PathBuf>,
}

impl<'a> Act<'a> {
    /// With one more variable that the runner sets.
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a token of these scopes.
    pub(super) fn scopes(mut self, scopes: &[Scope]) -> Self {
        self.env = self.project.fake.env_with(scopes);
        self
    }

    /// Cancelled as soon as a step prints this line.
    pub(super) fn cancelled_at(mut self, line: &'a str) -> Self {
        self.interrupt = Some(line);
        self
    }

    /// Started by an event with this payload.
    pub(super) fn with_event(mut self, payload: &Path) -> Self {
        self.event = Some(payload.to_owned());
        self
    }

    /// Started by another event than a push.
    pub(super) fn on(mut self, kind: &'a str) -> Self {
        self.kind = kind;
        self
    }

    /// With a variable of the repository and a secret, as `NAME=VALUE`.
    pub(super) fn with_settings(mut self, variable: &str, secret: &str) -> Self {
        self.given = ["--var", variable, "-s", secret].map(str::to_owned).into();
        self
    }

    /// With programs that are found before all others.
    pub(super) fn with_programs(mut self, folder: &Path) -> Self {
        self.programs = Some(folder.to_owned());
        self
    }

    /// Runs it to its end.
    pub(super) fn run(self) -> ActRun {
        let store = self.store();
        let results = self.folder.join("results");
        fs::create_dir_all(&results).unwrap();
        let mut command = self.command(&store, &results);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if self.interrupt.is_some_and(|wanted| says(&line, wanted)) {
                kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            }
            lines.push(line);
        }
        let status = child.wait().unwrap();
        let events: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let told: Vec<&str> = events.iter().filter_map(|event| event["msg"].as_str()).map(str::trim_end).collect();
        let text = format!("{}\n{}", told.join("\n"), errors.join().unwrap());
        let secrets = self.project.secrets(&self.env);
        let run = ActRun { green: status.success(), events, text, folder: self.folder, store, secrets };
        run.assert_no_token_is_anywhere();
        run
    }

    fn store(&self) -> TestStore {
        let name = self.folder.join("store");
        TestStore { machine: self.project.machine.clone(), root: name }
    }

    fn command(&self, store: &TestStore, results: &Path) -> Command {
        let mut command = self.project.machine.command(&self.project.act);
        let workflow = Path::new(".github/workflows").join(self.name);
        if let Some(first) = &self.programs {
            let programs = self.project.machine.nix.programs.iter().cloned();
            let path = std::env::var_os("PATH").unwrap_or_default();
            let all = std::iter::once(first.clone()).chain(programs).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(all).unwrap());
        }
        let token = self.project.fake.rest_token(RestPermission::Read);
        command.current_dir(self.project.machine.path("repository")).arg(self.kind).arg("--workflows").arg(workflow);
        // The job runs on this machine, and what act would hide is shown: a token in the log must not go unnoticed.
        command.args(["-P", "ubuntu-latest=-self-hosted", "--json", "--insecure-secrets", "--no-cache-server"]);
        command.args(["--concurrent-jobs", "2", "--artifact-server-addr", "127.0.0.1", "--pull=false"]);
        command.arg("--action-cache-path").arg(self.folder.join("act"));
        command.args(["-s", &format!("GITHUB_TOKEN={token}")]).args(&self.given);
        let rest = self.project.fake.rest_env(RestPermission::Read);
        let rest = rest.iter().filter(|(name, _)| name != "GITHUB_TOKEN");
        if let Some(event) = &self.event {
            command.arg("--eventpath").arg(event);
        }
        for (name, value) in self.env.iter().chain(rest) {
            command.args(["--env", &format!("{name}={value}")]);
        }
        let binary = env!("CARGO_BIN_EXE_nix-cache");
        for (name, value) in [("STORE", &*store.root), ("RESULTS", results), ("BINARY", Path::new(binary))] {
            command.args(["--var", &format!("{name}={}", value.display())]);
        }
        command
    }
}

/// Whether a line of act's log is this line of a step's.
fn says(line: &str, wanted: &str) -> bool {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    event["raw_output"] == true && event["msg"].as_str().is_some_and(|text| text.trim() == wanted)
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} has no {from}", file.display());
    fs::write(file, text.replace(from, to)).unwrap();
}
