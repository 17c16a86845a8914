//! Escapes values for Markdown: characters with a meaning in GitHub's Markdown or in HTML become character references, and control
//! characters are removed.

use super::text;

/// Longest value in a cell, in characters. A longer one is cut.
pub(crate) const LONGEST: usize = 500;

/// Escapes `value` as plain text for a paragraph or a table cell, on one line.
pub(crate) fn plain(value: &str) -> String {
    let mut out = String::new();
    for c in text::cut(value, LONGEST).chars() {
        match c {
            'a'..='z'
            | 'A'..='Z'
            | '0'..='9'
            | ' '
            | '.'
            | ','
            | ';'
            | '/'
            | '%'
            | '('
            | ')'
            | '-'
            | '+'
            | '='
            | '?' => out.push(c),
            c if c.is_whitespace() => out.push(' '),
            c if c.is_control() || invisible(c) => {}
            c if c.is_ascii() => out.extend(["&#", &u32::from(c).to_string(), ";"]),
            c => out.push(c),
        }
    }
    out
}

/// Escapes a sentence like [`plain`], and formats as code what stands between two backticks.
pub(crate) fn sentence(value: &str) -> String {
    let shown = plain(value);
    let parts: Vec<&str> = shown.split("&#96;").collect();
    // An odd number of backticks belongs to the text.
    if parts.len().is_multiple_of(2) {
        return shown;
    }
    let tagged = parts.iter().enumerate().map(|(number, part)| match (number % 2, part.trim()) {
        (0, _) => (*part).to_owned(),
        (_, "") => format!("&#96;{part}&#96;"),
        _ => format!("<code>{part}</code>"),
    });
    tagged.collect()
}

/// Formats `value` as code.
pub(crate) fn code(value: &str) -> String {
    format!("<code>{}</code>", plain(value))
}

/// Formats `value` as a span of code in Markdown, for places where GitHub makes links and mentions of plain text. What would end the
/// span or a cell is replaced, and nothing else has a meaning in it.
pub(crate) fn span(value: &str, most: usize) -> String {
    let shown = |c: char| match c {
        '`' => Some('\''),
        '|' => Some('\u{2223}'),
        c if c.is_whitespace() => Some(' '),
        c if c.is_control() || invisible(c) => None,
        c => Some(c),
    };
    let text: String = text::cut(value, most).chars().filter_map(shown).collect();
    let text = text.trim();
    if text.is_empty() { "–".to_owned() } else { format!("`{text}`") }
}

/// Formats a table. Every row must have as many cells as `head`; cells are already Markdown. The last `numbers` columns are
/// right-aligned.
pub(crate) fn table(head: &[&str], numbers: usize, rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head_cells: Vec<String> = head.iter().map(|cell| plain(cell)).collect();
    let rule = |index: usize| if index + numbers >= head.len() { "---:" } else { "---" };
    let rules: Vec<String> = (0..head.len()).map(|index| rule(index).to_owned()).collect();
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{body}\n", line(&head_cells), line(&rules))
}

/// Invisible characters that reverse or join the text around them.
fn invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_means_something_is_written_as_a_reference() {
        assert_eq!(plain("a|b\n<b>*x*"), "a&#124;b &#60;b&#62;&#42;x&#42;");
        assert_eq!(plain("\u{202E}a\0\u{1b}"), "a");
        assert_eq!(code("hello-2.12"), "<code>hello-2.12</code>");
        assert_eq!(sentence("Run `nix build` of `<b>`."), "Run <code>nix build</code> of <code>&#60;b&#62;</code>.");
        assert_eq!(sentence("a ` b"), "a &#96; b");
        assert_eq!(sentence("a `` b ` ` c"), "a &#96;&#96; b &#96; &#96; c");
    }

    proptest! {
        #[test]
        fn nothing_with_a_meaning_is_left(value in any::<String>()) {
            let shown = plain(&value);
            prop_assert!(sentence(&value).replace("<code>", "&#96;").replace("</code>", "&#96;") == shown);
            prop_assert!(!shown.contains(['\n', '\r', '|', '<', '>', '`', '*', '_', '[', ']', '\\', '~', '$', '@', ':', '"']));
            prop_assert!(shown.len() <= 6 * LONGEST);
            for reference in shown.split('&').skip(1) {
                let digits = reference.strip_prefix('#').and_then(|rest| rest.split_once(';')).unwrap().0;
                prop_assert!(digits.parse::<u8>().is_ok());
            }
        }
    }
}
