//! Finds the nixpkgs input, and names inputs for people.

use url::Url;

use super::canon::Canon;
use super::fingerprint::{Graph, Source, fingerprint, reachable};

/// The node of nixpkgs: the root's input `nixpkgs`, or else the nearest node, by the names of inputs
/// where two are as near, that is locked to a repository called `nixpkgs` or to a release of a Nixpkgs channel.
pub(super) fn find(graph: &Graph) -> Option<usize> {
    let named = graph.nodes[graph.root].inputs.iter().find(|(name, _)| name == "nixpkgs").map(|(_, node)| *node);
    named.filter(|node| *node != graph.root).or_else(|| {
        reachable(graph, graph.root)
            .into_iter()
            .find(|node| source(graph, *node).is_some_and(|source| is_nixpkgs(|name| source.text(name))))
    })
}

/// Tells one nixpkgs from another, in whichever way it is locked: the hash of its files says all that matters, and an address may be
/// spelled in many ways. A node without such a hash, or with inputs of its own, counts with all that can be seen from it.
pub(super) fn identity(graph: &Graph, node: usize) -> [u8; 32] {
    let Some(source) = source(graph, node).filter(|_| graph.nodes[node].inputs.is_empty()) else {
        return fingerprint(graph, node);
    };
    let Some(hash) = source.text("narHash") else { return fingerprint(graph, node) };
    let mut canon = Canon::new("nixpkgs-1");
    canon.bytes(hash.as_bytes());
    canon.bytes(source.text("dir").unwrap_or_default().as_bytes());
    canon.number(source.is_flake.into());
    canon.finish()
}

/// The source of a node, unless it is the root.
pub(super) fn source(graph: &Graph, node: usize) -> Option<&Source> {
    graph.nodes[node].source.as_ref()
}

/// Whether a source with these attributes is Nixpkgs.
pub(super) fn is_nixpkgs<'a>(attribute: impl Fn(&str) -> Option<&'a str>) -> bool {
    if let Some(repo) = attribute("repo") {
        return repo.eq_ignore_ascii_case("nixpkgs");
    }
    let Some(url) = attribute("url") else {
        return false;
    };
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.split('/')
        .any(|name| name == "nixexprs.tar.xz" || name.trim_end_matches(".git").eq_ignore_ascii_case("nixpkgs"))
}

/// An input as people write it: `github:NixOS/nixpkgs/<rev>`. Without whatever may be a secret in an address.
pub(super) fn describe(source: &Source) -> String {
    let rev = source.text("rev");
    let mut text = origin(|name| source.text(name));
    if let Some(content) = rev.or_else(|| source.text("narHash")) {
        text.push('/');
        text.push_str(content);
    }
    text
}

/// The same without the revision.
pub(super) fn origin<'a>(attribute: impl Fn(&str) -> Option<&'a str>) -> String {
    let kind = attribute("type").unwrap_or("unknown");
    match (attribute("owner"), attribute("repo")) {
        (Some(owner), Some(repo)) => format!("{kind}:{owner}/{repo}"),
        _ => match (attribute("url"), attribute("path")) {
            (Some(url), _) => format!("{kind} {}", without_secrets(url)),
            (None, Some(path)) => format!("{kind}:{path}"),
            (None, None) => kind.to_owned(),
        },
    }
}

