//! Git queries: the current commit, the files that differ from another commit, and how to fetch that one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::base::child::without_secrets;
use crate::base::env_vars;

/// How far back a shallow clone is deepened in search of a commit that was planned before.
const DEEPEN: &str = "--depth=64";

/// What Git could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("git {what}: {said}")]
pub(crate) struct GitError {
    what: String,
    said: String,
}

/// A token that Git may show to one server, when it fetches from there.
#[derive(Clone)]
pub(crate) struct FetchToken {
    /// The server, as `https://github.com`.
    pub server: String,
    pub token: String,
}

impl std::fmt::Debug for FetchToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a token for {}", self.server)
    }
}

/// A clone of a repository, with its work tree.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    top: PathBuf,
    /// Where in it the project is; empty for the top.
    folder: String,
    token: Option<FetchToken>,
}

impl Repository {
    /// The repository that `project` is in.
    ///
    /// # Errors
    /// When it is in none, or Git refuses to look at it.
    pub(crate) fn open(project: &Path, token: Option<FetchToken>) -> Result<Self, GitError> {
        let top = git(project, &["rev-parse", "--show-toplevel"])?;
        let folder = git(project, &["rev-parse", "--show-prefix"])?;
        let line = |text: &str| text.trim_end_matches('\n').to_owned();
        Ok(Self { top: line(&top).into(), folder: line(&folder).trim_end_matches('/').to_owned(), token })
    }

    /// Its folder.
    #[must_use]
    pub(crate) fn top(&self) -> &Path {
        &self.top
    }

