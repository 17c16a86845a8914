//! Every environment variable that this program reads, and those that it sets or removes for its child processes: who sets
//! each one and what it does. The rest of the source refers to variables by these constants, which a test checks. Variables for
//! users are also in `docs/environment.md`.
//!
//! Not listed: variables that a user names in `env-vars` for the key; `STATE_*`, with which the runner passes state from the main
//! step to the post step (`github/state.rs`); `NIX_CACHE_SOURCE_HASH`, which is read at compile time (`cli/args.rs`); and
//! variables that libraries read, such as `HTTPS_PROXY`.

use std::path::PathBuf;

// == Set by users

/// Where layers and snapshots are stored, like `--remote`. In an action, `dir:PATH` replaces GitHub's cache.
pub(crate) const NIX_CACHE_REMOTE: &str = "NIX_CACHE_REMOTE";
/// The lane on the command line, like `--lane`.
pub(crate) const NIX_CACHE_LANE: &str = "NIX_CACHE_LANE";
/// The log filter of `tracing`, such as `nix_cache=debug`. It takes precedence over `--verbose` and `--quiet`.
pub(crate) const NIX_CACHE_LOG: &str = "NIX_CACHE_LOG";

/// A token for the `https://` sinks of a push. Child processes get neither of the two.
pub(crate) const NIX_CACHE_PUSH_TOKEN: &str = "NIX_CACHE_PUSH_TOKEN";
/// The same as user name and password, `USER:PASSWORD`.
pub(crate) const NIX_CACHE_PUSH_LOGIN: &str = "NIX_CACHE_PUSH_LOGIN";

// == Set by users or `aws-actions/configure-aws-credentials`, for `s3://` remotes. Child processes keep them: they are the user's.

/// The id of the key. Together with the two below, the only place that keys come from.
pub(crate) const AWS_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// The secret key.
pub(crate) const AWS_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// The token of temporary keys.
pub(crate) const AWS_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
/// The region, unless the remote names one.
pub(crate) const AWS_REGION: &str = "AWS_REGION";
/// The address of the store, unless the remote names one.
pub(crate) const AWS_ENDPOINT_URL: &str = "AWS_ENDPOINT_URL";

// == Set by the hook and by the action files

/// The inputs of an action, as one JSON object of strings. It can contain a token.
pub(crate) const NIX_CACHE_INPUTS: &str = "NIX_CACHE_INPUTS";
/// `stdin` means that tokens are passed on standard input and not in the environment.
pub(crate) const NIX_CACHE_SECRETS: &str = "NIX_CACHE_SECRETS";
/// The job's matrix as JSON, which a composite action cannot add to its inputs.
pub(crate) const NIX_CACHE_MATRIX: &str = "NIX_CACHE_MATRIX";
/// The process of the runner that carries out the job, as number and start time. Passed to the process that saves while the job runs, on
/// standard input.
pub(crate) const NIX_CACHE_JOB_PROCESS: &str = "NIX_CACHE_JOB_PROCESS";
/// The job's status so far, which a composite action cannot add to its inputs.
pub(crate) const NIX_CACHE_JOB_STATUS: &str = "NIX_CACHE_JOB_STATUS";

// == Only for tests of the whole program

/// Delays and limits for the cache service that replace the defaults: `name=milliseconds`, separated by commas.
pub(crate) const NIX_CACHE_TUNING: &str = "NIX_CACHE_TUNING";
/// The root of another store, for the actions. The command line has `--store-root`.
pub(crate) const NIX_CACHE_STORE_ROOT: &str = "NIX_CACHE_STORE_ROOT";

// == Set by GitHub's runner
// Source: "Variables reference" in GitHub's documentation; `ACTIONS_*` are in the source of `actions/toolkit`.

/// `true` on a runner, which executes workflow commands.
pub(crate) const GITHUB_ACTIONS: &str = "GITHUB_ACTIONS";
/// The workflow's name, or its file if it has no name.
pub(crate) const GITHUB_WORKFLOW: &str = "GITHUB_WORKFLOW";
/// The job's id in the workflow's file.
pub(crate) const GITHUB_JOB: &str = "GITHUB_JOB";
/// The event that started the run.
pub(crate) const GITHUB_EVENT_NAME: &str = "GITHUB_EVENT_NAME";
/// The file with the event's payload.
pub(crate) const GITHUB_EVENT_PATH: &str = "GITHUB_EVENT_PATH";
/// The server of the repository, such as `https://github.com`.
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
/// The file for a step's outputs. If it is not set, none are written.
pub(crate) const GITHUB_OUTPUT: &str = "GITHUB_OUTPUT";
/// The file for state that the main step passes to the post step.
pub(crate) const GITHUB_STATE: &str = "GITHUB_STATE";
/// The file for a step's part of the job summary. If it is not set, none is written.
pub(crate) const GITHUB_STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// `github-hosted` or `self-hosted`.
pub(crate) const RUNNER_ENVIRONMENT: &str = "RUNNER_ENVIRONMENT";
/// The machine's operating system, such as `Linux`.
pub(crate) const RUNNER_OS: &str = "RUNNER_OS";
/// The machine's processor, such as `X64`.
pub(crate) const RUNNER_ARCH: &str = "RUNNER_ARCH";
/// A folder that is emptied before and after each job.
pub(crate) const RUNNER_TEMP: &str = "RUNNER_TEMP";
/// `1` if the user enabled debug messages.
pub(crate) const RUNNER_DEBUG: &str = "RUNNER_DEBUG";
/// The address of the cache service of version 2. Only actions get it.
pub(crate) const ACTIONS_RESULTS_URL: &str = "ACTIONS_RESULTS_URL";
/// The token for that service. Only actions get it.
pub(crate) const ACTIONS_RUNTIME_TOKEN: &str = "ACTIONS_RUNTIME_TOKEN";
/// The `cache-mode:` of the job or workflow.
pub(crate) const ACTIONS_CACHE_MODE: &str = "ACTIONS_CACHE_MODE";
/// The address of the cache service of version 1, which we do not support: a sign of an old server.
pub(crate) const ACTIONS_CACHE_URL: &str = "ACTIONS_CACHE_URL";
/// False if the server has no cache service of version 2.
pub(crate) const ACTIONS_CACHE_SERVICE_V2: &str = "ACTIONS_CACHE_SERVICE_V2";
/// A token for requesting tokens of other services. Never read, and removed from the environment of child processes.
pub(crate) const ACTIONS_ID_TOKEN_REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// The prefix of the runner's variables for its own actions. Child processes get none of them.
pub(crate) const ACTIONS_PREFIX: &str = "ACTIONS_";
/// The prefix of action inputs. Child processes get none of them.
pub(crate) const INPUT_PREFIX: &str = "INPUT_";
/// The prefixes of variables with logins of object stores and binary caches, which are the user's.
pub(crate) const LOGIN_PREFIXES: [&str; 4] = ["AWS_", "ATTIC_", "CACHIX_", "NIKS3_"];

