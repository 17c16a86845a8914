//! The lock file of a pull request, before it is merged. Its code is never run and its files are never checked out, but what its
//! lock file names is evaluated and built, with the rights of the default branch. So all of this has to hold:
//!
//! 1. It is open, and for the default branch.
//! 2. Its author is in the list of trusted ones, and its branch is in this repository, so only who may write there can change it.
//! 3. It changes `flake.lock` and no other file.
//! 4. Each input is locked to the place that it had before, or, if it is new, to the place that its flake asks for.
//!
//! Then the files of the branch are copied, and the lock file of the pull request's newest commit takes its place in the copy.

use std::path::{Path, PathBuf};

use url::Url;

use super::report::Pull;
use crate::flake::{LockInput, LockInputs};
use crate::plan::Repository;
use crate::remote::github::{ChangedFile, PullRequest, Pulls};

/// The name of a lock file.
const LOCK: &str = "flake.lock";
/// Number of pull requests of trusted authors whose files are looked at.
const LOOKED_AT: usize = 20;
/// What an update changes in a lock.
const CHANGES: [&str; 7] = ["rev", "narHash", "lastModified", "revCount", "ref", "dirtyRev", "dirtyShortRev"];
/// Hosts of archives whose addresses contain the version, and the number of parts of the path in front of it.
const RELEASES: [(&str, usize); 2] = [("releases.nixos.org", 0), ("api.flakehub.com", 4)];

/// Which pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WantedPull {
    Number(u64),
    /// The newest one that fits.
    Newest,
}

/// A copy of the branch with the lock file of a pull request.
#[derive(Clone, Debug)]
pub(crate) struct Bumped {
    pub pull: Pull,
    /// The top of the copy.
    pub top: PathBuf,
}

/// What is wanted.
pub(crate) struct BumpRequest<'a> {
    pub wanted: &'a WantedPull,
    /// Whose pull requests are trusted.
    pub authors: &'a [String],
    /// The folder of the flake, in a clone with the default branch checked out.
    pub project: &'a Path,
    /// The reference that the job runs for, which must be the default branch; None on a command line.
    pub git_ref: Option<&'a str>,
    /// An empty folder for the copy.
    pub into: &'a Path,
}

/// Copies the branch with the lock file of the wanted pull request.
///
/// # Errors
/// A sentence that says why nothing is warmed for a pull request.
pub(crate) async fn prepare(pulls: &Pulls, request: &BumpRequest<'_>) -> Result<Bumped, String> {
    let repository = Repository::open(request.project, None).map_err(|error| format!("{error}."))?;
    let lock = Path::new(repository.folder()).join(LOCK).to_string_lossy().into_owned();
    let pull = match request.wanted {
        WantedPull::Number(number) => {
            let pull = pulls.pull(*number).await.map_err(|why| format!("{why}."))?;
            is_fit(pulls, &pull, request.authors, &lock).await?;
            pull
        }
        WantedPull::Newest => newest(pulls, request.authors, &lock).await?,
    };
    if request.git_ref.is_some_and(|git_ref| git_ref.strip_prefix("refs/heads/") != Some(&pull.base)) {
        let git_ref = request.git_ref.unwrap_or_default();
        return Err(format!("This job runs for {git_ref}, and pull request {} is for {}.", pull.number, pull.base));
    }
    let refused = |why: String| format!("The lock file of pull request {} cannot be used: {why}.", pull.number);
    let content = pulls.file(&lock, &pull.commit).await.map_err(refused)?;
    let head = repository.head().map_err(|error| refused(error.to_string()))?;
    let base = repository.file(&head, &lock).map_err(|error| refused(error.to_string()))?;
    let base = base.ok_or_else(|| refused(format!("there is no {lock} in the branch")))?;
    let read = |bytes: &[u8]| LockInputs::parse(Path::new(&lock), bytes).map_err(|error| refused(error.to_string()));
    compare(&read(base.as_bytes())?, &read(&content)?).map_err(refused)?;
    let copy =
        repository.copy_with(&head, request.into, &lock, &content).map_err(|error| refused(error.to_string()))?;
    let PullRequest { number, commit, author, .. } = pull;
    Ok(Bumped { pull: Pull { number, commit, author }, top: copy.top().to_owned() })
}

/// The newest pull request that fits.
async fn newest(pulls: &Pulls, authors: &[String], lock: &str) -> Result<PullRequest, String> {
    let open = pulls.open().await.map_err(|why| format!("{why}."))?;
    let trusted = open.iter().filter(|pull| who(pull, authors).is_ok()).take(LOOKED_AT);
    for pull in trusted {
        match is_fit(pulls, pull, authors, lock).await {
            Ok(()) => return Ok(pull.clone()),
            Err(why) => tracing::info!("{why}"),
        }
    }
    Err(format!("No open pull request of {} changes {lock} and nothing else.", authors.join(", ")))
}

