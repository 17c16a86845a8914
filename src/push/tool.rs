//! Pushes with the tool of a service, found on PATH: `cachix`, `attic` or `niks3`.
//!
//! 1. The tool is given paths in batches, each path after those that it refers to: on standard input if it reads them there,
//!    otherwise as arguments. It asks its server what is missing.
//! 2. It gets its credentials as it documents: from its own variables or files. Our tokens are not in its environment, and no
//!    secret is in its arguments.
//! 3. Its exit status decides. What it said is in the message if it failed, and otherwise in the log of `--verbose`.

use std::io::{self, ErrorKind, Seek, Write};
use std::process::Stdio;
use std::time::Instant;

use tokio::process::Command;

use super::Work;
use super::native::{Stop, in_time};
use super::outcome::SinkOutcome;
use super::upload::{part, sorted};
use crate::base::child::{output_of, without_secrets};
use crate::base::env_vars::{NIKS3_SERVER_URL, NIX_REMOTE};
use crate::base::human;
use crate::base::note::{Code, Note};
use crate::base::secrets;
use crate::remote::github::redact;
use crate::remote::objects::http_address;
use crate::store::{PathInfo, STORE_DIR};

/// Number of paths that a tool is given at once. As arguments, they have at most 60 KiB.
const BATCH: usize = 200;
/// Largest number of characters of what a tool said that are repeated.
const MOST_SAID: usize = 400;

/// A service with a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `cachix push CACHE`, with paths on standard input (docs.cachix.org/pushing).
    Cachix { cache: String },
    /// `attic push --stdin --no-closure SERVER:CACHE`, with paths on standard input (`client/src/command/push.rs` of attic).
    Attic { server: String, cache: String },
    /// `niks3 push PATH…`, with the server in `NIKS3_SERVER_URL` (`cmd/niks3/main.go` of niks3).
    Niks3 { url: String },
}

impl Tool {
    /// Parses what follows `cachix:`, `attic:` or `niks3:`; None for other schemes.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(super) fn parse(scheme: &str, rest: &str) -> Option<Result<Self, String>> {
        let is_name = |name: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
            !name.is_empty() && name.len() <= 100 && name.chars().all(allowed) && !name.starts_with(['-', '.'])
        };
        Some(match (scheme, rest.split_once(':')) {
            ("cachix", _) if is_name(rest) => Ok(Self::Cachix { cache: rest.to_owned() }),
            ("cachix", _) => Err("write the name of the cache, as in cachix:my-cache".to_owned()),
            ("attic", Some((server, cache))) if is_name(server) && is_name(cache) => {
                Ok(Self::Attic { server: server.to_owned(), cache: cache.to_owned() })
            }
            ("attic", _) => {
                Err("write the server as `attic login` knows it, and the cache, as in attic:my-server:my-cache"
                    .to_owned())
            }
            ("niks3", _) => {
                http_address(rest).map(|url| Self::Niks3 { url: url.as_str().trim_end_matches('/').to_owned() })
            }
            _ => return None,
        })
    }

    /// The name of the program.
    pub(super) fn program(&self) -> &'static str {
        match self {
            Self::Cachix { .. } => "cachix",
            Self::Attic { .. } => "attic",
            Self::Niks3 { .. } => "niks3",
        }
    }

    /// What the user can do if a push fails.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Cachix { .. } => "Check CACHIX_AUTH_TOKEN, and CACHIX_SIGNING_KEY if the cache has a key of yours.",
            Self::Attic { .. } => "Check that a step before ran `attic login` with a token that may push.",
            Self::Niks3 { .. } => "Check NIKS3_AUTH_TOKEN_FILE, the path of a file with the token.",
        }
    }

    /// The arguments before the paths, and whether it reads paths on standard input.
    fn arguments(&self) -> (Vec<String>, bool) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Self::Cachix { cache } => (words(&["push", cache]), true),
            Self::Attic { server, cache } => {
                (words(&["push", "--stdin", "--no-closure", &format!("{server}:{cache}")]), true)
            }
            Self::Niks3 { .. } => (words(&["push"]), false),
        }
    }
}

