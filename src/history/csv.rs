//! Runs as CSV (RFC 4180), for spreadsheets.

use super::run::{Built, Failed, Kind, Run};
use crate::audit::figures::AuditFigures;

/// The runs as a table with a head, one line each.
pub(crate) fn to_csv<'a>(runs: impl IntoIterator<Item = &'a Run>) -> String {
    let head = serde_json::to_value(full()).unwrap_or_default();
    let names: Vec<String> = head.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let mut out = names.join(",") + "\r\n";
    for run in runs {
        let values = serde_json::to_value(run).unwrap_or_default();
        let cells: Vec<String> = names.iter().map(|name| cell(&values[name])).collect();
        out += &(cells.join(",") + "\r\n");
    }
    out
}

/// A run in which every field has a value.
fn full() -> Run {
    let some = Some(0);
    Run {
        kind: Kind::Plan,
        cached_built: some,
        cached_bytes: some,
        built_ms: some,
        fetched_ms: some,
        fetched_bytes: some,
        guard: "none".to_owned(),
        targets: some,
        skipped: some,
        audit: Some(AuditFigures::default()),
        cached: some,
        restore_ms: some,
        save_ms: some,
        evaluation_ms: some,
        build_ms: some,
        job_ms: some,
        held: some,
        limit: some,
        category: "none".to_owned(),
        slowest: vec![Built::default()],
        failed: vec![Failed::default()],
        cpu_percent: some,
        memory_peak: some,
        is_foreign: true,
        ..Run::default()
    }
}

fn cell(value: &serde_json::Value) -> String {
    let text = match value {
        serde_json::Value::Null => return String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // A spreadsheet takes text that starts like this for a formula.
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
