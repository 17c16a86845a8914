//! What a user should know of a step.

use serde::Serialize;

/// Something that the user should know: what happened, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// A fixed word for the kind of note.
    pub code: &'static str,
    /// A whole sentence, with the remedy where there is one.
    pub message: String,
    /// Whether it deserves a warning; otherwise it is for information.
    pub warning: bool,
}

impl Note {
    /// A note that is also logged as a warning now.
    #[must_use]
    pub fn warn(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        tracing::warn!("{message}");
        Self { code, message, warning: true }
    }

    /// A note that is also logged for information now.
    #[must_use]
    pub fn info(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        tracing::info!("{message}");
        Self { code, message, warning: false }
    }
}
