//! Every environment variable that this program reads, and those that it sets or removes for the programs it starts: who sets
//! each and what it does. The rest of the source names variables by these constants, and a test sees to it. Variables for users
//! are in `docs/environment.md` too.
//!
//! Not here: variables that a user names in `env-vars` for the key; `STATE_*`, which the runner makes of what the main step left
//! (`github/state.rs`); `NIX_CACHE_SOURCE_HASH`, which is read when the program is compiled (`cli/args.rs`); and what libraries
//! read, such as `HTTPS_PROXY`.

use std::path::PathBuf;

// == Set by users

/// Where layers and snapshots are kept, as `--remote` takes it. In an action too: `dir:PATH` replaces GitHub's cache.
pub(crate) const NIX_CACHE_REMOTE: &str = "NIX_CACHE_REMOTE";
/// The lane on the command line, as `--lane` takes it.
pub(crate) const NIX_CACHE_LANE: &str = "NIX_CACHE_LANE";
/// What is logged, as a filter of `tracing`: `nix_cache=debug`. It comes before `--verbose` and `--quiet`.
pub(crate) const NIX_CACHE_LOG: &str = "NIX_CACHE_LOG";

// == Set by the hook and by the action files

/// The inputs of an action, as one JSON object of strings. It can hold a token.
pub(crate) const NIX_CACHE_INPUTS: &str = "NIX_CACHE_INPUTS";
/// `stdin` says that tokens come on standard input and are not in the environment.
pub(crate) const NIX_CACHE_SECRETS: &str = "NIX_CACHE_SECRETS";
/// The job's matrix as JSON, which a composite action cannot put among its inputs.
pub(crate) const NIX_CACHE_MATRIX: &str = "NIX_CACHE_MATRIX";
/// The job's status so far, which a composite action cannot put among its inputs.
pub(crate) const NIX_CACHE_JOB_STATUS: &str = "NIX_CACHE_JOB_STATUS";

// == Only for tests of the whole program

/// Other delays and limits for the cache service than the default ones: `name=milliseconds`, with commas between them.
pub(crate) const NIX_CACHE_TUNING: &str = "NIX_CACHE_TUNING";
/// The store below this folder in place of the machine's own, for the actions. The command line has `--store-root`.
pub(crate) const NIX_CACHE_STORE_ROOT: &str = "NIX_CACHE_STORE_ROOT";

// == Set by GitHub's runner
// Source: "Variables reference" in GitHub's documentation; `ACTIONS_*` are in the source of `actions/toolkit`.

/// `true` on a runner, which reads workflow commands.
pub(crate) const GITHUB_ACTIONS: &str = "GITHUB_ACTIONS";
/// The workflow's name, or its file where it has none.
pub(crate) const GITHUB_WORKFLOW: &str = "GITHUB_WORKFLOW";
/// The job's id in the workflow's file.
pub(crate) const GITHUB_JOB: &str = "GITHUB_JOB";
/// The event that started the run.
pub(crate) const GITHUB_EVENT_NAME: &str = "GITHUB_EVENT_NAME";
/// The file with the event's payload.
pub(crate) const GITHUB_EVENT_PATH: &str = "GITHUB_EVENT_PATH";
/// The server that has the repository, such as `https://github.com`.
pub(crate) const GITHUB_SERVER_URL: &str = "GITHUB_SERVER_URL";
/// The address of the REST interface.
pub(crate) const GITHUB_API_URL: &str = "GITHUB_API_URL";
/// The repository as `owner/name`.
pub(crate) const GITHUB_REPOSITORY: &str = "GITHUB_REPOSITORY";
/// The full ref, such as `refs/heads/main`.
pub(crate) const GITHUB_REF: &str = "GITHUB_REF";
/// The base branch of a pull request.
pub(crate) const GITHUB_BASE_REF: &str = "GITHUB_BASE_REF";
/// The commit.
pub(crate) const GITHUB_SHA: &str = "GITHUB_SHA";
/// The run's number, the same for all its attempts.
pub(crate) const GITHUB_RUN_ID: &str = "GITHUB_RUN_ID";
/// 1 for the first attempt.
pub(crate) const GITHUB_RUN_ATTEMPT: &str = "GITHUB_RUN_ATTEMPT";
/// Where the repository is checked out.
pub(crate) const GITHUB_WORKSPACE: &str = "GITHUB_WORKSPACE";
/// The file that takes a step's outputs. Without it none are set.
pub(crate) const GITHUB_OUTPUT: &str = "GITHUB_OUTPUT";
/// The file that takes what the main step leaves for the post step.
pub(crate) const GITHUB_STATE: &str = "GITHUB_STATE";
/// The file that takes a step's part of the job summary. Without it there is none.
pub(crate) const GITHUB_STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// `github-hosted` or `self-hosted`.
pub(crate) const RUNNER_ENVIRONMENT: &str = "RUNNER_ENVIRONMENT";
/// The machine's operating system, such as `Linux`.
pub(crate) const RUNNER_OS: &str = "RUNNER_OS";
/// The machine's processor, such as `X64`.
pub(crate) const RUNNER_ARCH: &str = "RUNNER_ARCH";
/// A folder that is emptied before and after each job.
pub(crate) const RUNNER_TEMP: &str = "RUNNER_TEMP";
/// `1` when the user asked for debug messages.
pub(crate) const RUNNER_DEBUG: &str = "RUNNER_DEBUG";
/// The address of the cache service of version 2. Only actions get it.
pub(crate) const ACTIONS_RESULTS_URL: &str = "ACTIONS_RESULTS_URL";
/// The token for that service. Only actions get it.
pub(crate) const ACTIONS_RUNTIME_TOKEN: &str = "ACTIONS_RUNTIME_TOKEN";
/// What `cache-mode:` of the job or workflow allows.
pub(crate) const ACTIONS_CACHE_MODE: &str = "ACTIONS_CACHE_MODE";
/// The address of the cache service of version 1, which we do not speak: tells an old server.
pub(crate) const ACTIONS_CACHE_URL: &str = "ACTIONS_CACHE_URL";
/// False where the server has no cache service of version 2.
pub(crate) const ACTIONS_CACHE_SERVICE_V2: &str = "ACTIONS_CACHE_SERVICE_V2";
/// A token for tokens of other services. Never read: no program that we start gets it.
pub(crate) const ACTIONS_ID_TOKEN_REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// How the runner's variables for its own actions begin. No program that we start gets one.
pub(crate) const ACTIONS_PREFIX: &str = "ACTIONS_";
/// How inputs of an action begin. No program that we start gets one.
pub(crate) const INPUT_PREFIX: &str = "INPUT_";

