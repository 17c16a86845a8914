//! Runs `nix eval` on an attribute of a flake.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::AttrPath;
use crate::base::child::without_secrets;
use crate::base::env_vars;
use crate::building::text::plain;

/// The part of an error that is shown.
const LONGEST: usize = 300;

/// How Nix is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nix {
    /// A store under another root, as `nix --store DIR`.
    pub store_root: Option<PathBuf>,
    /// Further arguments of the user's.
    pub arguments: Vec<String>,
}

/// Why Nix gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NixError {
    /// The program is not there.
    #[error("`nix` cannot be started: {0}. Install Nix before this step.")]
    Start(String),
    /// The flake has no such attribute.
    #[error("the flake has no such attribute")]
    Missing,
    /// The worker came to its limit.
    #[error("it needs more memory than a worker has")]
    Memory,
    /// Anything else that Nix says.
    #[error("{0}")]
    Evaluation(String),
}

/// A flake, as Nix is told where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlakeRef {
    address: String,
    parameters: Vec<String>,
}

impl FlakeRef {
    /// The flake in a folder of a Git repository: as it stands there, or as it was in a commit.
    pub(crate) fn git(repository: &Path, folder: &str, commit: Option<&str>, is_shallow: bool) -> Self {
        let mut parameters = Vec::new();
        if !folder.is_empty() {
            parameters.push(format!("dir={}", encode(folder, "/")));
        }
        parameters.extend(commit.map(|commit| format!("rev={commit}")));
        if is_shallow {
            parameters.push("shallow=1".to_owned());
        }
        Self { address: format!("git+file://{}", encode(&repository.to_string_lossy(), "/")), parameters }
    }

    /// The flake in a folder that is in no repository.
    pub(super) fn path(folder: &Path) -> Self {
        Self { address: format!("path:{}", encode(&folder.to_string_lossy(), "/")), parameters: Vec::new() }
    }

    /// Its address, for `builtins.getFlake`.
    pub(crate) fn url(&self) -> String {
        let mark = if self.parameters.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.address, self.parameters.join("&"))
    }

    /// Whether it is a commit, which never changes.
    pub(super) fn is_at_commit(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.starts_with("rev="))
    }

    fn attribute(&self, attr: &AttrPath) -> String {
        format!("{}#{}", self.url(), encode(&attr.to_string(), "\"'+"))
    }
}

