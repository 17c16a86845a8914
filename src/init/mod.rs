//! Proposes a workflow and a `nix-cache.toml` for a flake.
//!
//! 1. [`propose`] reads the repository: where the flake is, its targets, the folders of its machines, the branch that CI is about, and what
//!    its workflows cache Nix with today.
//! 2. It writes both files in memory, with comments that say what each line is for.
//! 3. [`Proposal::write`] puts them into the repository. A file that exists and differs is replaced only if the user says so.
//!
//! Workflows that exist are never changed: what could be replaced in them is said with file and line.

mod files;
pub(crate) mod peers;
mod render;
mod steps;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::bounds::{MAX_TEXT, read_text};
use crate::plan::{Nix, Output, RULES_FILE, Repository, Target, outline};

pub(crate) use files::{NewFile, State};

/// Where the workflow is written, from the top of the repository.
const WORKFLOW: &str = ".github/workflows/nix-cache.yml";
/// Folders that often have one folder for each machine.
const HOST_FOLDERS: [&str; 6] = ["hosts", "machines", "systems", "nixos", "hosts/nixos", "nixos/hosts"];

/// Why nothing can be proposed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// There is no flake.
    #[error(
        "There is no flake.nix in {}. Run `nix-cache init` in the folder of a flake, give that folder with --project, or create a flake with \
         `nix flake init`.", .0.display()
    )]
    NoFlake(PathBuf),
    /// There is no repository.
    #[error(
        "{} is in no Git repository, and GitHub reads workflows only from one: {why}. Run `git init` first.", .folder.display()
    )]
    NoRepository { folder: PathBuf, why: String },
    /// A file is there already.
    #[error("{} exists and says something else. Compare with `nix-cache init --dry-run`, and replace it with --force.", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{} cannot be {done}: {error}.", .file.display())]
    File { file: PathBuf, done: &'static str, error: io::Error },
}

/// A use of another action that does what ours do.
#[derive(Debug)]
pub(crate) struct Found {
    /// The file, from the top of the repository, and the line.
    pub place: String,
    pub uses: String,
    /// The version of it whose inputs are known here.
    pub version: &'static str,
    pub advice: &'static str,
    /// Each of its inputs, and what becomes of it; None if that version has no such input.
    pub inputs: Vec<(String, Option<&'static str>)>,
}

/// What is known of the flake.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The folder of the flake from the top of the repository; empty at the top.
    pub folder: String,
    /// The branch that pull requests are for.
    pub branch: String,
    /// Its targets, or why they are not known.
    pub targets: Result<Vec<Target>, String>,
    /// A folder, from the top of the repository, with a folder for each of some machines, and those machines.
    pub hosts: Option<(String, Vec<String>)>,
}

/// What would be written, and what else the user should know.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub survey: Survey,
    pub files: Vec<NewFile>,
    pub found: Vec<Found>,
}

/// Looks at the flake in `project` and its repository.
///
/// # Errors
/// When there is no flake, or no repository.
pub(crate) async fn propose(project: &Path, nix: &Nix) -> Result<Proposal, InitError> {
    if !project.join("flake.nix").is_file() {
        return Err(InitError::NoFlake(project.to_owned()));
    }
    let repository = Repository::open(project, None)
        .map_err(|error| InitError::NoRepository { folder: project.to_owned(), why: error.to_string() })?;
    let targets = outline(nix, &repository).await.map_err(|error| error.to_string());
    let hosts = targets.as_ref().ok().and_then(|targets| hosts(&repository, targets));
    let survey = Survey { folder: repository.folder().to_owned(), branch: repository.default_branch(), targets, hosts };
    let top = repository.top().to_owned();
    let new = |name: &str, text: String| NewFile::new(&top, name, text);
    let files = vec![new(WORKFLOW, render::workflow(&survey)), new(RULES_FILE, render::rules(&survey))];
    Ok(Proposal { found: found(&top)?, survey, files })
}

