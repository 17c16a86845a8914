//! The user's patterns for files: globs, `~`, paths relative to the workspace, and `!` for exclusions.

use std::path::{Component, Path, PathBuf};

/// An invalid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The pattern {pattern:?} in the input `paths` is invalid: {why}. Correct `paths`.")]
pub struct PatternError {
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As given.
    pub given: String,
    /// Whether it excludes files.
    pub excludes: bool,
    /// The absolute path up to the first name with a wildcard, where the search starts.
    pub place: PathBuf,
    /// The absolute glob.
    pub glob: String,
}

/// One name in a pattern.
struct Name {
    text: String,
    /// Whether it has no wildcard.
    literal: bool,
}

/// Parses `text`. The caller leaves out empty texts.
///
/// # Errors
/// When it needs a home folder and there is none, starts from a folder whose name is not valid Unicode, or has `..` after a
/// wildcard.
pub(super) fn parse(text: &str, workspace: &Path, home: Option<&Path>) -> Result<Pattern, PatternError> {
    let wrong = |why: &str| PatternError { pattern: text.to_owned(), why: why.to_owned() };
    let (excludes, rest) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    let (base, rest) = if rest == "~" || rest.starts_with("~/") {
        (home.ok_or_else(|| wrong("the variable HOME is not set"))?, &rest[1..])
    } else if rest.starts_with('/') {
        (Path::new("/"), rest)
    } else {
        (workspace, rest)
    };
    let mut names = literal_names(base).ok_or_else(|| wrong("the folder that it starts from is no Unicode text"))?;
    for name in rest.split('/') {
        match name {
            "" | "." => {}
            ".." => match names.pop() {
                Some(name) if !name.literal => return Err(wrong("it has `..` after a wildcard")),
                _ => {}
            },
            _ => {
                // The rest may be the end of braces.
                let literal = names.last().is_none_or(|name| name.literal) && !name.contains(WILDCARDS);
                names.push(Name { text: name.to_owned(), literal });
            }
        }
    }
    let literal = names.iter().take_while(|name| name.literal).map(|name| name.text.as_str());
    let place = Path::new("/").join(literal.collect::<PathBuf>());
    let glob = names.iter().fold(String::new(), |glob, name| {
        glob + "/" + &if name.literal { globset::escape(&name.text) } else { name.text.clone() }
    });
    let glob = if glob.is_empty() { "/".to_owned() } else { glob };
    Ok(Pattern { given: text.to_owned(), excludes, place, glob })
}

fn literal_names(path: &Path) -> Option<Vec<Name>> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_str().map(|text| Name { text: text.to_owned(), literal: true })),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Pattern {
        parse(text, Path::new("/home/me/w [1]"), Some(Path::new("/home/me"))).unwrap()
    }

    #[test]
    fn a_pattern_starts_at_the_workspace_the_home_or_the_root() {
        for (text, place, glob) in [
            ("a/b", "/home/me/w [1]/a/b", "/home/me/w [[]1[]]/a/b"),
            ("./a//b/", "/home/me/w [1]/a/b", "/home/me/w [[]1[]]/a/b"),
            ("~/.npm", "/home/me/.npm", "/home/me/.npm"),
            ("~", "/home/me", "/home/me"),
            ("~x", "/home/me/w [1]/~x", "/home/me/w [[]1[]]/~x"),
            ("/opt/*/x", "/opt", "/opt/*/x"),
            ("../x/{a,b}", "/home/me/x", "/home/me/x/{a,b}"),
            ("{a/*,b}/c", "/home/me/w [1]", "/home/me/w [[]1[]]/{a/*,b}/c"),
            ("/", "/", "/"),
            ("**", "/home/me/w [1]", "/home/me/w [[]1[]]/**"),
        ] {
            let pattern = read(text);
            assert_eq!((pattern.place.to_str().unwrap(), pattern.glob.as_str()), (place, glob), "{text}");
            assert!(!pattern.excludes);
        }
        let excluding = read("! ~/x/**/tmp");
        assert!(excluding.excludes && excluding.given == "! ~/x/**/tmp");
        assert_eq!(excluding.place, Path::new("/home/me/x"));
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        let message = parse("~/x", Path::new("/w"), None).unwrap_err().to_string();
        assert!(message.contains("~/x") && message.contains("HOME"), "{message}");
        let message = parse("a*/../b", Path::new("/w"), None).unwrap_err().to_string();
        assert!(message.contains("after a wildcard"), "{message}");
    }
}
