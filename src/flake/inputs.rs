//! The inputs of a lock file as people know them: by their path from the flake, with what was asked for and what is locked.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use nix_flake_lock::{AttrSet, AttrValue, Edge, LockFile, Node, NodeId};

use super::error::printable;
use super::{KeyError, lock, nixpkgs};

/// Most names of a path that are shown: the first ones and the last.
const SHOWN: usize = 8;

/// All inputs of a lock file.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockInputs {
    /// Each node once, nearest to the flake first.
    pub inputs: Vec<LockInput>,
    /// The inputs of the flake itself, by name: the number in `inputs`, or none for one that follows another.
    pub direct: BTreeMap<String, Option<usize>>,
}

/// One input.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockInput {
    /// Its name in the flake that asks for it.
    pub name: String,
    /// That flake, as a number in `inputs`; none for the flake itself.
    pub parent: Option<usize>,
    /// What flake.nix asks for.
    pub original: BTreeMap<String, String>,
    /// What is locked.
    pub locked: BTreeMap<String, String>,
    /// Whether its place is relative to another input, and locked with that.
    pub is_relative: bool,
}

impl LockInput {
    /// An attribute of what is locked.
    pub(crate) fn locked(&self, name: &str) -> Option<&str> {
        self.locked.get(name).map(String::as_str)
    }

    /// An attribute of what flake.nix asks for.
    pub(crate) fn original(&self, name: &str) -> Option<&str> {
        self.original.get(name).map(String::as_str)
    }

    /// Whether it is Nixpkgs: by its repository, or a release of a channel.
    pub(crate) fn is_nixpkgs(&self) -> bool {
        nixpkgs::is_nixpkgs(|name| self.locked(name))
    }

    /// Where it comes from without the revision, as people write it, and without what may be a secret.
    pub(crate) fn origin(&self) -> String {
        printable(&nixpkgs::origin(|name| self.locked(name)))
    }

    /// Its revision, or the hash where it has none; cut to what a person reads.
    pub(crate) fn revision(&self) -> String {
        let text = self.locked("rev").or_else(|| self.locked("narHash")).unwrap_or("unlocked");
        printable(&text.chars().take(if text.starts_with("sha") { 23 } else { 12 }).collect::<String>())
    }
}

impl LockInputs {
    /// The inputs in the lock file at `path`.
    ///
    /// # Errors
    /// [`KeyError`] when it is not a lock file, or one that Nix would refuse.
    pub(crate) fn read(path: &Path) -> Result<Self, KeyError> {
        Self::parse(path, &lock::bytes(path)?)
    }

    /// The inputs in a lock file with this content; `path` is for errors alone.
    ///
    /// # Errors
    /// As [`LockInputs::read`].
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, KeyError> {
        // Also refuses what follows nothing or itself.
        lock::parse(path, bytes)?;
        Ok(Self::of(&lock::file(path, bytes)?))
    }

    /// Breadth first along inputs that are not `follows`: each node is visited once, so cycles end.
    fn of(file: &LockFile<'_>) -> Self {
        let mut all = Self::default();
        let mut numbers: Vec<Option<usize>> = vec![None; file.node_count()];
        let mut queue: VecDeque<(NodeId, Option<usize>)> = VecDeque::from([(file.root_id(), None)]);
        while let Some((id, parent)) = queue.pop_front() {
            for edge in file.node(id).map_or(&[][..], Node::inputs) {
                let target = match edge.edge() {
                    Edge::Node(target) => *target,
                    Edge::Follows(_) => {
                        if parent.is_none() {
                            all.direct.insert(edge.name().to_owned(), None);
                        }
                        continue;
                    }
                };
                let number = *numbers[target.index()].get_or_insert_with(|| {
                    all.inputs.push(input(edge.name(), parent, file.node(target)));
                    queue.push_back((target, Some(all.inputs.len() - 1)));
                    all.inputs.len() - 1
                });
                if parent.is_none() && id == file.root_id() {
                    all.direct.insert(edge.name().to_owned(), Some(number));
                }
            }
        }
        all
    }