/// The folder that has one folder for each machine of the flake, if one is named after at least one of them.
fn hosts(repository: &Repository, targets: &[Target]) -> Option<(String, Vec<String>)> {
    let machines = targets.iter().filter(|target| target.output == Output::NixosConfigurations);
    let names: Vec<&str> = machines.filter_map(|target| target.attr.names().last()).map(String::as_str).collect();
    let flake = repository.top().join(repository.folder());
    let of = |folder: &str| -> Vec<String> {
        let is_here = |name: &&&str| flake.join(folder).join(name).is_dir();
        names.iter().filter(is_here).map(|name| (*name).to_owned()).collect()
    };
    let (folder, names) =
        HOST_FOLDERS.into_iter().map(|folder| (folder, of(folder))).find(|(_, names)| !names.is_empty())?;
    if let Some(file) = crossing(&flake.join(folder), &names) {
        tracing::info!(
            "No rule for {folder} is written, because {} names the folder of another machine.",
            file.display()
        );
        return None;
    }
    let prefix = if repository.folder().is_empty() { String::new() } else { format!("{}/", repository.folder()) };
    Some((format!("{prefix}{folder}"), names))
}

/// A file of one machine that names the folder of another, which a rule for all machines must not miss.
fn crossing(folder: &Path, names: &[String]) -> Option<PathBuf> {
    let last = folder.file_name().unwrap_or_default().to_string_lossy();
    names.iter().find_map(|name| {
        let files = walkdir::WalkDir::new(folder.join(name)).into_iter().flatten().map(walkdir::DirEntry::into_path);
        files.filter(|file| has_extension(&file.to_string_lossy(), "nix")).find(|file| {
            // What cannot be read may name anything.
            let Ok(text) = read_text(file, MAX_TEXT) else { return true };
            let others = names.iter().filter(|other| *other != name);
            others.into_iter().any(|other| {
                [format!("../{other}"), format!("{last}/{other}")].iter().any(|path| {
                    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || "-_".contains(c));
                    text.split(&**path).skip(1).any(|rest| !goes_on(rest))
                })
            })
        })
    })
}

/// Every use of a known action in the workflows of a repository.
fn found(top: &Path) -> Result<Vec<Found>, InitError> {
    let folder = top.join(".github/workflows");
    let mut names: Vec<String> = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(InitError::File { file: folder, done: "read", error }),
        Ok(entries) => entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
    };
    names.retain(|name| has_extension(name, "yml") || has_extension(name, "yaml"));
    names.sort();
    let mut all = Vec::new();
    for name in names {
        let text = match read_text(&folder.join(&name), MAX_TEXT) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(".github/workflows/{name} is left out, because it cannot be read: {error}.");
                continue;
            }
        };
        all.extend(steps::uses_in(&text).into_iter().filter_map(|uses| known(&name, uses)));
    }
    Ok(all)
}

fn has_extension(name: &str, wanted: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == wanted)
}

fn known(file: &str, uses: steps::Uses) -> Option<Found> {
    let peer = peers::peer(&uses.action)?;
    let text = |(name, value): &(String, String)| format!("{name} {value}").to_lowercase();
    let mentions_nix = |input: &(String, String)| {
        let text = text(input);
        ["/nix", ".cache/nix", "nix-", "flake.lock"].iter().any(|word| text.contains(word))
    };
    if peer.is_general && !uses.inputs.iter().any(mentions_nix) {
        return None;
    }
    let becomes = |name: &str| peer.inputs.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    Some(Found {
        place: format!(".github/workflows/{file}:{}", uses.line),
        version: peer.version,
        advice: peer.advice,
        inputs: uses.inputs.iter().map(|(name, _)| (name.clone(), becomes(name))).collect(),
        uses: uses.action,
    })
}

impl Proposal {
    /// Writes what differs from what is there. With `force`, existing files are replaced.
    ///
    /// # Errors
    /// When a file exists and is not to be replaced (then nothing is written), or cannot be written.
    pub(crate) fn write(&self, force: bool) -> Result<(), InitError> {
        if let (false, Some(file)) = (force, self.files.iter().find(|file| file.state == State::Differs)) {
            return Err(InitError::Exists(file.path.clone()));
        }
        self.files.iter().filter(|file| file.state != State::Same).try_for_each(NewFile::write)
    }
}