/// The address without user, password, query and fragment.
fn without_secrets(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return "(an address)".to_owned();
    };
    url.set_query(None);
    url.set_fragment(None);
    // These fail where the address can have neither, and then has neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::{Node, Value};
    use super::*;

    fn locked(attributes: &[(&str, &str)]) -> Source {
        let attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), Value::Text((*value).to_owned()))).collect();
        Source { attributes, is_flake: true, parent: None }
    }

    fn node(attributes: &[(&str, &str)], inputs: &[(&str, usize)]) -> Node {
        let inputs = inputs.iter().map(|(name, node)| ((*name).to_owned(), *node)).collect();
        Node { source: Some(locked(attributes)), inputs }
    }

    fn graph(root: &[(&str, usize)], mut others: Vec<Node>) -> Graph {
        let mut nodes = vec![Node { source: None, ..node(&[], root) }];
        nodes.append(&mut others);
        Graph { nodes, root: 0 }
    }

    const NIXPKGS: [(&str, &str); 3] = [("owner", "nixos"), ("repo", "nixpkgs"), ("type", "github")];
    const OTHER: [(&str, &str); 3] = [("owner", "x"), ("repo", "nixpkgs.lib"), ("type", "github")];

    #[test]
    fn the_roots_own_input_wins_whatever_it_is() {
        let lock = graph(&[("a", 1), ("nixpkgs", 2)], vec![node(&NIXPKGS, &[]), node(&OTHER, &[])]);
        assert_eq!(find(&lock), Some(2));
    }

    #[test]
    fn otherwise_the_nearest_that_is_nixpkgs() {
        let deep = node(&OTHER, &[("nixpkgs", 2)]);
        let lock = graph(&[("a", 1), ("z", 3)], vec![deep, node(&NIXPKGS, &[]), node(&NIXPKGS, &[])]);
        assert_eq!(find(&lock), Some(3));
        let lock = graph(&[("a", 1)], vec![node(&OTHER, &[("x", 2)]), node(&NIXPKGS, &[])]);
        assert_eq!(find(&lock), Some(2));
    }

    #[test]
    fn one_nixpkgs_is_the_same_however_it_is_spelled() {
        const HASH: (&str, &str) = ("narHash", "sha256-AAAA");
        const REV: (&str, &str) = ("rev", "0123456789012345678901234567890123456789");
        let of = |attributes: &[(&str, &str)], inputs: &[(&str, usize)]| {
            identity(&graph(&[("nixpkgs", 1)], vec![node(attributes, inputs), node(&OTHER, &[])]), 1)
        };
        let first = of(&[HASH, ("owner", "NixOS"), ("repo", "nixpkgs"), REV, ("type", "github")], &[]);
        for same in [
            &[HASH, ("owner", "nixos"), ("repo", "Nixpkgs"), REV, ("type", "github")][..],
            &[HASH, ("ref", "master"), REV, ("type", "git"), ("url", "https://github.com/NixOS/nixpkgs.git")],
            &[HASH, ("type", "tarball"), ("url", "https://github.com/NixOS/nixpkgs/archive/0123.tar.gz")],
        ] {
            assert_eq!(of(same, &[]), first, "{same:?}");
        }
        assert_ne!(of(&[("narHash", "sha256-BBBB"), ("owner", "NixOS"), ("repo", "nixpkgs"), REV], &[]), first);
        assert_ne!(of(&[HASH, ("dir", "lib"), REV], &[]), first, "a part of it is something else");
        assert_ne!(of(&[HASH, REV], &[("x", 2)]), first, "inputs of its own count");
        assert_ne!(
            of(&[("owner", "NixOS"), REV], &[]),
            of(&[("owner", "nixos"), REV], &[]),
            "without a hash, the address counts"
        );
    }

    #[test]
    fn there_need_not_be_one() {
        assert_eq!(find(&graph(&[("a", 1)], vec![node(&OTHER, &[])])), None);
        assert_eq!(find(&graph(&[("nixpkgs", 0)], vec![])), None);
    }

    #[test]
    fn addresses_of_nixpkgs_are_known() {
        for (url, expected) in [
            ("https://github.com/NixOS/nixpkgs", true),
            ("https://github.com/NixOS/nixpkgs.git?ref=x", true),
            ("https://releases.nixos.org/nixos/unstable/nixos-1/nixexprs.tar.xz", true),
            ("https://example.org/nixpkgs-lib", false),
            ("https://example.org/x?from=/nixpkgs/", false),
        ] {
            let source = locked(&[("url", url)]);
            assert_eq!(is_nixpkgs(|name| source.text(name)), expected, "{url}");
        }
    }

    #[test]
    fn descriptions_hold_no_secrets() {
        let github = locked(&[("owner", "NixOS"), ("repo", "nixpkgs"), ("rev", "abc"), ("type", "github")]);
        assert_eq!(describe(&github), "github:NixOS/nixpkgs/abc");
        let git =
            locked(&[("rev", "abc"), ("type", "git"), ("url", "https://me:hunter2@host/x?token=hunter2#hunter2")]);
        assert_eq!(describe(&git), "git https://host/x/abc");
        let scp = locked(&[("type", "git"), ("url", "hunter2@host:x")]);
        assert_eq!(describe(&scp), "git (an address)");
        assert_eq!(describe(&locked(&[("path", "./dep"), ("type", "path")])), "path:./dep");
    }
}
