//! Standard output.

use crate::base::printing;

/// Prints `text` to standard output.
pub(crate) fn print(text: &str) {
    printing::out(text);
}

/// Prints a value as JSON to standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), crate::app::Failure> {
    let text = serde_json::to_string_pretty(value).map_err(crate::app::Failure::work)?;
    printing::out_json(&format!("{text}\n"));
    Ok(())
}
