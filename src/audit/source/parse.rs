//! From the text of a Nix file to a tree, within bounds.
//!
//! The parser, and everything that drops a tree, calls itself for each level. So the depth is bounded by what the tokens allow
//! before they are parsed.

use rnix::{Root, SyntaxKind, SyntaxNode, tokenize};

/// Deepest tree that is parsed.
const DEEPEST: usize = 4000;

/// The tree of a file.
///
/// # Errors
/// Why there is none, as a part of a sentence.
pub(super) fn parse(text: &str) -> Result<SyntaxNode, String> {
    if depth(text) > DEEPEST {
        return Err(format!("it nests deeper than {DEEPEST} levels"));
    }
    let parsed = Root::parse(text);
    match parsed.errors().first() {
        None => Ok(parsed.syntax()),
        Some(error) => Err(format!("it is not Nix: {error}")),
    }
}

/// What may nest inside of one pair of brackets.
#[derive(Default)]
struct Level {
    is_list: bool,
    /// Operators, functions and conditions since the last `=`.
    chain: usize,
    /// Words side by side, which are applications.
    row: usize,
    /// `let`, of which each holds all that follow.
    lets: usize,
}

impl Level {
    fn depth(&self) -> usize {
        1 + self.chain + self.row + self.lets
    }
}

/// No less than the depth of the tree.
fn depth(text: &str) -> usize {
    use SyntaxKind as T;
    let mut levels = vec![Level::default()];
    let (mut below, mut deepest) = (0, 0);
    for (kind, _) in tokenize(text) {
        let Some(level) = levels.last_mut() else { return usize::MAX };
        match kind {
            T::TOKEN_L_BRACE
            | T::TOKEN_L_BRACK
            | T::TOKEN_L_PAREN
            | T::TOKEN_INTERPOL_START
            | T::TOKEN_STRING_START => {
                level.row += usize::from(!level.is_list);
                below += level.depth();
                levels.push(Level { is_list: kind == T::TOKEN_L_BRACK, ..Level::default() });
            }
            T::TOKEN_R_BRACE | T::TOKEN_R_BRACK | T::TOKEN_R_PAREN | T::TOKEN_INTERPOL_END | T::TOKEN_STRING_END => {
                if levels.len() > 1 {
                    levels.pop();
                    below -= levels.last().map_or(0, Level::depth).min(below);
                }
            }
            T::TOKEN_ASSIGN => (level.chain, level.row) = (0, 0),
            T::TOKEN_SEMICOLON | T::TOKEN_COMMA => level.row = 0,
            T::TOKEN_LET => level.lets += 1,
            T::TOKEN_WHITESPACE | T::TOKEN_COMMENT | T::TOKEN_STRING_CONTENT | T::TOKEN_DOT => {}
            T::TOKEN_IDENT
            | T::TOKEN_INTEGER
            | T::TOKEN_FLOAT
            | T::TOKEN_URI
            | T::TOKEN_OR
            | T::TOKEN_PATH_ABS
            | T::TOKEN_PATH_HOME
            | T::TOKEN_PATH_REL
            | T::TOKEN_PATH_SEARCH => {
                level.row += usize::from(!level.is_list);
            }
            _ => {
                level.chain += 1;
                level.row = 0;
            }
        }
        deepest = deepest.max(below + levels.last().map_or(0, Level::depth));
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_nest_is_counted() {
        for piece in [
            "(",
            "[",
            "{ a = ",
            "\"${",
            "''${",
            "x: ",
            "{ x }: ",
            "!",
            "- ",
            "a -> ",
            "a ++ ",
            "if a then b else ",
            "let a = 1; in ",
            "with a; ",
            "assert a; ",
            "f ",
            "a || ",
            "x // ",
            "let x = { b = 1; }; in ",
        ] {
            assert!(depth(&piece.repeat(DEEPEST + 1)) > DEEPEST, "{piece}");
            assert!(parse(&piece.repeat(200_000)).is_err(), "{piece}");
        }
    }

    #[test]
    fn wide_files_are_not_deep() {
        let entries = "a = with lib; x: y ++ z; b = [ c d e ]; s = \"t ${u} v\"; ".repeat(5000);
        assert!(depth(&format!("{{ {entries} }}")) < 50);
        assert!(depth(&format!("[ {} ]", "a (b c) ".repeat(20_000))) < 20);
        assert!(parse("{ pkgs ? import <nixpkgs> { } }: pkgs.hello.overrideAttrs (old: { x = 1; })").is_ok());
    }
}
