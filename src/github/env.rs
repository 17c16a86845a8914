//! The job as described by the variables `GITHUB_*` and `RUNNER_*`, which no action can change.
//! Source: "Variables reference" in GitHub's documentation.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::env_vars;

/// The kind of machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Environment {
    /// A machine of GitHub's: created for each job and discarded after it.
    GithubHosted,
    /// A machine of the user's: it may keep its store for the next job.
    SelfHosted,
    /// Not a runner, such as a laptop.
    #[default]
    None,
}

/// Facts about the job. Unknown texts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Whether this is GitHub's runner, which executes workflow commands.
    pub on_github: bool,
    /// The workflow's name, or its file if it has no name.
    pub workflow: String,
    /// The job's id in the workflow's file.
    pub job: String,
    /// The event that started the run (`push`, `pull_request`, …).
    pub event: String,
    /// The file with the event's payload.
    pub event_path: Option<PathBuf>,
    /// The server of the repository, such as `https://github.com`.
    pub server_url: Option<String>,
    /// The full ref, such as `refs/heads/main`.
    pub git_ref: String,
    /// The commit.
    pub sha: String,
    /// `owner/name`.
    pub repository: String,
    /// The run's number, the same for all its attempts.
    pub run_id: Option<u64>,
    /// 1 for the first attempt.
    pub run_attempt: Option<u64>,
    /// The base branch of a pull request, short.
    pub base_ref: String,
    /// Whose machine it is.
    pub environment: Environment,
    /// The machine's operating system and processor as the runner names them (`Linux`, `X64`).
    pub machine: (String, String),
    /// A folder that is emptied before and after each job; without a runner, the system's temporary folder.
    pub temp: PathBuf,
    /// Where the repository is checked out.
    pub workspace: Option<PathBuf>,
    /// GitHub's REST interface.
    pub api_url: Option<String>,
    /// Whether the user asked for debug messages.
    pub debug: bool,
}

pub(crate) use crate::base::child::{SECRETS, without_secrets};

impl Facts {
    /// Reads the environment of this process.
    #[must_use]
    pub(crate) fn from_environment() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads an environment through `lookup`. An empty variable counts as unset.
    #[must_use]
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let maybe = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| maybe(name).unwrap_or_default();
        let count = |name: &str| maybe(name).and_then(|value| value.parse().ok());
        let environment = match text(env_vars::RUNNER_ENVIRONMENT).as_str() {
            "github-hosted" => Environment::GithubHosted,
            "self-hosted" => Environment::SelfHosted,
            _ => Environment::None,
        };
        Self {
            on_github: text(env_vars::GITHUB_ACTIONS) == "true",
            workflow: text(env_vars::GITHUB_WORKFLOW),
            job: text(env_vars::GITHUB_JOB),
            event: text(env_vars::GITHUB_EVENT_NAME),
            event_path: maybe(env_vars::GITHUB_EVENT_PATH).map(PathBuf::from),
            server_url: maybe(env_vars::GITHUB_SERVER_URL),
            git_ref: text(env_vars::GITHUB_REF),
            sha: text(env_vars::GITHUB_SHA),
            repository: text(env_vars::GITHUB_REPOSITORY),
            run_id: count(env_vars::GITHUB_RUN_ID),
            run_attempt: count(env_vars::GITHUB_RUN_ATTEMPT),
            base_ref: text(env_vars::GITHUB_BASE_REF),
            environment,
            machine: (text(env_vars::RUNNER_OS), text(env_vars::RUNNER_ARCH)),
            temp: maybe(env_vars::RUNNER_TEMP).map_or_else(std::env::temp_dir, PathBuf::from),
            workspace: maybe(env_vars::GITHUB_WORKSPACE).map(PathBuf::from),
            api_url: maybe(env_vars::GITHUB_API_URL),
            debug: text(env_vars::RUNNER_DEBUG) == "1",
        }
    }

    /// Whether the job runs for a pull request, or for what anybody can write about one.
    #[must_use]
    pub(crate) fn is_of_pull_request(&self) -> bool {
        self.git_ref.starts_with("refs/pull/")
            || self.event.starts_with("pull_request")
            || ["issue_comment", "issues", "merge_group", "discussion", "discussion_comment"].contains(&&*self.event)
    }

    /// The folder for our files of this job, the same in main, post and later steps.
    #[must_use]
    pub(crate) fn scratch(&self) -> PathBuf {
        self.temp.join("nix-cache")
    }

    /// The path of the report of `lane`, which is fixed from the start of the job.
    #[must_use]
    pub(crate) fn report_path(&self, lane: &str) -> PathBuf {
        self.scratch().join(super::component::component(lane)).join("report.json")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn facts(variables: &[(&str, &str)]) -> Facts {
        Facts::from_lookup(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_runner() {
        let facts = facts(&[
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_WORKFLOW", "CI"),
            ("GITHUB_JOB", "build"),
            ("GITHUB_REF", "refs/pull/7/merge"),
            ("GITHUB_BASE_REF", "main"),
            ("GITHUB_RUN_ID", "1658821493"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("RUNNER_ENVIRONMENT", "self-hosted"),
            ("RUNNER_TEMP", "/tmp/runner"),
            ("GITHUB_WORKSPACE", "/work space"),
        ]);
        assert!(facts.on_github);
        assert_eq!((facts.run_id, facts.run_attempt), (Some(1_658_821_493), Some(2)));
        assert_eq!(facts.environment, Environment::SelfHosted);
        assert_eq!(facts.report_path("CI"), Path::new("/tmp/runner/nix-cache/CI/report.json"));
    }

    #[test]
    fn a_laptop() {
        let facts = facts(&[("GITHUB_ACTIONS", ""), ("RUNNER_TEMP", ""), ("GITHUB_RUN_ID", "x")]);
        assert!(!facts.on_github);
        assert_eq!((facts.environment, facts.run_id), (Environment::None, None));
        assert_eq!(facts.temp, std::env::temp_dir());
    }

    #[test]
    fn no_process_that_we_start_gets_a_token() {
        let mut command = std::process::Command::new("env");
        for name in SECRETS {
            command.env(name, "s3cret");
        }
        let output = without_secrets(command.env("KEPT", "yes")).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.contains("KEPT=yes") && !printed.contains("s3cret"), "{printed}");
    }
}