    /// The names on the way from the flake to an input.
    pub(crate) fn path(&self, number: usize) -> Vec<&str> {
        let mut names = Vec::new();
        let mut at = Some(number);
        // A parent has a smaller number, so this ends.
        while let Some(input) = at.and_then(|at| self.inputs.get(at)) {
            names.push(input.name.as_str());
            at = input.parent;
        }
        names.reverse();
        names
    }

    /// The same as people write it, `home-manager/nixpkgs`; of a long one the ends.
    pub(crate) fn show(&self, number: usize) -> String {
        let path = self.path(number);
        if path.len() <= SHOWN {
            return printable(&path.join("/"));
        }
        printable(&format!("{}/.../{}", path[..SHOWN - 1].join("/"), path[path.len() - 1]))
    }
}

fn input(name: &str, parent: Option<usize>, node: Option<&Node<'_>>) -> LockInput {
    let locked = node.and_then(Node::locked);
    LockInput {
        name: name.to_owned(),
        parent,
        original: locked.map(|node| texts(node.original())).unwrap_or_default(),
        locked: locked.map(|node| texts(node.locked())).unwrap_or_default(),
        is_relative: locked.is_some_and(|node| node.parent().is_some()),
    }
}

fn texts(attributes: &AttrSet<'_>) -> BTreeMap<String, String> {
    let text = |value: &AttrValue<'_>| match value {
        AttrValue::String(text) => text.clone().into_owned(),
        AttrValue::Integer(number) => number.to_string(),
        AttrValue::Bool(flag) => flag.to_string(),
    };
    attributes.iter().map(|attribute| (attribute.name().to_owned(), text(attribute.value()))).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn inputs_have_the_path_that_a_person_would_write() {
        let lock = r#"{"version": 7, "root": "root", "nodes": {
            "root": {"inputs": {"home": "home", "nixpkgs": "nixpkgs_2", "same": ["nixpkgs"]}},
            "home": {"inputs": {"nixpkgs": "nixpkgs"}, "locked": {"type": "github", "owner": "o", "repo": "home", "rev": "abc", "lastModified": 5}, "original": {"type": "github"}},
            "nixpkgs": {"locked": {"type": "github", "owner": "NixOS", "repo": "nixpkgs"}, "original": {"ref": "nixos-unstable"}},
            "nixpkgs_2": {"locked": {"type": "tarball", "url": "https://u:p@h/nixexprs.tar.xz?token=1"}, "original": {}}}}"#;
        let all = LockInputs::parse(Path::new("flake.lock"), lock.as_bytes()).unwrap();
        let shown: Vec<String> = (0..all.inputs.len()).map(|number| all.show(number)).collect();
        assert_eq!(shown, ["home", "nixpkgs", "home/nixpkgs"]);
        assert_eq!(all.direct.values().collect::<Vec<_>>(), [&Some(0), &Some(1), &None]);
        assert_eq!((all.inputs[0].locked("lastModified"), all.inputs[0].revision().as_str()), (Some("5"), "abc"));
        assert!(!all.inputs[0].is_nixpkgs() && all.inputs[1].is_nixpkgs() && all.inputs[2].is_nixpkgs());
        assert_eq!(all.inputs[1].origin(), "tarball https://h/nixexprs.tar.xz");
        assert_eq!(all.inputs[2].original("ref"), Some("nixos-unstable"));
    }

    #[test]
    fn a_chain_of_20_000_inputs_is_walked_once() {
        let mut nodes = String::from(r#""root": {"inputs": {"n": "n1"}}"#);
        for node in 1..19_999 {
            let next = node + 1;
            write!(nodes, r#", "n{node}": {{"inputs": {{"n": "n{next}"}}, "locked": {{}}, "original": {{}}}}"#)
                .unwrap();
        }
        nodes.push_str(r#", "n19999": {"locked": {}, "original": {}}"#);
        let lock = format!(r#"{{"version": 7, "root": "root", "nodes": {{{nodes}}}}}"#);
        let all = LockInputs::parse(Path::new("flake.lock"), lock.as_bytes()).unwrap();
        assert_eq!(all.inputs.len(), 19_999);
        assert_eq!(all.show(19_998), "n/n/n/n/n/n/n/.../n");
    }
}
