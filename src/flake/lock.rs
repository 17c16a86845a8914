//! Reads a lock file. Beside `inputs.rs`, the only file that knows `nix_flake_lock`.

use std::io::Read;
use std::path::Path;

use nix_flake_lock::{AttrValue, Edge, Error, ErrorKind, Limits, LockFile, LockedNode, NodeKind};
use serde::Deserialize;

use super::KeyError;
use super::error::printable;
use super::fingerprint::{Graph, Source, Value};
use super::follows::{self, Broken, Target, Written};
use crate::base::bounds::open_file;

/// The most bytes that are read.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The most nodes. A large real lock file has a few hundred.
const MAX_NODES: usize = 20_000;
/// The deepest nesting of JSON. A lock file needs five levels.
const MAX_DEPTH: usize = 64;
/// The most names in one `follows`. Real ones have two or three.
const MAX_PATH: usize = 256;

/// A lock file with every `follows` resolved.
pub(super) struct Lock {
    /// The version of its format: 5, 6 or 7.
    pub(super) version: u8,
    /// Its inputs.
    pub(super) graph: Graph,
}

/// The lock file at `path`.
///
/// # Errors
/// [`KeyError`] when it cannot be read, is not a lock file, or is one that Nix would refuse.
pub(super) fn read(path: &Path) -> Result<Lock, KeyError> {
    parse(path, &bytes(path)?)
}

/// The content of the lock file at `path`, one byte more than allowed at most.
///
/// # Errors
/// [`KeyError`] when it cannot be read.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, KeyError> {
    let unreadable = |source| KeyError::ReadLock { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    open_file(path).map_err(unreadable)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// The lock file with the content `bytes`; `path` is for errors alone.
///
/// # Errors
/// As [`read`].
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Lock, KeyError> {
    let file = file(path, bytes)?;
    let nodes = file.nodes().map(|(_, node)| written(node)).collect();
    let graph = follows::resolve(nodes, file.root_id().index()).map_err(|broken| match broken {
        Broken::Cycle { inputs } => KeyError::FollowsCycle { path: path.to_owned(), inputs },
        Broken::Nowhere { input, target } => KeyError::FollowsNowhere { path: path.to_owned(), input, target },
    })?;
    Ok(Lock { version: file.source_version(), graph })
}

/// The same file as it is written, with no `follows` resolved.
///
/// # Errors
/// As [`read`].
pub(super) fn file<'a>(path: &Path, bytes: &'a [u8]) -> Result<LockFile<'a>, KeyError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(KeyError::LockTooLarge { path: path.to_owned(), limit: MAX_BYTES });
    }
    let limits = Limits::new()
        .with_max_bytes(MAX_BYTES as usize)
        .with_max_nodes(MAX_NODES)
        .with_max_depth(MAX_DEPTH)
        .with_max_path_components(MAX_PATH);
    LockFile::parse_with_limits(bytes, limits).map_err(|error| refused(path, bytes, &error))
}

fn written(node: &nix_flake_lock::Node<'_>) -> Written {
    let inputs = node.inputs().iter().map(|input| {
        let target = match input.edge() {
            Edge::Node(id) => Target::Node(id.index()),
            Edge::Follows(path) => Target::Follows(path.iter().map(str::to_owned).collect()),
        };
        (input.name().to_owned(), target)
    });
    let locked = match node.kind() {
        NodeKind::Root => None,
        NodeKind::Locked(locked) => Some(locked),
    };
    Written {
        source: locked.map(source),
        parent: locked.and_then(LockedNode::parent).map(|path| path.iter().map(str::to_owned).collect()),
        inputs: inputs.collect(),
    }
}

fn source(locked: &LockedNode<'_>) -> Source {
    let attributes = locked.locked().iter().map(|attribute| {
        let value = match attribute.value() {
            AttrValue::String(text) => Value::Text(text.clone().into_owned()),
            AttrValue::Integer(number) => Value::Number(*number),
            AttrValue::Bool(flag) => Value::Flag(*flag),
        };
        (attribute.name().to_owned(), value)
    });
    Source { attributes: attributes.collect(), is_flake: locked.is_flake(), parent: None }
}

