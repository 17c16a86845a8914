//! Tables of a summary that can be folded away.

use super::{markdown, text};

/// Largest number of rows of a table; the report has all of them.
pub(super) const ROWS: usize = 10;

/// A table of at most [`ROWS`] rows, folded under `title` if it has one. None without rows.
pub(crate) fn section(
    title: Option<&str>,
    head: &[&str],
    numbers: usize,
    rows: impl Iterator<Item = Vec<String>>,
) -> Option<String> {
    let rows: Vec<_> = rows.collect();
    let shown = &rows[..rows.len().min(ROWS)];
    if shown.is_empty() {
        return None;
    }
    let table = format!("{}{}", markdown::table(head, numbers, shown), more(rows.len()));
    Some(match title {
        Some(title) => format!("<details><summary>{title}</summary>\n\n{table}</details>\n\n"),
        None => table,
    })
}

pub(crate) fn more(all: usize) -> String {
    match all.saturating_sub(ROWS) {
        0 => String::new(),
        left => format!("and {} more in the report\n\n", text::number(left as u64)),
    }
}
