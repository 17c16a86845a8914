//! State that the main step passes to the post step. The runner stores it in a file and passes it in a variable `STATE_<name>`,
//! so it must be short and must not be a secret.

use super::env::SECRETS;
use crate::base::env_vars;

/// Longest value in bytes. Linux starts no process with a variable above 128 KiB, so with a longer value the whole post step
/// would fail.
pub(crate) const LONGEST: usize = 32 * 1024;

/// Why a value could not be passed to the post step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// It is longer than [`LONGEST`].
    #[error(
        "The state {name:?} has {bytes} bytes, more than the {LONGEST} that a variable may take. Write it to a file in RUNNER_TEMP and keep the file's path."
    )]
    TooLong {
        name: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// It contains the value of a variable with a token.
    #[error("The state {name:?} contains a token, but state is written to disk. Remove the token.")]
    Secret { name: &'static str },
    /// The runner's file could not be written.
    #[error(
        "The state {name:?} could not be written to the file in GITHUB_STATE: {cause}. Check that RUNNER_TEMP has room."
    )]
    File { name: &'static str, cause: actions_rs::Error },
}

/// Passes `value` to the post step. Does nothing without a runner.
///
/// # Errors
/// [`StateError`] when the value is too long or a token, or the runner's file cannot be written.
pub(crate) fn save(name: &'static str, value: &str) -> Result<(), StateError> {
    check(name, value, crate::base::secrets::var)?;
    if std::env::var_os(env_vars::GITHUB_STATE).is_none() {
        return Ok(());
    }
    actions_rs::output::save_state(name, value).map_err(|cause| StateError::File { name, cause })
}

/// The variable in which the runner passes the value of `name`.
pub(crate) fn variable(name: &str) -> String {
    format!("STATE_{name}")
}

/// Returns the value that the main step passed under `name`.
#[must_use]
pub(crate) fn load(name: &str) -> Option<String> {
    actions_rs::output::get_state(name).filter(|value| !value.is_empty())
}

fn check(name: &'static str, value: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<(), StateError> {
    if value.len() > LONGEST {
        return Err(StateError::TooLong { name, bytes: value.len() });
    }
    let holds = |secret: String| secret.len() >= 8 && value.contains(&secret);
    if SECRETS.iter().filter_map(|secret| lookup(secret)).any(holds) {
        return Err(StateError::Secret { name });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_and_tokens_are_refused() {
        let none = |_: &str| None;
        assert!(check("a", &"x".repeat(LONGEST), none).is_ok());
        assert!(matches!(check("a", &"x".repeat(LONGEST + 1), none), Err(StateError::TooLong { .. })));
        let token = |name: &str| (name == "ACTIONS_RUNTIME_TOKEN").then(|| "eyJhbGciOi".to_owned());
        let error = check("a", "x eyJhbGciOi y", token).unwrap_err();
        assert!(matches!(error, StateError::Secret { .. }) && !error.to_string().contains("eyJ"));
        assert!(check("a", "x eyJhbG y", token).is_ok());
    }
}