    /// Where in it the project is, between slashes; empty for the top.
    #[must_use]
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    /// The commit that is checked out.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn head(&self) -> Result<String, GitError> {
        self.commit("HEAD")
    }

    /// The full name of a commit that is here.
    ///
    /// # Errors
    /// When it is not here.
    pub(crate) fn commit(&self, name: &str) -> Result<String, GitError> {
        Ok(self
            .git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])?
            .trim()
            .to_owned())
    }

    /// Whether the work tree differs from the commit, in files that Git knows.
    #[must_use]
    pub(crate) fn is_dirty(&self) -> bool {
        self.git(&["diff", "--quiet", "--no-ext-diff", "HEAD", "--"]).is_err()
    }

    /// Whether history ends early here.
    #[must_use]
    pub(crate) fn is_shallow(&self) -> bool {
        self.git(&["rev-parse", "--is-shallow-repository"]).is_ok_and(|said| said.trim() == "true")
    }

    /// The parents of a commit, which is here; they themselves need not be.
    ///
    /// # Errors
    /// When the commit is not here.
    pub(crate) fn parents(&self, commit: &str) -> Result<Vec<String>, GitError> {
        // `rev-list` tells nothing of parents that a shallow clone has cut off; the commit itself does.
        let text = self.git(&["cat-file", "commit", commit])?;
        let header = text.lines().take_while(|line| !line.is_empty());
        Ok(header.filter_map(|line| line.strip_prefix("parent ")).map(str::to_owned).collect())
    }

    /// `commit` and its first parents, newest first, as far as history is here and no more than `most`.
    #[must_use]
    pub(crate) fn first_parents(&self, commit: &str, most: usize) -> Vec<String> {
        let count = format!("--max-count={most}");
        let listed = self.git(&["rev-list", "--first-parent", &count, "--end-of-options", commit, "--"]);
        listed.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The newest commit that two have in common.
    #[must_use]
    pub(crate) fn merge_base(&self, one: &str, other: &str) -> Option<String> {
        self.git(&["merge-base", "--end-of-options", one, other]).ok().map(|said| said.trim().to_owned())
    }

    /// The commit that a branch is at, where the clone came from.
    ///
    /// # Errors
    /// When that cannot be asked, or has no such branch.
    pub(crate) fn remote_branch(&self, branch: &str) -> Result<String, GitError> {
        let name = format!("refs/heads/{branch}");
        let said = run(self.with_token(&["ls-remote", "--exit-code", "origin", &name]), "ls-remote")?;
        Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// Gets a commit that is not here from where the clone came from.
    ///
    /// # Errors
    /// When it is not available: it is gone after a forced push, or the token lacks the permission.
    pub(crate) fn fetch(&self, commit: &str) -> Result<(), GitError> {
        if self.commit(commit).is_ok() {
            return Ok(());
        }
        self.fetch_with(&["--depth=1", "origin", commit])?;
        self.commit(commit).map(drop)
    }

    /// A file as it was in a commit that is here; none where the commit has no such file.
    ///
    /// # Errors
    /// When Git fails.
    pub(crate) fn file(&self, commit: &str, file: &str) -> Result<Option<String>, GitError> {
        let listed = self.git(&[
            "ls-tree",
            "--name-only",
            "-z",
            "--end-of-options",
            commit,
            "--",
            &format!(":(top,literal){file}"),
        ]);
        if listed?.is_empty() {
            return Ok(None);
        }
        self.git(&["cat-file", "blob", "--end-of-options", &format!("{commit}:{file}")]).map(Some)
    }

    /// Writes the files of a commit that is here into a folder.
    ///
    /// # Errors
    /// When Git fails.
    pub(crate) fn export(&self, commit: &str, folder: &Path) -> Result<(), GitError> {
        // An index of its own: nothing of this clone is changed.
        let mut read = command(&self.top);
        let index = folder.join(".git-index");
        read.env(env_vars::GIT_INDEX_FILE, &index).args(["read-tree", "--end-of-options", commit]);
        run(read, "read-tree")?;
        let mut write = command(&self.top);
        write.env(env_vars::GIT_INDEX_FILE, &index).args(["checkout-index", "--all", "--quiet"]);
        let mut prefix = std::ffi::OsString::from("--prefix=");
        prefix.push(folder.join(""));
        write.arg(prefix);
        run(write, "checkout-index").map(drop)
    }

    /// A repository of its own in the empty folder `folder`, with the files of a commit that is here, of which one has another content.
    ///
    /// # Errors
    /// When Git fails, or the file cannot be written.
    pub(crate) fn copy_with(&self, commit: &str, folder: &Path, file: &str, content: &[u8]) -> Result<Self, GitError> {
        let failed = |error: std::io::Error| GitError {
            what: "copy".to_owned(),
            said: format!("{}: {error}", folder.display()),
        };
        self.export(commit, folder)?;
        std::fs::remove_file(folder.join(".git-index")).map_err(failed)?;
        let file = folder.join(file);
        // Where it is a link, what it points to stays.
        if file.symlink_metadata().is_ok() {
            std::fs::remove_file(&file).map_err(failed)?;
        }
        std::fs::write(&file, content).map_err(failed)?;
        git(folder, &["init", "--quiet"])?;
        git(folder, &["add", "--all", "--force"])?;
        Self::open(&folder.join(&self.folder), None)
    }

    /// Gets some history behind `commit`, in a shallow clone.
    ///
    /// # Errors
    /// When it is not available.
    pub(crate) fn deepen(&self, commit: &str) -> Result<(), GitError> {
        if self.is_shallow() { self.fetch_with(&[DEEPEN, "origin", commit]) } else { Ok(()) }
    }

    fn fetch_with(&self, arguments: &[&str]) -> Result<(), GitError> {
        let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"];
        run(self.with_token(&[&fetch[..], arguments].concat()), "fetch").map(drop)
    }

    fn with_token(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.top);
        command.args(arguments);
        if let Some(FetchToken { server, token }) = &self.token {
            // In the environment of this one process, as it is: the runner hides it in every log, which it does with no other form
            // of it. Git asks for it when the server does, and for this server only.
            let key = format!("credential.{}.helper", server.trim_end_matches('/'));
            let helper = format!(
                "!f() {{ test \"$1\" = get && printf 'username=x-access-token\\npassword=%s\\n' \"${}\"; }}; f",
                env_vars::NIX_CACHE_GIT_TOKEN
            );
            let settings =
                [(&*key, ""), (&*key, &*helper), ("core.hooksPath", "/dev/null"), ("core.fsmonitor", "false")];
            command
                .env(env_vars::NIX_CACHE_GIT_TOKEN, token)
                .env(env_vars::GIT_CONFIG_COUNT, settings.len().to_string());
            for (number, (key, value)) in settings.into_iter().enumerate() {
                let [name, worth] =
                    [env_vars::GIT_CONFIG_KEY, env_vars::GIT_CONFIG_VALUE].map(|name| format!("{name}{number}"));
                command.env(name, key).env(worth, value);
            }
        }
        command
    }

    /// The files of the work tree that differ from `base`, from the top of the repository. Of a file that was renamed, both names.
    ///
    /// # Errors
    /// When `base` is not here.
    pub(crate) fn changed_since(&self, base: &str) -> Result<Vec<String>, GitError> {
        let options = ["--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=dirty"];
        let said = self.git(&[&["diff"], &options[..], &[base, "--"]].concat())?;
        let mut files: Vec<String> = said.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        files.sort();
        Ok(files)
    }

    /// The files that Git knows and that end in `.nix`.
    ///
    /// # Errors
    /// When Git fails.
    pub(crate) fn nix_files(&self) -> Result<Vec<String>, GitError> {
        let said = self.git(&["ls-files", "-z", "--", "*.nix"])?;
        Ok(said.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    pub(super) fn git(&self, arguments: &[&str]) -> Result<String, GitError> {
        git(&self.top, arguments)
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String, GitError> {
    let mut command = command(folder);
    command.args(arguments);
    run(command, arguments[0])
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    without_secrets(command.arg("-C").arg(folder).stdin(Stdio::null()));
    // Never prompt at a terminal.
    command.env(env_vars::GIT_TERMINAL_PROMPT, "0").env(env_vars::LC_ALL, "C");
    command
}

fn run(mut command: Command, what: &str) -> Result<String, GitError> {
    let failed = |said: String| GitError { what: what.to_owned(), said };
    let Output { status, stdout, stderr } =
        crate::base::child::output(&mut command).map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    Err(failed(if said.is_empty() { "it found nothing".to_owned() } else { said.chars().take(300).collect() }))
}

#[cfg(test)]
#[path = "git_test.rs"]
mod tests;
