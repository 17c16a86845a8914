//! Removes runner commands and control characters from text.
//!
//! Source: `ActionCommand.cs` of actions/runner. `##[…]` anywhere in a line and `::…::` at its start, after white space, are
//! commands. The comparison is culture-sensitive and ignores characters without a collation weight (zero width spaces, soft
//! hyphens, many more). Only the ASCII characters of a line are therefore considered here.

use std::fmt::Write;

/// Removes commands and control characters from `text`. Line breaks and tabs stay; a carriage return, which starts a new line for
/// a runner, becomes a line break.
#[must_use]
pub(crate) fn safe(text: &str) -> String {
    lines(text)
}

/// Like [`safe`], for a terminal: colours stay.
pub(super) fn coloured(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(&safe(before));
        let codes = after.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(after.len());
        if after[codes..].starts_with('m') {
            out.extend(["\u{1b}[", &after[..=codes]]);
            rest = &after[codes + 1..];
        } else {
            out.push('\u{FFFD}');
            rest = after;
        }
    }
    out + &safe(rest)
}

/// Like [`safe`], as one line: every line break becomes a space.
#[must_use]
pub(crate) fn line(text: &str) -> String {
    safe(&text.replace(['\r', '\n'], " "))
}

/// Rewrites the JSON `text` without changing its meaning so that it contains no command: in a JSON string, every character can be
/// written as its number.
#[must_use]
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut hashes = 0;
    for c in text.chars() {
        let opens = c == '[' && hashes >= 2;
        hashes = count(hashes, c);
        if opens || (c != '\n' && shown(c) != c) {
            // Writing to a String cannot fail.
            let _ = c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"));
        } else {
            out.push(c);
        }
    }
    out
}

fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut start = Start::Blank;
    let mut hashes = 0;
    let mut previous = ' ';
    for c in text.chars() {
        let after_return = std::mem::replace(&mut previous, c) == '\r';
        if matches!(c, '\n' | '\r') {
            if c == '\r' || !after_return {
                out.push('\n');
            }
            (start, hashes) = (Start::Blank, 0);
            continue;
        }
        let breaks = (c == '[' && hashes >= 2) || (c == ':' && start == Start::Colon);
        if breaks {
            out.push(' ');
        }
        hashes = count(hashes, c);
        start = start.then(c);
        out.push(shown(c));
    }
    out
}

/// What the line begins with so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Only characters that a runner may ignore.
    Blank,
    /// One colon.
    Colon,
    /// Something else: no command can begin any more.
    Text,
}

impl Start {
    fn then(self, c: char) -> Self {
        match self {
            Self::Blank if !c.is_ascii_graphic() => Self::Blank,
            Self::Blank if c == ':' => Self::Colon,
            Self::Colon if c != ' ' && !c.is_ascii_graphic() => Self::Colon,
            _ => Self::Text,
        }
    }
}

/// Returns how many `#` precede the character after `c`.
fn count(hashes: u32, c: char) -> u32 {
    match c {
        '#' => hashes + 1,
        c if c.is_ascii_graphic() || c == ' ' => 0,
        _ => hashes,
    }
}

/// Returns `c`, or the replacement character if it cannot be shown.
fn shown(c: char) -> char {
    let unseen = c != '\t' && (c.is_control() || is_invisible(c));
    if unseen { '\u{FFFD}' } else { c }
}

/// Invisible characters that reverse, hide, join or break the text around them. (Joiners and variation selectors of emoji are
/// kept: many logs contain them, and they are harmless.)
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}' | '\u{200C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a runner would find a command in this line, by the rules at the top of this file.
    fn is_command(line: &str) -> bool {
        let ascii: String = line.chars().filter(char::is_ascii).collect();
        let seen: String = ascii.chars().filter(|c| !c.is_ascii_control()).collect();
        seen.trim_start().starts_with("::") || seen.contains("##[")
    }

    #[test]
    fn commands_are_broken_and_stay_readable() {
        for (text, expected) in [
            ("::error::x", ": :error::x"),
            (" \t::stop-commands::t", " \t: :stop-commands::t"),
            ("a ##[group]b", "a ## [group]b"),
            ("###[x", "### [x"),
            ("a\r::debug::b\r\n::c\n", "a\n: :debug::b\n: :c\n"),
            ("#\u{200D}#[add-mask]c", "#\u{200D}# [add-mask]c"),
            ("\u{FEFF}:\u{AD}:warning::x", "\u{FFFD}:\u{FFFD} :warning::x"),
            ("\u{3000}::x\u{2028}::y", "\u{3000}: :x\u{FFFD}::y"),
            ("\u{1b}[31mred\u{1b}[0m \u{202E}txt\0", "\u{FFFD}[31mred\u{FFFD}[0m \u{FFFD}txt\u{FFFD}"),
            ("std::vector, # [x], ✔️ é", "std::vector, # [x], ✔️ é"),
        ] {
            assert_eq!(safe(text), expected);
        }
        assert_eq!(line("a\n::b\r\nc"), "a ::b  c");
        assert_eq!(
            coloured("\u{1b}[31;1mred\u{1b}[0m \u{1b}[2J\u{1b}]0;t"),
            "\u{1b}[31;1mred\u{1b}[0m \u{FFFD}2J\u{FFFD}]0;t"
        );
    }

    #[test]
    fn json_means_the_same_and_holds_no_command() {
        let value = serde_json::json!({ "##[a]": ["##[b]", "x\u{2028}y\u{202E}\u{E0001}", ["##"], [1]] });
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.lines().any(is_command) && !text.contains(['\u{2028}', '\u{E0001}']), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    proptest! {
        #[test]
        fn no_text_is_a_command(text in "([:#\\[ \r\n\t\u{AD}\u{200B}\u{200D}\u{FE0F}\u{3000}\u{85}\u{1b}a]|\\PC){0,24}") {
            let shown = safe(&text);
            for line in shown.split(['\n', '\r']) {
                prop_assert!(!is_command(line), "{text:?} is shown as {line:?}");
            }
            prop_assert_eq!(&safe(&shown), &shown);
            prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
            prop_assert!(!line(&text).contains('\n'));
        }
    }
}
