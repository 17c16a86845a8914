//! Running `nix-cache`.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::machine::{Machine, TestStore};

/// One run that ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its exit code; None when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub out: String,
    /// What it logged.
    pub log: String,
}

impl Run {
    /// Waits for `command` to end.
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().expect("nix-cache runs");
        let text = |bytes| String::from_utf8(bytes).expect("nix-cache writes UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), log: text(output.stderr) }
    }

    /// What it printed, as JSON. It must have ended well.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.log);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl Machine {
    /// `nix-cache` with these arguments.
    pub(crate) fn nix_cache(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_nix-cache"));
        command.args(arguments).env_remove("NIX_CACHE_REMOTE").env_remove("RUNNER_ENVIRONMENT");
        command
    }
}

/// The key of most tests.
pub(crate) const KEY: &str = "tests-one";

impl TestStore {
    /// `nix-cache restore` or `save` of this store with a cache in a folder, a key and more arguments.
    pub(crate) fn verb(&self, verb: &str, cache: &Path, key: &str, more: &[&str]) -> Command {
        let mut command = self.machine.nix_cache(&[verb, "--format", "json", "--primary-key", key]);
        command.arg("--remote").arg(format!("dir:{}", cache.display()));
        command.arg("--store-root").arg(&self.root).args(["--threads", "2"]).args(more);
        command
    }

    /// Restores and gives the outcome.
    pub(crate) fn restore(&self, cache: &Path, key: &str, more: &[&str]) -> Value {
        Run::of(self.verb("restore", cache, key, more)).json()
    }

    /// Saves and gives the outcome.
    pub(crate) fn save(&self, cache: &Path, key: &str, more: &[&str]) -> Value {
        Run::of(self.verb("save", cache, key, more)).json()
    }

    /// Runs `nix-cache verify`.
    pub(crate) fn verify_program(&self) -> Run {
        let mut command = self.machine.nix_cache(&["verify", "--format", "json", "--threads", "2"]);
        command.arg("--store-root").arg(&self.root);
        Run::of(command)
    }
}

/// The codes of the notes in an outcome.
pub(crate) fn notes(outcome: &Value) -> Vec<&str> {
    let notes = outcome["notes"].as_array().expect("an outcome has notes");
    notes.iter().map(|note| note["code"].as_str().expect("a note has a code")).collect()
}