/// `text` with everything but letters, digits and a few marks as `%` and two digits.
fn encode(text: &str, kept: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~".contains(&byte) || kept.as_bytes().contains(&byte);
    let mut out = String::new();
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `text` as a string of the Nix language.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

impl Nix {
    /// The value of `apply`, a function of the Nix language, for an attribute of a flake. `memory` is the most bytes that the
    /// evaluation may take.
    ///
    /// # Errors
    /// [`NixError`]: what Nix says.
    pub(super) async fn eval(
        &self,
        flake: &FlakeRef,
        attr: &AttrPath,
        apply: &str,
        memory: Option<u64>,
    ) -> Result<Value, NixError> {
        let mut command = command("nix");
        command.args(["eval", "--json", "--no-write-lock-file", "--extra-experimental-features", "nix-command flakes"]);
        // Nix 2.8 takes what several processes of it write at once for missing attributes, and with `--apply` it helps nobody.
        command.args(["--option", "eval-cache", "false"]);
        command.arg(flake.attribute(attr)).args(["--apply", apply]).args(&self.arguments);
        if let Some(root) = &self.store_root {
            command.arg("--store").arg(crate::store::store_argument(root));
        }
        if let Some(bytes) = memory {
            // Read by the garbage collector that Nix is linked with.
            command.env(env_vars::GC_MAXIMUM_HEAP_SIZE, bytes.to_string());
        }
        let output =
            crate::base::child::output_of(&mut command).await.map_err(|error| NixError::Start(error.to_string()))?;
        if !output.status.success() {
            return Err(read_error(&String::from_utf8_lossy(&output.stderr)));
        }
        crate::base::bounds::from_json(&output.stdout)
            .map_err(|error| NixError::Evaluation(format!("Nix printed no JSON: {error}")))
    }

    /// Runs `nix` with these words, without its output, for what it leaves in the store.
    ///
    /// # Errors
    /// [`NixError`]: what Nix says.
    pub(crate) async fn run(&self, words: &[&str]) -> Result<(), NixError> {
        let mut command = command("nix");
        command.args(words).args(["--no-write-lock-file", "--extra-experimental-features", "nix-command flakes"]);
        command.args(&self.arguments);
        if let Some(root) = &self.store_root {
            command.arg("--store").arg(crate::store::store_argument(root));
        }
        let output =
            crate::base::child::output_of(&mut command).await.map_err(|error| NixError::Start(error.to_string()))?;
        if output.status.success() { Ok(()) } else { Err(read_error(&String::from_utf8_lossy(&output.stderr))) }
    }
}

/// A program of Nix's, without tokens in its environment.
pub(super) fn command(program: &str) -> Command {
    let mut command = std::process::Command::new(program);
    without_secrets(command.stdin(Stdio::null()).env(env_vars::NO_COLOR, "1"));
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

fn read_error(said: &str) -> NixError {
    let plain = plain(said);
    if plain.contains("does not provide attribute") {
        return NixError::Missing;
    }
    if plain.contains("out of memory") || plain.contains("Out of Memory") {
        return NixError::Memory;
    }
    NixError::Evaluation(essence(&plain))
}

/// What of an error fits into a line: from the last `error:` on, which since Nix 2.20 stands behind its trace. Lines of code say
/// nothing without the rest, and places in expressions of our own nothing at all.
fn essence(said: &str) -> String {
    let start = said.rfind("error:").map_or(0, |at| at + "error:".len());
    let is_code = |line: &str| line.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('|');
    let is_ours = |line: &str| {
        line.starts_with("at «") || line.starts_with("(use '--show-trace'") || line.starts_with("at (string)")
    };
    let lines = said[start..].lines().map(str::trim).filter(|line| !is_code(line) && !is_ours(line));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let line = words.join(" ");
    if line.chars().count() <= LONGEST { line } else { line.chars().take(LONGEST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_nix_reads() {
        let flake = FlakeRef::git(Path::new("/a b/r#1"), "", None, false);
        assert_eq!(flake.url(), "git+file:///a%20b/r%231");
        let flake = FlakeRef::git(Path::new("/r"), "sub/flake", Some("c0ffee"), true);
        assert_eq!(flake.url(), "git+file:///r?dir=sub/flake&rev=c0ffee&shallow=1");
        let attr = AttrPath::new(["packages", "x86_64-linux", "a.b"]);
        assert_eq!(FlakeRef::path(Path::new("/r")).attribute(&attr), "path:/r#packages.x86_64-linux.\"a.b\"");
    }

    #[test]
    fn errors_are_told_in_a_line() {
        let trace =
            "error:\n … while calling\n\n       \u{1b}[31;1merror:\u{1b}[0m undefined variable 'x'\n  at a.nix:1";
        assert_eq!(read_error(trace), NixError::Evaluation("undefined variable 'x' at a.nix:1".into()));
        assert_eq!(read_error("error: flake 'f' does not provide attribute 'a'"), NixError::Missing);
        let own = "error: cannot coerce a set to a string\n\n       at «string»:1:4:\n\n            1| (d: if (d.type or null)\n             |    ^\n       \
                   Did you mean x?";
        assert_eq!(read_error(own).to_string(), "cannot coerce a set to a string Did you mean x?");
        assert_eq!(read_error("GC Warning: x\nerror: out of memory"), NixError::Memory);
        assert!(read_error(&"x ".repeat(900)).to_string().chars().count() <= LONGEST);
    }

    #[test]
    fn strings_of_the_language_keep_what_is_in_them() {
        assert_eq!(quoted("a\"${b}\\"), "\"a\\\"\\${b}\\\\\"");
    }
}
