//! The processes that this program starts.

use std::process::Command;

/// Variables with a token in them. Nothing that we start needs one.
pub const SECRETS: [&str; 5] =
    ["NIX_CACHE_INPUTS", "ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"];

/// `command` without the variables in [`SECRETS`]. For every process that this program starts.
pub fn without_secrets(command: &mut Command) -> &mut Command {
    SECRETS.iter().fold(command, |command, name| command.env_remove(name))
}
