//! Replaces every `follows` in a lock file by the node that it leads to.

use std::slice;

use super::error::printable;
use super::fingerprint::{Graph, Node, Source};

/// The most inputs of a circle that are named.
const SHOWN: usize = 12;

/// A node as it stands in the file.
pub(super) struct Written {
    /// What is locked; none for the root.
    pub(super) source: Option<Source>,
    /// The path of inputs to the flake that a relative path starts at.
    pub(super) parent: Option<Vec<String>>,
    /// Inputs in the order of their names.
    pub(super) inputs: Vec<(String, Target)>,
}

/// What an input stands for.
pub(super) enum Target {
    Node(usize),
    /// The node at the end of this path of inputs, which starts at the root. An empty path is the root.
    Follows(Vec<String>),
}

/// Why a `follows` leads to no node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It leads back to itself, through these inputs.
    Cycle { inputs: Vec<String> },
    /// Something refers to an input that does not exist.
    Nowhere { input: String, target: String },
}

/// The graph of `nodes` without any `follows`.
///
/// Each edge is resolved once and remembered, so the work grows with the size of the file, whatever follows what.
///
/// # Errors
/// [`Broken`] when a `follows` leads in a circle or nowhere.
pub(super) fn resolve(nodes: Vec<Written>, root: usize) -> Result<Graph, Broken> {
    let mut walker = Resolver {
        nodes: &nodes,
        root,
        known: nodes.iter().map(|node| vec![State::Unknown; node.inputs.len()]).collect(),
    };
    let mut targets = Vec::with_capacity(nodes.len());
    let mut parents = Vec::with_capacity(nodes.len());
    for (node, written) in nodes.iter().enumerate() {
        let resolved: Result<Vec<_>, _> = (0..written.inputs.len()).map(|input| walker.edge((node, input))).collect();
        targets.push(resolved?);
        parents.push(written.parent.as_deref().map(|path| walker.walk(Walk::new(None, path, root))).transpose()?);
    }
    let nodes = nodes.into_iter().zip(targets).zip(parents).map(|((written, targets), parent)| Node {
        source: written.source.map(|source| Source { parent, ..source }),
        inputs: written.inputs.into_iter().map(|(name, _)| name).zip(targets).collect(),
    });
    Ok(Graph { nodes: nodes.collect(), root })
}

/// A node and the number of one of its inputs.
type EdgeId = (usize, usize);

#[derive(Clone, Copy)]
enum State {
    Unknown,
    /// It is being resolved: to come across it again is to go in a circle.
    Active,
    Done(usize),
}

struct Resolver<'a> {
    nodes: &'a [Written],
    root: usize,
    known: Vec<Vec<State>>,
}

/// A path of inputs that is being walked.
struct Walk<'a> {
    /// The edge whose `follows` it is; none for the parent of a node.
    edge: Option<EdgeId>,
    path: &'a [String],
    rest: slice::Iter<'a, String>,
    at: usize,
}

impl<'a> Walk<'a> {
    fn new(edge: Option<EdgeId>, path: &'a [String], root: usize) -> Self {
        Self { edge, path, rest: path.iter(), at: root }
    }
}

impl<'a> Resolver<'a> {
    fn edge(&mut self, edge: EdgeId) -> Result<usize, Broken> {
        match (&self.nodes[edge.0].inputs[edge.1].1, self.known[edge.0][edge.1]) {
            (&Target::Node(node), _) | (_, State::Done(node)) => Ok(node),
            (Target::Follows(path), _) => {
                self.known[edge.0][edge.1] = State::Active;
                self.walk(Walk::new(Some(edge), path, self.root))
            }
        }
    }

    /// The node at the end of `first`. A stack of its own in place of recursion, since a file can make it deep.
    fn walk(&mut self, first: Walk<'a>) -> Result<usize, Broken> {
        let mut stack = Vec::new();
        let mut walk = first;
        loop {
            let Some(name) = walk.rest.next() else {
                if let Some((node, input)) = walk.edge {
                    self.known[node][input] = State::Done(walk.at);
                }
                let end = walk.at;
                match stack.pop() {
                    Some(outer) => walk = Walk { at: end, ..outer },
                    None => return Ok(end),
                }
                continue;
            };
            let inputs = &self.nodes[walk.at].inputs;
            let Ok(input) = inputs.binary_search_by(|(other, _)| other.cmp(name)) else {
                return Err(self.nowhere(&walk));
            };
            let edge = (walk.at, input);
            match (&inputs[input].1, self.known[edge.0][edge.1]) {
                (Target::Node(node), _) => walk.at = *node,
                (_, State::Done(node)) => walk.at = node,
                (_, State::Active) => return Err(self.cycle(edge, &stack, &walk)),
                (Target::Follows(path), State::Unknown) => {
                    self.known[edge.0][edge.1] = State::Active;
                    stack.push(walk);
                    walk = Walk::new(Some(edge), path, self.root);
                }
            }
        }
    }

    fn nowhere(&self, walk: &Walk<'_>) -> Broken {
        let names = self.names();
        let input = match walk.edge {
            Some(edge) => format!("the input {:?}", self.name(&names, edge)),
            None => "the parent of an input with a relative path".to_owned(),
        };
        Broken::Nowhere { input, target: printable(&walk.path.join("/")) }
    }

