//! Nix files, parsed and not evaluated: rules of our own where no tool has one that matters for caching.
//!
//! 1. `parse` turns a file into a tree, within bounds.
//! 2. Each rule in [`super::rules`] that looks at trees says for one node whether it breaks the rule.
//! 3. `flake` reads which inputs a flake.nix declares.

mod flake;
mod parse;
pub(crate) mod shape;

use std::path::Path;

use rnix::SyntaxNode;

pub(crate) use flake::declared;

use crate::base::bounds::read_text;

/// Most files that are read.
const MOST_FILES: usize = 20_000;
/// Most bytes of a file that is read.
const MOST_BYTES: u64 = 1 << 20;
/// Trees are walked, and dropped, by functions that call themselves.
const STACK: usize = 64 << 20;

/// A rule that looks at each node of a file: its identifier, and what it says of a node.
pub(crate) type Look = (&'static str, fn(&SyntaxNode) -> Option<String>);

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The identifier of the rule.
    pub rule: &'static str,
    /// The file, from the top of the repository.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// What was found in files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    pub spots: Vec<Spot>,
    /// Files that could not be read, in sentences.
    pub notes: Vec<String>,
    /// The names of the inputs that flake.nix declares; none where it cannot be told without evaluating it.
    pub inputs: Option<std::collections::BTreeSet<String>>,
}

/// Looks at the Nix files `files` of `folder`, which stands at `within` in its repository.
pub(crate) fn look(folder: &Path, within: &str, files: &[String], rules: &[Look]) -> Looked {
    let work = || {
        let mut looked = Looked::default();
        for file in files.iter().take(MOST_FILES) {
            let name = if within.is_empty() { file.clone() } else { format!("{within}/{file}") };
            let text = match read_text(&folder.join(file), MOST_BYTES) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    looked.notes.push(format!("{name} is not looked at: {error}."));
                    continue;
                }
            };
            match parse::parse(&text) {
                Ok(tree) => {
                    if file == "flake.nix" {
                        looked.inputs = declared(&tree);
                    }
                    look_at(&tree, &text, &name, rules, &mut looked.spots);
                }
                Err(why) => looked.notes.push(format!("{name} is not looked at: {why}.")),
            }
        }
        looked
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
    })
}

fn look_at(tree: &SyntaxNode, text: &str, file: &str, rules: &[Look], spots: &mut Vec<Spot>) {
    for node in tree.descendants() {
        for (rule, says) in rules {
            let Some(message) = says(&node) else { continue };
            let at = usize::from(node.text_range().start()).min(text.len());
            let before = text.get(..at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            spots.push(Spot { rule, file: file.to_owned(), line: line as u32, column: column as u32, message });
        }
    }
}

#[cfg(test)]
pub(crate) fn found(text: &str, says: fn(&SyntaxNode) -> Option<String>) -> Vec<String> {
    let tree = parse::parse(text).unwrap();
    let mut spots = Vec::new();
    look_at(&tree, text, "a.nix", &[("rule", says)], &mut spots);
    spots.into_iter().map(|spot| format!("{}:{} {}", spot.line, spot.column, spot.message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_parsed_are_notes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
        write("good.nix", b"1");
        write("broken.nix", b"{ a = ");
        write("binary.nix", b"\xff");
        write("deep.nix", "(".repeat(100_000).as_bytes());
        write("large.nix", " ".repeat(2 << 20).as_bytes());
        let files = ["good.nix", "broken.nix", "binary.nix", "deep.nix", "large.nix", "gone.nix"].map(str::to_owned);
        let looked = look(
            folder.path(),
            "sub",
            &files,
            &[("rule", |node| Some(node.text().to_string()).filter(|text| text == "1"))],
        );
        assert_eq!(
            looked
                .spots
                .iter()
                .map(|spot| spot.file.as_str())
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>(),
            ["sub/good.nix"]
        );
        assert_eq!(looked.notes.len(), 4, "{:?}", looked.notes);
        assert!(looked.notes[2].starts_with("sub/deep.nix is not looked at: "), "{:?}", looked.notes);
    }
}
