//! The name of a store path, split by a rule of thumb.

/// Name and version: the version starts at the first dash with a digit behind it, as `builtins.parseDrvName` has it. A name of
/// an output (`-dev`) stays at the version, where nobody can tell it from one.
pub(super) fn split(text: &str) -> (&str, &str) {
    let dash = text.match_indices('-').find(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    dash.map_or((text, ""), |(at, _)| (&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_starts_at_a_digit() {
        for (text, expected) in [
            ("bash-5.2p37", ("bash", "5.2p37")),
            ("gtk+3-3.24.43", ("gtk+3", "3.24.43")),
            ("python3.12-requests-2.32.3", ("python3.12-requests", "2.32.3")),
            ("source", ("source", "")),
            ("x-", ("x-", "")),
            ("é-1", ("é", "1")),
        ] {
            assert_eq!(split(text), expected);
        }
    }
}
