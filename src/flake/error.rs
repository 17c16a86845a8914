//! Errors of computing a key.

use std::io;
use std::path::PathBuf;

/// The most characters of a text from a file that are shown.
const SHOWN: usize = 300;

/// `text` as one line that is fit to be shown, whatever a file brought into it: without control characters, and cut.
pub(super) fn printable(text: &str) -> String {
    let mut characters = text.chars().map(|character| if character.is_control() { '?' } else { character });
    let mut shown: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() {
        shown.push_str("...");
    }
    shown
}

/// Why no key could be made. Each says what is wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A lock file that was named is not there.
    #[error(
        "There is no lock file {}, which the input flake-lock names. Correct flake-lock, or create the file with `nix flake lock`.",
        path.display()
    )]
    NoLock {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A lock file is there and cannot be read.
    #[error("The lock file {} could not be read: {source}. Check what it is and who may read it.", path.display())]
    ReadLock {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A lock file is larger than any real one.
    #[error(
        "The lock file {} is larger than {limit} bytes, which no real one is. Check that flake-lock names the right file.",
        path.display()
    )]
    LockTooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit: u64,
    },
    /// A lock file has more nodes than any real one.
    #[error(
        "The lock file {} has {count} nodes, more than the {limit} that are read. Check that flake-lock names the right file.",
        path.display()
    )]
    TooManyNodes {
        /// The file.
        path: PathBuf,
        /// The nodes it has.
        count: usize,
        /// The most nodes that are read.
        limit: usize,
    },
    /// A lock file is of a version that is not known.
    #[error(
        "The lock file {} is of version {version}; versions 5, 6 and 7 are understood. Use a newer release of this action, or write the file again with the Nix of this job (`nix flake lock`).",
        path.display()
    )]
    LockVersion {
        /// The file.
        path: PathBuf,
        version: u64,
    },
    /// A lock file is not JSON, or not the JSON of a lock file.
    #[error(
        "The lock file {} is broken at line {line}, column {column}: {why}. Restore it from version control, or write it again with `nix flake lock`.",
        path.display()
    )]
    LockSyntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in bytes, from 1.
        column: usize,
        /// What was expected or found.
        why: String,
    },
    /// Inputs that follow each other in a circle.
    #[error(
        "In the lock file {}, inputs follow each other in a circle: {}. Take one of these `follows` out of flake.nix and run `nix flake lock`.",
        path.display(),
        inputs.join(" -> ")
    )]
    FollowsCycle {
        /// The file.
        path: PathBuf,
        /// The inputs of the circle; the last is the first again.
        inputs: Vec<String>,
    },
    /// An input that follows one that does not exist.
    #[error(
        "In the lock file {}, {input} refers to the input {target:?}, which does not exist. Correct this `follows` in flake.nix and run `nix flake lock`.",
        path.display()
    )]
    FollowsNowhere {
        /// The file.
        path: PathBuf,
        /// What refers to it.
        input: String,
        /// What does not exist.
        target: String,
    },
    /// A glob that cannot be understood.
    #[error("The pattern {pattern:?} of the input {input} cannot be used: {why}. Correct {input}.")]
    Pattern {
        /// The input that has it.
        input: String,
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file or folder that a pattern leads to and that cannot be read.
    #[error(
        "{} could not be read, and the input {input} asks for it: {source}. Make it readable, or take it out with a pattern that starts with `!`.",
        path.display()
    )]
    ReadFile {
        /// The input that asks for it.
        input: String,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A text that no environment variable can be called.
    #[error(
        "{name:?} in the input env-vars is not the name of an environment variable. Give names alone, without `=` and values."
    )]
    VariableName {
        /// What was given.
        name: String,
    },
    /// A text that is not a Nix system.
    #[error("{system:?} in the input system is not a Nix system. Give one such as x86_64-linux.")]
    System {
        /// What was given.
        system: String,
    },
    /// A key, or a part of one, that is empty.
    #[error(
        "The input {input} holds an empty key. Give it some text, of at most {limit} bytes, or leave the input out."
    )]
    Empty {
        input: String,
        /// The most bytes it may have.
        limit: usize,
    },
    /// A key, or a part of one, that is too long.
    #[error(
        "The input {input} is too long: {length} bytes, where at most {limit} fit (a character outside of A-Z, a-z, 0-9 and ._/- counts three for each of its bytes). Shorten {input}."
    )]
    TooLong {
        input: String,
        /// Its length when escaped.
        length: usize,
        /// The most bytes it may have.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(printable("a\n::b\x1bé"), "a?::b?é");
        assert_eq!(printable(&"é".repeat(300)), "é".repeat(300));
        assert_eq!(printable(&"é".repeat(301)), "é".repeat(300) + "...");
    }
}
