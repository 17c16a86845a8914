//! What a node is, for rules.

use rnix::{SyntaxKind, SyntaxNode};

/// The name and the value of a line `name = value;`; for a path of names, the last.
pub(crate) fn assignment(node: &SyntaxNode) -> Option<(String, SyntaxNode)> {
    if node.kind() != SyntaxKind::NODE_ATTRPATH_VALUE {
        return None;
    }
    let path = node.children().find(|child| child.kind() == SyntaxKind::NODE_ATTRPATH)?;
    let value = node.children().find(|child| child.kind() != SyntaxKind::NODE_ATTRPATH)?;
    Some((path.children().last()?.text().to_string(), value))
}

/// A function and its argument.
pub(crate) fn application(node: &SyntaxNode) -> Option<(SyntaxNode, SyntaxNode)> {
    if node.kind() != SyntaxKind::NODE_APPLY {
        return None;
    }
    let mut children = node.children();
    Some((children.next()?, children.next()?))
}

/// An expression without the parentheses around it.
pub(crate) fn bare(node: &SyntaxNode) -> SyntaxNode {
    let mut node = node.clone();
    while node.kind() == SyntaxKind::NODE_PAREN {
        match node.children().next() {
            Some(inner) => node = inner,
            None => break,
        }
    }
    node
}

/// `a.b.c` or `a` as its names; none for anything else.
pub(crate) fn names(node: &SyntaxNode) -> Option<Vec<String>> {
    match node.kind() {
        SyntaxKind::NODE_IDENT => Some(vec![node.text().to_string()]),
        SyntaxKind::NODE_SELECT => {
            let mut children = node.children();
            let mut all = names(&bare(&children.next()?))?;
            let path = children.next().filter(|child| child.kind() == SyntaxKind::NODE_ATTRPATH)?;
            all.extend(path.children().map(|name| name.text().to_string()));
            Some(all)
        }
        _ => None,
    }
}

/// The innermost function of an application with several arguments: `f` of `f a b`.
pub(crate) fn function(node: &SyntaxNode) -> SyntaxNode {
    let mut node = bare(node);
    while let Some((function, _)) = application(&node) {
        node = bare(&function);
    }
    node
}

/// The last names of the lines of an attribute set.
pub(crate) fn attributes(set: &SyntaxNode) -> Vec<String> {
    let mut all: Vec<String> = set.children().filter_map(|child| Some(assignment(&child)?.0)).collect();
    for inherit in set.children().filter(|child| child.kind() == SyntaxKind::NODE_INHERIT) {
        all.extend(inherit.children().map(|name| name.text().to_string()));
    }
    all
}