/// Whether its author and its branch are trusted.
fn who(pull: &PullRequest, authors: &[String]) -> Result<(), String> {
    let number = pull.number;
    if !pull.is_open {
        return Err(format!("Pull request {number} is not open."));
    }
    if pull.base != pull.default_branch {
        return Err(format!("Pull request {number} is for the branch {}, not for {}.", pull.base, pull.default_branch));
    }
    if !authors.iter().any(|author| author.eq_ignore_ascii_case(&pull.author)) {
        return Err(format!(
            "Pull request {number} is by {}, who is not in `trusted-authors` ({}).",
            pull.author,
            authors.join(", ")
        ));
    }
    if pull.from.is_empty() || !pull.from.eq_ignore_ascii_case(&pull.repository) {
        return Err(format!("The branch of pull request {number} is in another repository, where others may write."));
    }
    Ok(())
}

async fn is_fit(pulls: &Pulls, pull: &PullRequest, authors: &[String], lock: &str) -> Result<(), String> {
    who(pull, authors)?;
    let number = pull.number;
    match pulls.files(number).await.map_err(|why| format!("{why}."))?.as_slice() {
        [ChangedFile { filename, status }] if filename == lock && status == "modified" => Ok(()),
        [] => Err(format!("Pull request {number} changes nothing.")),
        files => {
            let others: Vec<&str> = files.iter().map(|file| &*file.filename).filter(|name| *name != lock).collect();
            let others =
                if others.is_empty() { "adds or removes it".to_owned() } else { format!("changes {}", others[0]) };
            Err(format!("Pull request {number} does not only modify {lock}: it {others}."))
        }
    }
}

/// Whether each input of `new` comes from where it came from in `old`.
fn compare(old: &LockInputs, new: &LockInputs) -> Result<(), String> {
    let direct = |lock: &LockInputs| lock.direct.keys().cloned().collect::<Vec<_>>();
    if direct(old) != direct(new) {
        return Err("it has other inputs than the flake".to_owned());
    }
    let known: std::collections::BTreeMap<String, &LockInput> =
        old.inputs.iter().enumerate().map(|(number, input)| (old.show(number), input)).collect();
    for (number, input) in new.inputs.iter().enumerate() {
        let path = new.show(number);
        let moved = |to: &str| format!("the input {path} is locked to {to}, {}", input.origin());
        match known.get(&path) {
            Some(before) if !is_same_place(&before.locked, &input.locked) => {
                return Err(moved("another place than before"));
            }
            Some(before) if before.original != input.original => {
                return Err(format!("the input {path} asks for something else than before"));
            }
            Some(_) => {}
            None if is_asked_for(input) => {}
            None => return Err(moved("another place than its flake asks for")),
        }
    }
    Ok(())
}

type Attributes = std::collections::BTreeMap<String, String>;

fn place(of: &Attributes) -> Attributes {
    of.iter()
        .filter(|(name, _)| !CHANGES.contains(&&***name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Whether two locks differ in the revision alone.
fn is_same_place(one: &Attributes, other: &Attributes) -> bool {
    let (mut one, mut other) = (place(one), place(other));
    let addresses = (one.remove("url"), other.remove("url"));
    let is_same = match &addresses {
        (Some(one), Some(other)) => one == other || is_same_release(one, other),
        (one, other) => one == other,
    };
    is_same && one == other
}

/// Whether both are addresses of versions of the same thing.
fn is_same_release(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (Url::parse(one), Url::parse(other)) else { return false };
    let clean = |url: &Url| {
        url.scheme() == "https" && url.username().is_empty() && url.password().is_none() && url.port().is_none()
    };
    let Some((_, fixed)) = RELEASES.iter().find(|(host, _)| one.host_str() == Some(host)) else { return false };
    let front = |url: &Url| -> Vec<String> { url.path().split('/').skip(1).take(*fixed).map(str::to_owned).collect() };
    clean(&one) && clean(&other) && one.host_str() == other.host_str() && front(&one) == front(&other)
}

/// Whether a new input is locked to what its flake asks for. A flake of an input that is not in the branch yet is not read here, so this is
/// what the lock file says that it asks for.
fn is_asked_for(input: &LockInput) -> bool {
    let kind = input.original("type").unwrap_or_default();
    // The registry decides where an indirect one is, so anything could be there.
    if !["github", "gitlab", "sourcehut", "git", "hg", "tarball", "file"].contains(&kind) {
        return false;
    }
    is_same_place(&input.original, &input.locked)
}

#[cfg(test)]
#[path = "lock_bump_test.rs"]
mod tests;
