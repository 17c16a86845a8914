//! A generic section of the job summary: a title, sentences and a table.

use super::markdown;
use crate::base::env_vars;

/// Largest number of rows that are shown.
const ROWS: usize = 300;

/// Appends a section with this title to the runner's file. Cells and sentences are plain text. Does nothing without a runner; if the
/// file cannot be written, or earlier steps left no room in it, the log says so.
pub(crate) fn write(title: &str, sentences: &[String], head: &[&str], rows: &[Vec<String>]) {
    if std::env::var_os(env_vars::GITHUB_STEP_SUMMARY).is_none() {
        return;
    }
    if let Err(error) = actions_rs::Summary::new().raw(render(title, sentences, head, rows), false).write() {
        tracing::warn!("The job summary could not be written: {error}.");
    }
}

/// Renders the section as Markdown.
#[must_use]
pub(crate) fn render(title: &str, sentences: &[String], head: &[&str], rows: &[Vec<String>]) -> String {
    let paragraphs: String =
        sentences.iter().flat_map(|sentence| [markdown::sentence(sentence), "\n\n".to_owned()]).collect();
    let shown: Vec<Vec<String>> =
        rows.iter().take(ROWS).map(|row| row.iter().map(|cell| markdown::plain(cell)).collect()).collect();
    let table = if rows.is_empty() { String::new() } else { markdown::table(head, 0, &shown) };
    let more = match rows.len().saturating_sub(ROWS) {
        0 => String::new(),
        more => format!("And {more} more.\n\n"),
    };
    format!("### {}\n\n{paragraphs}{table}{more}", markdown::plain(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_break_the_table_and_long_ones_are_cut() {
        let rows = vec![vec!["a|b".to_owned(), "<c>".to_owned()]; 302];
        let page = render("T", &["One.".to_owned()], &["x", "y"], &rows);
        assert!(page.starts_with("### T\n\nOne.\n\n| x | y |\n| --- | --- |\n| a&#124;b | &#60;c&#62; |\n"), "{page}");
        assert!(page.ends_with("And 2 more.\n\n") && page.lines().count() < 320);
        assert_eq!(render("T", &[], &["x"], &[]), "### T\n\n");
    }
}
