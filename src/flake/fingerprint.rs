//! The fingerprint of a lock file, that is, of the graph that is reachable from its root.

use std::collections::VecDeque;

use super::canon::Canon;

/// The inputs of a flake, of its inputs, and so on.
pub(super) struct Graph {
    /// All nodes. Their order means nothing.
    pub(super) nodes: Vec<Node>,
    /// The number of the flake itself.
    pub(super) root: usize,
}

/// A flake, or an input of one.
pub(super) struct Node {
    /// What is locked; none for the root.
    pub(super) source: Option<Source>,
    /// Names and nodes of its inputs, in the order of the names.
    pub(super) inputs: Vec<(String, usize)>,
}

/// What a node is locked to.
pub(super) struct Source {
    /// The attributes of `locked`, in the order of their names.
    pub(super) attributes: Vec<(String, Value)>,
    /// Whether it is used as a flake, and not only as files.
    pub(super) is_flake: bool,
    /// The node that a relative path starts at.
    pub(super) parent: Option<usize>,
}

/// The value of an attribute.
pub(super) enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
}

impl Source {
    /// The attribute `name`, where it is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find_map(|(other, value)| match value {
            Value::Text(text) if other == name => Some(text.as_str()),
            _ => None,
        })
    }
}

/// Attributes of `locked` that do not say what is fetched: they are read off it afterwards, or are about the writing of the
/// file. A fetch with the same revision and `narHash` gives the same files, whatever stands here.
const NOT_CONTENT: [&str; 3] = ["__final", "lastModified", "revCount"];

/// The number of the root in the encoding of a graph that starts at another node.
const ROOT: u64 = u64::MAX;
/// A parent that cannot be reached from where the encoding starts.
const OUTSIDE: u64 = u64::MAX - 1;
/// No parent.
const NOTHING: u64 = u64::MAX - 2;

/// The SHA-256 of what can be seen from the node `start`.
///
/// What counts: for every node its `locked` attributes (all but `lastModified`, `revCount` and `__final`), whether it is a
/// flake, where a relative path starts, and its inputs with their names and the nodes they lead to, every `follows`
/// resolved. What does not count: the `original` attributes, which say where to look for an update and not what is locked;
/// the names of nodes, which the writer of the file makes up; the version of the format; nodes that nothing leads to. That
/// one node is shared, or there are two alike, does count.
///
/// Encoding, in the terms of [`Canon`]: the kind `flake-graph-1`; the number of nodes; the nodes, numbered from 0 by
/// breadth-first search from `start` along inputs in the order of their names. A node is 0 for the root; or else 1, then
/// whether it is a flake, the number of its parent (2^64-3 for none, 2^64-2 for one that was not numbered), and the list of
/// its attributes: name, then 0 and a text, 1 and a number, or 2 and a flag. The list of its inputs follows: name and
/// number. Where `start` is not the root, the search does not enter the root, whose number is 2^64-1: an input whose own
/// input follows the root would otherwise depend on everything.
///
/// Every node is visited once, so cycles end and shared nodes cost nothing.
pub(super) fn fingerprint(graph: &Graph, start: usize) -> [u8; 32] {
    let order = reachable(graph, start);
    let mut numbers = vec![None; graph.nodes.len()];
    for (number, node) in order.iter().enumerate() {
        numbers[*node] = Some(number as u64);
    }
    let mut canon = Canon::new("flake-graph-1");
    canon.count(order.len());
    for node in order {
        encode(&mut canon, &graph.nodes[node], &numbers);
    }
    canon.finish()
}

/// The nodes that inputs lead to from `start`, which is the first, nearest first. Without the root, unless it is `start`.
pub(super) fn reachable(graph: &Graph, start: usize) -> Vec<usize> {
    let mut seen = vec![false; graph.nodes.len()];
    seen[graph.root] = true;
    seen[start] = true;
    let mut order = vec![start];
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for (_, target) in &graph.nodes[node].inputs {
            if !std::mem::replace(&mut seen[*target], true) {
                order.push(*target);
                queue.push_back(*target);
            }
        }
    }
    order
}

fn encode(canon: &mut Canon, node: &Node, numbers: &[Option<u64>]) {
    match &node.source {
        None => canon.number(0),
        Some(source) => {
            canon.number(1);
            canon.number(source.is_flake.into());
            canon.number(source.parent.map_or(NOTHING, |parent| numbers[parent].unwrap_or(OUTSIDE)));
            encode_attributes(canon, source);
        }
    }
    canon.count(node.inputs.len());
    for (name, target) in &node.inputs {
        canon.bytes(name.as_bytes());
        // Only the root can be an input and have no number.
        canon.number(numbers[*target].unwrap_or(ROOT));
    }
}

fn encode_attributes(canon: &mut Canon, source: &Source) {
    let content = source.attributes.iter().filter(|(name, _)| !NOT_CONTENT.contains(&name.as_str()));
    canon.count(content.clone().count());
    for (name, value) in content {
        canon.bytes(name.as_bytes());
        match value {
            Value::Text(text) => {
                canon.number(0);
                canon.bytes(text.as_bytes());
            }
            Value::Number(number) => {
                canon.number(1);
                canon.number(*number);
            }
            Value::Flag(flag) => {
                canon.number(2);
                canon.number((*flag).into());
            }
        }
    }
}
