//! Which inputs a flake.nix declares.

use std::collections::BTreeSet;

use rnix::{SyntaxKind, SyntaxNode};

use super::shape::bare;

/// The names of the inputs of a flake: those in `inputs`, and the arguments of `outputs` but `self`. None where that cannot be told from
/// the text, or it is not a flake.
pub(crate) fn declared(tree: &SyntaxNode) -> Option<BTreeSet<String>> {
    let set = bare(&tree.children().next()?);
    if set.kind() != SyntaxKind::NODE_ATTR_SET {
        return None;
    }
    let mut names = BTreeSet::new();
    let mut is_flake = false;
    for line in set.children() {
        if line.kind() != SyntaxKind::NODE_ATTRPATH_VALUE {
            return None;
        }
        let path: Vec<String> = path(&line)?;
        let value = line.children().nth(1)?;
        match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["inputs"] => names.extend(of_set(&value)?),
            ["inputs", name, ..] => drop(names.insert((*name).to_owned())),
            ["outputs"] => {
                is_flake = true;
                names.extend(arguments(&value)?);
            }
            _ => {}
        }
    }
    is_flake.then_some(names)
}

/// The first names of the lines of a set.
fn of_set(set: &SyntaxNode) -> Option<Vec<String>> {
    if set.kind() != SyntaxKind::NODE_ATTR_SET {
        return None;
    }
    let first = |line: SyntaxNode| match line.kind() {
        SyntaxKind::NODE_ATTRPATH_VALUE => path(&line)?.into_iter().next(),
        _ => None,
    };
    set.children().map(first).collect()
}

/// The names of a path, all of them plain or quoted without `${}`.
fn path(line: &SyntaxNode) -> Option<Vec<String>> {
    let path = line.children().next().filter(|child| child.kind() == SyntaxKind::NODE_ATTRPATH)?;
    let name = |node: SyntaxNode| match node.kind() {
        SyntaxKind::NODE_IDENT => Some(node.text().to_string()),
        SyntaxKind::NODE_STRING if node.children().next().is_none() => {
            Some(node.text().to_string().trim_matches('"').to_owned())
        }
        _ => None,
    };
    path.children().map(name).collect()
}

/// The named arguments of a function, without `self`.
fn arguments(function: &SyntaxNode) -> Option<Vec<String>> {
    if function.kind() != SyntaxKind::NODE_LAMBDA {
        return None;
    }
    let parameter = function.children().next()?;
    let entries = parameter.children().filter(|child| child.kind() == SyntaxKind::NODE_PAT_ENTRY);
    let names = entries.filter_map(|entry| entry.children().next()).map(|name| name.text().to_string());
    Some(names.filter(|name| name != "self").collect())
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn names(text: &str) -> Option<Vec<String>> {
        declared(&parse(text).unwrap()).map(|all| all.into_iter().collect())
    }

    #[test]
    fn inputs_are_read_in_every_way_they_are_written() {
        let text = "{ description = \"x\"; inputs = { nixpkgs.url = \"n\"; home = { url = \"h\"; inputs.nixpkgs.follows = \"nixpkgs\"; }; \"a b\".url = \"x\"; };
            inputs.more.url = \"m\"; outputs = { self, nixpkgs, registry, ... }@inputs: { }; }";
        assert_eq!(names(text).unwrap(), ["a b", "home", "more", "nixpkgs", "registry"]);
        assert_eq!(names("{ outputs = inputs: { }; }").unwrap(), [""; 0]);
        for unknown in [
            "{ inputs = import ./inputs.nix; outputs = x: x; }",
            "import ./flake.nix",
            "{ inputs.${x}.url = \"\"; outputs = x: x; }",
            "{ a = 1; }",
            "{ outputs = import ./o.nix; }",
        ] {
            assert_eq!(names(unknown), None, "{unknown}");
        }
    }
}