// == Set by users, workflows or the runner: tokens for GitHub's REST interface

/// A token with `actions: read`, for listing the cache. The input `token` takes precedence.
pub(crate) const GITHUB_TOKEN: &str = "GITHUB_TOKEN";
/// The input `token`, as the runner passes it to an action.
pub(crate) const INPUT_TOKEN: &str = "INPUT_TOKEN";
/// A token of GitHub's command line. Never read, and removed from the environment of child processes.
pub(crate) const GH_TOKEN: &str = "GH_TOKEN";

// == Set by Nix, the system or `sudo`

/// The user's home folder, for `~` in `paths` and for Nix's caches.
pub(crate) const HOME: &str = "HOME";
/// The folders in which programs are searched.
pub(crate) const PATH: &str = "PATH";
/// The kind of terminal. Only passed on.
pub(crate) const TERM: &str = "TERM";
/// The folder of the user's caches; Nix's are in `nix` there.
pub(crate) const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// The folder of Nix's own caches. The name is Nix's, not ours.
pub(crate) const NIX_CACHE_HOME: &str = "NIX_CACHE_HOME";
/// The store that Nix's programs use: `unix://PATH` names the socket of a daemon.
pub(crate) const NIX_REMOTE: &str = "NIX_REMOTE";
/// The socket of the daemon.
pub(crate) const NIX_DAEMON_SOCKET_PATH: &str = "NIX_DAEMON_SOCKET_PATH";
/// Variables that make Nix's programs use another place for a part of the store. Removed where `--store` names the store.
pub(crate) const NIX_FOLDERS: [&str; 4] = ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_DB_DIR"];
/// A file of CA certificates to trust instead of the system's.
pub(crate) const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
/// The same for Nix, used if `SSL_CERT_FILE` is not set.
pub(crate) const NIX_SSL_CERT_FILE: &str = "NIX_SSL_CERT_FILE";
/// Proxies for HTTP, as the HTTP client reads them; it reads the same names in lower case too.
pub(crate) const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
/// The user who called `sudo`.
pub(crate) const SUDO_UID: &str = "SUDO_UID";
/// The group of that user.
pub(crate) const SUDO_GID: &str = "SUDO_GID";

// == Set by us, for child processes

/// How glibc allocates memory, for the worker of a stream. Source: "Memory Allocation Tunables" in the manual of the GNU C library.
pub(crate) const GLIBC_TUNABLES: &str = "GLIBC_TUNABLES";
/// The token that Git's credential helper sends to one server.
pub(crate) const NIX_CACHE_GIT_TOKEN: &str = "NIX_CACHE_GIT_TOKEN";
/// Number of Git settings in the two variables below, which end with the number of the setting.
pub(crate) const GIT_CONFIG_COUNT: &str = "GIT_CONFIG_COUNT";
/// Name of one Git setting.
pub(crate) const GIT_CONFIG_KEY: &str = "GIT_CONFIG_KEY_";
/// Value of one Git setting.
pub(crate) const GIT_CONFIG_VALUE: &str = "GIT_CONFIG_VALUE_";
/// The index that Git uses instead of that of the clone.
pub(crate) const GIT_INDEX_FILE: &str = "GIT_INDEX_FILE";
/// `0` keeps Git from prompting at a terminal.
pub(crate) const GIT_TERMINAL_PROMPT: &str = "GIT_TERMINAL_PROMPT";
/// `C` makes Git print English messages.
pub(crate) const LC_ALL: &str = "LC_ALL";
/// Largest heap of an evaluation in bytes, read by the garbage collector that Nix is linked with.
pub(crate) const GC_MAXIMUM_HEAP_SIZE: &str = "GC_MAXIMUM_HEAP_SIZE";
/// The server that `niks3` pushes to.
pub(crate) const NIKS3_SERVER_URL: &str = "NIKS3_SERVER_URL";
/// If set to anything, Nix prints without colours.
pub(crate) const NO_COLOR: &str = "NO_COLOR";

/// Returns the path in the variable `name`, or None if it is not set or empty.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Returns the file of CA certificates that users or Nix name.
pub(crate) fn ca_file() -> Option<PathBuf> {
    [SSL_CERT_FILE, NIX_SSL_CERT_FILE].into_iter().find_map(path)
}

#[cfg(test)]
#[path = "env_vars_test.rs"]
mod tests;