/// The name of the sink.
impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cachix { cache } => write!(f, "cachix:{cache}"),
            Self::Attic { server, cache } => write!(f, "attic:{server}:{cache}"),
            Self::Niks3 { url } => write!(f, "niks3:{url}"),
        }
    }
}

/// Passes `wanted` to the tool.
pub(super) async fn push(work: &Work, tool: &Tool, wanted: &[&PathInfo], notes: &mut Vec<Note>) -> SinkOutcome {
    let start = Instant::now();
    let name = tool.to_string();
    let before = work.pushed.of(&name);
    let mut outcome = SinkOutcome { tool: Some(tool.program()), ..SinkOutcome::after(&name, &before) };
    let mut wanted: Vec<&PathInfo> =
        wanted.iter().copied().filter(|info| !before.pushed.contains(&info.path)).collect();
    outcome.paths_later = part(&mut wanted, work.most);
    let mut given = 0;
    for batch in sorted(&wanted).chunks(BATCH) {
        if work.pushed.is_ending() {
            break;
        }
        let run = async { run(work, tool, batch).await.map_err(Stop::Local) };
        let why = match in_time(work.deadline, run).await {
            Ok(()) => {
                given += batch.len();
                work.pushed.note(&name, batch.iter().map(|info| info.path.clone()), 0);
                outcome.nar_bytes += batch.iter().map(|info| info.nar_size).sum::<u64>();
                continue;
            }
            Err(Stop::Local(why)) => why,
            Err(_) => "the time for it was used up. Raise `save-timeout` or `push-timeout`.".to_owned(),
        };
        let left = human::count((wanted.len() - given) as u64, "path");
        notes.push(Note::warn(Code::PushFailed, format!("{left} not pushed to {tool}: {why}")));
        outcome.complete = false;
        break;
    }
    outcome.paths_pushed = given as u64;
    outcome.paths_missing = (wanted.len() - given) as u64;
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome
}

/// Runs the tool with some paths. The error is a sentence with a remedy.
async fn run(work: &Work, tool: &Tool, batch: &[&PathInfo]) -> Result<(), String> {
    let program = tool.program();
    let paths: Vec<String> = batch.iter().map(|info| info.path.full(STORE_DIR)).collect();
    let (arguments, reads) = tool.arguments();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    without_secrets(command.as_std_mut());
    // The process that pushes while the job runs has them from elsewhere.
    command.envs(secrets::logins());
    if reads {
        let list = list(&paths).map_err(|error| format!("the list of paths cannot be written: {error}."))?;
        command.stdin(list);
    } else {
        command.args(&paths);
    }
    if let Tool::Niks3 { url } = tool {
        command.env(NIKS3_SERVER_URL, url);
    }
    if let Some(root) = work.dirs.argument() {
        command.env(NIX_REMOTE, root);
    }
    let output = match output_of(&mut command).await {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(format!(
                "there is no program `{program}` on PATH. Install it in a step before, such as `nix profile install nixpkgs#{}`.",
                if program == "attic" { "attic-client" } else { program }
            ));
        }
        Err(error) => return Err(format!("`{program}` cannot be run: {error}.")),
    };
    let said = said(&output.stdout, &output.stderr);
    if output.status.success() {
        tracing::debug!("{program}: {said}");
        return Ok(());
    }
    Err(format!("`{program} push` ended with {}: {}. {}", output.status, said.trim_end_matches('.'), tool.remedy()))
}

/// A file without a name that contains these lines.
fn list(lines: &[String]) -> io::Result<Stdio> {
    let mut file = tempfile::tempfile()?;
    file.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

/// The end of what a tool said, without secrets.
fn said(stdout: &[u8], stderr: &[u8]) -> String {
    let last = |bytes: &[u8]| {
        let text = redact(&String::from_utf8_lossy(bytes));
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ")
    };
    let text = [last(stderr), last(stdout)].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let skipped = text.chars().count().saturating_sub(MOST_SAID);
    let end: String = text.chars().skip(skipped).collect();
    match (end.is_empty(), skipped) {
        (true, _) => "it said nothing".to_owned(),
        (_, 0) => end,
        _ => format!("…{end}"),
    }
}