fn refused(path: &Path, bytes: &[u8], error: &Error) -> KeyError {
    if let ErrorKind::TooManyNodes { count, limit } = error.kind() {
        return KeyError::TooManyNodes { path: path.to_owned(), count: *count, limit: *limit };
    }
    // A format to come may differ before its version is reached: the version is the better answer.
    if let Some(version) = unknown_version(bytes) {
        return KeyError::LockVersion { path: path.to_owned(), version };
    }
    let before = &bytes[..error.offset().min(bytes.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let why = error.to_string();
    KeyError::LockSyntax {
        path: path.to_owned(),
        line: before.split(|byte| *byte == b'\n').count(),
        column: before.len() - line_start + 1,
        why: printable(why.strip_suffix(&format!(" at byte {}", error.offset())).unwrap_or(&why)),
    }
}

/// The version of a lock file, where it is a number and not one that is understood.
fn unknown_version(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let Versioned { version } = serde_json::from_slice(bytes).ok()?;
    (!(5..=7).contains(&version)).then_some(version)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::super::fingerprint::fingerprint;
    use super::*;

    fn message(text: &str) -> String {
        match parse(Path::new("some/flake.lock"), text.as_bytes()) {
            Ok(_) => panic!("{text} was accepted"),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("some/flake.lock"), "{message}");
                assert!(message.matches(". ").count() >= 1, "{message} names no remedy");
                message
            }
        }
    }

    #[test]
    fn versions_5_6_and_7_of_one_graph_are_the_same() {
        let [five, six, seven] = [
            &include_bytes!("testdata/v5.json")[..],
            &include_bytes!("testdata/v6.json")[..],
            &include_bytes!("testdata/v7.json")[..],
        ]
        .map(|bytes| parse(Path::new("flake.lock"), bytes).unwrap());
        assert_eq!((five.version, six.version, seven.version), (5, 6, 7));
        assert_eq!(seven.graph.nodes.len(), 4);
        assert_eq!(fingerprint(&five.graph, five.graph.root), fingerprint(&seven.graph, seven.graph.root));
        assert_eq!(fingerprint(&six.graph, six.graph.root), fingerprint(&seven.graph, seven.graph.root));
    }

    #[test]
    fn other_versions_are_named() {
        for version in [0, 4, 8, 123] {
            let text = format!(r#"{{"nodes": {{"root": {{}}}}, "root": "root", "version": {version}}}"#);
            assert!(message(&text).contains(&format!("version {version};")));
        }
        // Nodes of another shape, which fail before the version is read.
        assert!(message(r#"{"nodes": [{"inputs": 3}], "root": 0, "version": 9}"#).contains("version 9;"));
    }

    #[test]
    fn broken_json_is_located() {
        assert!(message("").contains("line 1, column 1"));
        assert!(message("{\n  \"version\": 7,\n  ?").contains("line 3, column 3"));
        assert!(message("{\n \"version\": 7").contains("line 2, column 14: unexpected end"));
        message("[]");
        message(r#"{"version": "7"}"#);
        message(r#"{"nodes": {"root": {}}, "root": "root"}"#);
        message(r#"{"nodes": {}, "root": "root", "version": 7}"#);
        message(r#"{"nodes": {"root": {"inputs": {"a": "b"}}}, "root": "root", "version": 7}"#);
        message(r#"{"nodes": {"root": {"inputs": {"a": "root"}}}, "root": "root", "version": 7}"#);
        assert!(matches!(
            parse(Path::new("x"), b"{\"\xff\": 1}"),
            Err(KeyError::LockSyntax { line: 1, column: 3, .. })
        ));
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion() {
        let deep = "[".repeat(3_000_000);
        assert!(message(&format!(r#"{{"x": {deep}"#)).contains("nesting"));
    }

    #[test]
    fn more_than_16_mib_are_refused_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flake.lock");
        // A sparse file of a terabyte: reading it whole would fail.
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(read(&path), Err(KeyError::LockTooLarge { limit: 16_777_216, .. })));
    }

    #[test]
    fn a_folder_is_not_a_lock_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).err().unwrap().to_string().contains("not a regular file"));
    }

    #[test]
    fn more_than_20_000_nodes_are_refused() {
        let lock = |nodes: usize| {
            let mut text = String::from(r#"{"version": 7, "root": "root", "nodes": {"root": {"inputs": {}}"#);
            for node in 1..nodes {
                write!(text, r#", "n{node}": {{"locked": {{}}, "original": {{}}}}"#).unwrap();
            }
            text + "}}"
        };
        assert!(message(&lock(20_001)).contains("20001 nodes"));
        assert!(parse(Path::new("x"), lock(20_000).as_bytes()).is_ok());
    }
}
