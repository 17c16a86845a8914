//! The error that ends a command.

use std::fmt;

/// A whole sentence for the user, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
}

impl Failure {
    /// The user's input is invalid: exit code 2.
    #[allow(clippy::needless_pass_by_value, reason = "errors are handed over as they come out of `map_err`")]
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 2 }
    }

    /// The work failed, or a requested condition does not hold: exit code 1.
    #[allow(clippy::needless_pass_by_value, reason = "errors are handed over as they come out of `map_err`")]
    pub(crate) fn work(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }
}
