//! TOML that people write: what is wrong with it, and on which line.

use serde::de::DeserializeOwned;

/// The line of the byte `at`, from 1.
pub(crate) fn line_at(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or(text).matches('\n').count()
}

/// Reads `text` as TOML.
///
/// # Errors
/// The byte at which it is wrong, and why, on one line.
pub(crate) fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, (usize, String)> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        (error.span().map_or(0, |span| span.start), error.message().replace('\n', ", "))
    })
}