// == Set by users, workflows or the runner: tokens for GitHub's REST interface

/// A token with `actions: read`, for listings of the cache. The input `token` comes before it.
pub(crate) const GITHUB_TOKEN: &str = "GITHUB_TOKEN";
/// The input `token`, as the runner hands it to an action.
pub(crate) const INPUT_TOKEN: &str = "INPUT_TOKEN";
/// A token of GitHub's command line. Never read: no program that we start gets it.
pub(crate) const GH_TOKEN: &str = "GH_TOKEN";

// == Set by Nix, the system or `sudo`

/// The user's home folder, for `~` in `paths` and for Nix's caches.
pub(crate) const HOME: &str = "HOME";
/// Where programs are.
pub(crate) const PATH: &str = "PATH";
/// Kind of the terminal. Only handed on.
pub(crate) const TERM: &str = "TERM";
/// The folder of the user's caches; Nix's are in `nix` there.
pub(crate) const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// The folder of Nix's own caches. The name is Nix's, not ours.
pub(crate) const NIX_CACHE_HOME: &str = "NIX_CACHE_HOME";
/// How Nix's programs reach a store: `unix://PATH` names the socket of a daemon.
pub(crate) const NIX_REMOTE: &str = "NIX_REMOTE";
/// The socket of the daemon.
pub(crate) const NIX_DAEMON_SOCKET_PATH: &str = "NIX_DAEMON_SOCKET_PATH";
/// Variables by which Nix's programs look elsewhere for a part of the store. Only removed, where `--store` names the store.
pub(crate) const NIX_FOLDERS: [&str; 4] = ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_DB_DIR"];
/// A file of CA certificates to trust in place of the system's.
pub(crate) const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
/// The same for Nix, where the other one is not set.
pub(crate) const NIX_SSL_CERT_FILE: &str = "NIX_SSL_CERT_FILE";
/// The user who called `sudo`.
pub(crate) const SUDO_UID: &str = "SUDO_UID";
/// The group of that user.
pub(crate) const SUDO_GID: &str = "SUDO_GID";

// == Set by us, for a program that we start

/// The token that Git's credential helper shows to one server.
pub(crate) const NIX_CACHE_GIT_TOKEN: &str = "NIX_CACHE_GIT_TOKEN";
/// How many settings of Git follow in the two below, each with its number at the end.
pub(crate) const GIT_CONFIG_COUNT: &str = "GIT_CONFIG_COUNT";
/// Name of one setting of Git.
pub(crate) const GIT_CONFIG_KEY: &str = "GIT_CONFIG_KEY_";
/// Value of one setting of Git.
pub(crate) const GIT_CONFIG_VALUE: &str = "GIT_CONFIG_VALUE_";
/// `0` keeps Git from asking at a terminal.
pub(crate) const GIT_TERMINAL_PROMPT: &str = "GIT_TERMINAL_PROMPT";
/// `C` makes Git speak English.
pub(crate) const LC_ALL: &str = "LC_ALL";
/// Most bytes of heap for an evaluation, read by the garbage collector that Nix is linked with.
pub(crate) const GC_MAXIMUM_HEAP_SIZE: &str = "GC_MAXIMUM_HEAP_SIZE";
/// Set to anything, it keeps Nix from colouring what it prints.
pub(crate) const NO_COLOR: &str = "NO_COLOR";

/// The path in the variable `name`. None where the variable is not set, or set to nothing.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The file of CA certificates that users or Nix name.
pub(crate) fn ca_file() -> Option<PathBuf> {
    [SSL_CERT_FILE, NIX_SSL_CERT_FILE].into_iter().find_map(path)
}

#[cfg(test)]
#[path = "env_vars_test.rs"]
mod tests;