    fn cycle(&self, edge: EdgeId, stack: &[Walk<'_>], last: &Walk<'_>) -> Broken {
        let names = self.names();
        let edges = stack.iter().chain([last]).filter_map(|walk| walk.edge);
        let circle = edges.skip_while(|other| *other != edge).chain([edge]);
        let mut inputs: Vec<_> = circle.map(|edge| self.name(&names, edge)).collect();
        if inputs.len() > SHOWN {
            inputs.splice(SHOWN - 2..inputs.len() - 1, ["...".to_owned()]);
        }
        Broken::Cycle { inputs }
    }

    /// What a person calls an edge: the path of inputs from the root.
    fn name(&self, names: &[Option<String>], (node, input): EdgeId) -> String {
        let name = &self.nodes[node].inputs[input].0;
        match &names[node] {
            Some(path) if !path.is_empty() => printable(&format!("{path}/{name}")),
            _ => printable(name),
        }
    }

    /// A shortest path of inputs from the root to each node, along edges that follow nothing.
    fn names(&self) -> Vec<Option<String>> {
        let mut names = vec![None; self.nodes.len()];
        names[self.root] = Some(String::new());
        let mut queue = std::collections::VecDeque::from([self.root]);
        while let Some(node) = queue.pop_front() {
            for (input, (_, target)) in self.nodes[node].inputs.iter().enumerate() {
                if let Target::Node(to) = target
                    && names[*to].is_none()
                {
                    names[*to] = Some(self.name(&names, (node, input)));
                    queue.push_back(*to);
                }
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[(&str, Target)]) -> Written {
        let inputs = inputs.iter().map(|(name, target)| {
            let target = match target {
                Target::Node(node) => Target::Node(*node),
                Target::Follows(path) => Target::Follows(path.clone()),
            };
            ((*name).to_owned(), target)
        });
        Written { source: None, parent: None, inputs: inputs.collect() }
    }

    fn follows(path: &[&str]) -> Target {
        Target::Follows(path.iter().map(|name| (*name).to_owned()).collect())
    }

    fn broken(nodes: Vec<Written>) -> Broken {
        resolve(nodes, 0).err().expect("resolved")
    }

    #[test]
    fn a_follows_through_others_ends_at_their_node() {
        let graph = resolve(
            vec![
                node(&[("a", Target::Node(1)), ("b", follows(&["a", "x"])), ("c", follows(&["b", "y"]))]),
                node(&[("x", follows(&["a", "z"])), ("z", Target::Node(2))]),
                node(&[("root", follows(&[])), ("y", Target::Node(1))]),
            ],
            0,
        )
        .unwrap();
        let targets: Vec<Vec<_>> =
            graph.nodes.iter().map(|node| node.inputs.iter().map(|(_, target)| *target).collect()).collect();
        assert_eq!(targets, [vec![1, 2, 1], vec![2, 2], vec![0, 1]]);
    }

    #[test]
    fn a_circle_is_named_by_its_inputs() {
        let lock = vec![
            node(&[("a", Target::Node(1)), ("b", follows(&["c"])), ("c", follows(&["a", "x"]))]),
            node(&[("x", follows(&["c"]))]),
        ];
        assert_eq!(broken(lock), Broken::Cycle { inputs: ["c", "a/x", "c"].map(str::to_owned).to_vec() });
        let itself = vec![node(&[("a", follows(&["a"]))])];
        assert_eq!(broken(itself), Broken::Cycle { inputs: vec!["a".to_owned(), "a".to_owned()] });
    }

    #[test]
    fn of_a_large_circle_some_inputs_are_named() {
        let name = |number: usize| format!("n{:05}", number % 20_000);
        let inputs = (0..20_000).map(|number| (name(number), follows(&[&name(number + 1)]))).collect();
        let Broken::Cycle { inputs } = broken(vec![Written { source: None, parent: None, inputs }]) else {
            panic!("another error");
        };
        assert_eq!((inputs.len(), inputs[0].as_str(), inputs[10].as_str()), (12, "n00000", "..."));
        assert_eq!(inputs[11], inputs[0]);
    }

    #[test]
    fn a_missing_target_is_named_with_who_wants_it() {
        let lock = vec![node(&[("a", Target::Node(1))]), node(&[("x", follows(&["a", "gone"]))])];
        assert_eq!(
            broken(lock),
            Broken::Nowhere { input: "the input \"a/x\"".to_owned(), target: "a/gone".to_owned() }
        );
        let parent = vec![Written { parent: Some(vec!["gone".to_owned()]), ..node(&[]) }];
        assert!(matches!(broken(parent), Broken::Nowhere { input, .. } if input.contains("parent")));
    }

    /// Each input here uses the one before twice: without memory the walk would take 2^20,000 steps, with recursion it
    /// would be 20,000 calls deep.
    #[test]
    fn inputs_that_double_the_path_are_resolved_once() {
        let names: Vec<String> = (0..20_000).map(|number| format!("n{number:05}")).collect();
        let mut root = vec![("a".to_owned(), Target::Node(1))];
        let mut inner = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let before = number.checked_sub(1).map_or("a", |before| &names[before]);
            inner.push((name.clone(), follows(&[before])));
            root.push((name.clone(), follows(&[before, name])));
        }
        // The last one is asked for first, so that nothing is known yet.
        root.insert(0, ("Z".to_owned(), follows(&[&names[19_999]])));
        let nodes = [root, inner].map(|inputs| Written { source: None, parent: None, inputs });
        let graph = resolve(nodes.into(), 0).unwrap();
        assert!(graph.nodes.iter().flat_map(|node| &node.inputs).all(|(_, target)| *target == 1));
    }
}
