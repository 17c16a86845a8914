//! Removes colours from texts of Nix and builders, and shortens them. [`crate::base::printing`] breaks runner commands in them.

/// Longest line that is kept, in characters.
const LONGEST: usize = 4096;

/// `text` without terminal sequences and control characters other than line breaks and tabs.
#[must_use]
pub(crate) fn plain(text: &str) -> String {
    let is_shown = |c: &char| matches!(c, '\n' | '\t') || !c.is_control();
    anstream::adapter::strip_str(text).flat_map(str::chars).filter(is_shown).collect()
}

/// One line of a log: plain, and not longer than anybody reads.
#[must_use]
pub(crate) fn line(text: &str) -> String {
    // A progress bar overwrites its own line: what stands at the end is what was left to see.
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.rsplit('\r').next().unwrap_or(text);
    let text = plain(text);
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What a store path is called: `hello-2.12` for `/nix/store/…-hello-2.12.drv`.
#[must_use]
pub(crate) fn name_of(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    let name = base.split_once('-').filter(|(hash, _)| hash.len() == 32).map_or(base, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

/// Lower case and single spaces, for comparing.
#[must_use]
pub(crate) fn folded(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_and_controls_go() {
        assert_eq!(
            plain("\u{1b}[31;1merror:\u{1b}[0m a\u{1b}]8;;http://x\u{7}b\u{1b}]0;t\u{1b}\\c\u{1b}7d\0"),
            "error: abcd"
        );
        assert_eq!(line("10%\r50%\r100% done\r\n"), "100% done");
        assert_eq!(name_of("/nix/store/yr41fk39rlz7skyqyjxk5jma0wpy1vqr-phases-1.0.drv"), "phases-1.0");
        assert_eq!(name_of("foo"), "foo");
    }

    proptest! {
        #[test]
        fn any_text_is_one_plain_line(text in any::<String>()) {
            let shown = line(&text);
            let control = shown.contains(['\u{1b}', '\r']);
            prop_assert!(shown.chars().count() <= 2 * LONGEST && !control);
        }
    }
}
