//! Properties of fingerprints, over made-up lock files and over real ones.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::canon::hex;
use super::fingerprint::fingerprint;
use super::{KeyError, lock, nixpkgs};

/// Real lock files, from the histories of public projects, and one by hand.
const REAL: [&str; 5] = [
    include_str!("testdata/git-and-follows.json"),
    include_str!("testdata/many-inputs.json"),
    include_str!("testdata/file-inputs.json"),
    include_str!("testdata/desktop.json"),
    include_str!("testdata/v7.json"),
];

fn real() -> impl Iterator<Item = Value> {
    REAL.iter().map(|text| serde_json::from_str(text).unwrap())
}

/// The fingerprint, or why there is none.
fn print_of(text: &str) -> Result<String, String> {
    let lock = lock::parse(Path::new("flake.lock"), text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(hex(&fingerprint(&lock.graph, lock.graph.root), 64))
}

fn print(lock: &Value) -> Result<String, String> {
    print_of(&lock.to_string())
}

/// The text of `value` with its members in some order and white space in some places, both from `seed`.
fn scramble(value: &Value, seed: &mut u64) -> String {
    let mut random = |below: usize| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize % below
    };
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for last in (1..members.len()).rev() {
                members.swap(last, random(last + 1));
            }
            let space = ["", " ", "\n\t", "\r\n  "][random(4)];
            let members = members.into_iter().map(|(name, value)| {
                format!("{space}{}{space}:{space}{}", Value::from(name.as_str()), scramble(value, seed))
            });
            format!("{{{}{space}}}", members.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// The lock file with other names for its nodes, in another order.
fn rename(lock: &Value, suffix: &str) -> Value {
    let name = |old: &str| old.chars().rev().collect::<String>() + suffix;
    let mut nodes = Map::new();
    for (old, node) in lock["nodes"].as_object().unwrap() {
        let mut node = node.clone();
        for target in node.get_mut("inputs").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            if let Value::String(old) = target {
                *old = name(old);
            }
        }
        nodes.insert(name(old), node);
    }
    json!({"nodes": nodes, "root": name(lock["root"].as_str().unwrap()), "version": lock["version"]})
}

/// Every lock file that differs from `lock` in one place that matters, with what was done.
fn changes(lock: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut change = |what: String, make: &dyn Fn(&mut Map<String, Value>)| {
        let mut changed = lock.clone();
        make(changed["nodes"].as_object_mut().unwrap());
        all.push((what, changed));
    };
    for (name, node) in lock["nodes"].as_object().unwrap() {
        for (attribute, old) in node["locked"].as_object().into_iter().flatten() {
            if ["lastModified", "revCount"].contains(&attribute.as_str()) {
                continue;
            }
            let new = match old {
                Value::String(old) => Value::from(format!("{old}x")),
                Value::Bool(old) => Value::from(!old),
                old => Value::from(old.as_u64().unwrap() + 1),
            };
            let set = |nodes: &mut Map<String, Value>| nodes[name]["locked"][attribute] = new.clone();
            change(format!("{name}: another {attribute}"), &set);
            let text = Value::from(old.to_string());
            change(format!("{name}: {attribute} as a text"), &|nodes| nodes[name]["locked"][attribute] = text.clone());
            change(format!("{name}: no {attribute}"), &|nodes| {
                nodes[name]["locked"].as_object_mut().unwrap().remove(attribute);
            });
        }
        if node.get("locked").is_some() {
            let flake = node.get("flake").is_none_or(|flake| flake == true);
            change(format!("{name}: flake the other way"), &|nodes| nodes[name]["flake"] = (!flake).into());
            let parent = if node.get("parent").is_some() { Value::Null } else { json!([]) };
            change(format!("{name}: another parent"), &|nodes| nodes[name]["parent"] = parent.clone());
        }
        for (input, target) in node["inputs"].as_object().into_iter().flatten() {
            change(format!("{name}: without {input}"), &|nodes| {
                nodes[name]["inputs"].as_object_mut().unwrap().remove(input);
            });
            change(format!("{name}: {input} is called otherwise"), &|nodes| {
                let inputs = nodes[name]["inputs"].as_object_mut().unwrap();
                inputs.remove(input);
                inputs.insert(format!("{input}x"), target.clone());
            });
            change(format!("{name}: {input} goes to a new node"), &|nodes| {
                nodes[name]["inputs"][input] = "new".into();
                nodes.insert("new".into(), json!({"locked": {"rev": "new"}, "original": {}}));
            });
        }
        change(format!("{name}: one more input"), &|nodes| nodes[name]["inputs"]["more"] = json!([]));
    }
    all
}

fn assert_every_change_shows(lock: &Value) {
    let before = print(lock).unwrap();
    let changes = changes(lock);
    assert!(changes.len() > 4);
    for (what, changed) in changes {
        assert_ne!(print(&changed).as_ref(), Ok(&before), "{what}");
    }
}

fn assert_writing_does_not_count(lock: &Value, seed: u64) {
    let before = print(lock).unwrap();
    let mut seed = seed;
    assert_eq!(print_of(&scramble(lock, &mut seed)).as_ref(), Ok(&before), "another order");
    assert_eq!(print_of(&serde_json::to_string_pretty(lock).unwrap()).as_ref(), Ok(&before), "indented");
    let renamed = rename(lock, &(seed % 7).to_string());
    assert_eq!(print_of(&scramble(&renamed, &mut seed)).as_ref(), Ok(&before), "other names");
    let mut other = lock.clone();
    for node in other["nodes"].as_object_mut().unwrap().values_mut().filter(|node| node.get("locked").is_some()) {
        node["locked"]["lastModified"] = seed.into();
        node["locked"]["revCount"] = seed.into();
        node["original"] = json!({"id": "other", "type": "indirect"});
    }
    other["nodes"]["unused"] = json!({"locked": {"rev": "x"}, "original": {}});
    assert_eq!(print(&other).as_ref(), Ok(&before), "what does not say what is fetched");
}

#[test]
fn real_files_have_the_fingerprints_they_always_had() {
    // Computed by a second implementation of the documented encoding, in another language.
    let expected = [
        "335f88b12dc88d0d958f0194312823a643917bcf7c1808c0aff1e84fecd3ba02",
        "ce0369ebc330e715e969f8f37d47b2ea26441fdf2bd33bfa1a7d73342e65823c",
        "3de786a99dbcf69fa4e69ada6b2991f65c14b433b597716be81a32f5cf45159c",
        "5e36bd2dbcc7451baf9a21b25e125957d43fd3185b513915b00e2c3814ea3187",
        "527c86e19cfe2aa99deba3fa38eaab55d50f63a25d4aeb05f8f98c74ac9149bd",
    ];
    for (lock, expected) in real().zip(expected) {
        assert_eq!(print(&lock).unwrap(), expected);
    }
}

#[test]
fn in_real_files_every_change_shows() {
    real().for_each(|lock| assert_every_change_shows(&lock));
}

#[test]
fn in_real_files_the_writing_does_not_count() {
    real().zip(1..).for_each(|(lock, seed)| assert_writing_does_not_count(&lock, seed));
}

#[test]
fn real_files_have_a_nixpkgs() {
    let found: BTreeSet<String> = real()
        .map(|lock| {
            let graph = lock::parse(Path::new("flake.lock"), lock.to_string().as_bytes()).unwrap().graph;
            let node = nixpkgs::find(&graph).unwrap();
            hex(&fingerprint(&graph, node), 12)
        })
        .collect();
    // Each has another nixpkgs; two of them differ in the owner's capitals alone.
    assert_eq!(found.len(), REAL.len());
}

/// A lock file in the shape that Nix writes, with every kind of edge: to later nodes, to earlier ones (so cycles too), and
/// follows through other inputs.
fn lock_files() -> impl Strategy<Value = Value> {
    let edges = proptest::collection::vec((any::<usize>(), any::<usize>(), any::<Vec<u8>>()), 0..8);
    (proptest::collection::vec((any::<usize>(), any::<bool>(), 0..50_u64), 1..7), edges).prop_map(|(nodes, edges)| {
        let name = |node: usize| if node == 0 { "root".to_owned() } else { format!("n{node}") };
        let mut all = Map::from_iter([(name(0), json!({"inputs": {}}))]);
        let count = nodes.len() + 1;
        for (node, (parent, flake, number)) in (1..).zip(nodes) {
            let locked = json!({
                "type": "git", "url": format!("https://example.org/{number}"), "rev": format!("{node}-{number}"),
                "lastModified": number, "shallow": flake, "depth": number,
            });
            all.insert(name(node), json!({"locked": locked, "original": {}, "flake": flake, "inputs": {}}));
            all[&name(parent % node)]["inputs"][format!("child{node}")] = name(node).into();
        }
        for (number, (from, to, _)) in edges.iter().enumerate().filter(|(_, (.., steps))| steps.is_empty()) {
            all[&name(from % count)]["inputs"][format!("also{number}")] = name(1 + to % (count - 1)).into();
        }
        // Paths along edges that follow nothing: these come first, so that no circle of follows can arise.
        let direct = all.clone();
        for (number, (from, _, steps)) in edges.iter().enumerate().filter(|(_, (.., steps))| !steps.is_empty()) {
            let path = walk(&direct, steps);
            all[&name(from % count)]["inputs"][format!("follows{number}")] = json!(path);
        }
        json!({"nodes": all, "root": "root", "version": 7})
    })
}

/// The names of inputs on a walk from the root that takes at each node the input that `steps` choose.
fn walk(nodes: &Map<String, Value>, steps: &[u8]) -> Vec<String> {
    let mut at = "root";
    let mut path = Vec::new();
    for step in steps.iter().take(6) {
        let inputs = nodes[at]["inputs"].as_object().unwrap();
        let Some((input, target)) = inputs.iter().nth(usize::from(*step) % inputs.len().max(1)) else {
            break;
        };
        path.push(input.clone());
        at = target.as_str().unwrap();
    }
    path
}

/// The lock file with every follows replaced by the node at its end.
fn without_follows(lock: &Value) -> Value {
    let nodes = lock["nodes"].as_object().unwrap();
    let end = |path: &Vec<Value>| {
        path.iter().fold("root", |at, name| nodes[at]["inputs"][name.as_str().unwrap()].as_str().unwrap()).to_owned()
    };
    let mut direct = lock.clone();
    for node in direct["nodes"].as_object_mut().unwrap().values_mut() {
        for target in node["inputs"].as_object_mut().unwrap().values_mut() {
            if let Some(end) = target.as_array().map(end).filter(|end| end != "root") {
                *target = end.into();
            }
        }
    }
    direct
}

proptest! {
    #[test]
    fn the_writing_does_not_count(lock in lock_files(), seed: u64) {
        assert_writing_does_not_count(&lock, seed);
    }

    #[test]
    fn every_change_shows(lock in lock_files()) {
        assert_every_change_shows(&lock);
    }

    #[test]
    fn a_follows_is_the_node_at_its_end(lock in lock_files()) {
        prop_assert_eq!(print(&without_follows(&lock)), print(&lock));
    }

    #[test]
    fn any_bytes_have_an_answer(text in "[{}\\[\\]\",:a-z0-9 ]{0,60}", cut in any::<proptest::sample::Index>()) {
        let _ = print_of(&text);
        let real = REAL[4];
        let cut = cut.index(real.trim_end().len());
        prop_assert!(print_of(&real[..cut]).is_err());
        let _ = print_of(&(real[..cut].to_owned() + &text + &real[cut..]));
    }
}

#[test]
fn one_shared_node_is_not_two_alike() {
    let locked = json!({"locked": {"rev": "x"}, "original": {}});
    let shared = json!({"root": {"inputs": {"a": "n", "b": "n"}}, "n": locked});
    let two = json!({"root": {"inputs": {"a": "n", "b": "m"}}, "n": locked, "m": locked});
    let [shared, two] = [shared, two].map(|nodes| print(&json!({"nodes": nodes, "root": "root", "version": 7})));
    assert!(shared.is_ok() && two.is_ok());
    assert_ne!(shared, two);
}

#[test]
fn cycles_of_plain_edges_have_a_fingerprint() {
    let cycle = |length: usize| {
        let mut nodes = Map::from_iter([("root".to_owned(), json!({"inputs": {"a": "n0"}}))]);
        for node in 0..length {
            let next = format!("n{}", (node + 1) % length);
            nodes.insert(format!("n{node}"), json!({"locked": {}, "original": {}, "inputs": {"next": next}}));
        }
        print(&json!({"nodes": nodes, "root": "root", "version": 7})).unwrap()
    };
    assert_eq!(cycle(3), cycle(3));
    assert_ne!(cycle(3), cycle(4));
}

/// Forty levels of two nodes that both lead to both of the next: 2^40 paths.
#[test]
fn shared_nodes_are_visited_once() {
    let mut nodes = Map::from_iter([("root".to_owned(), json!({"inputs": {"l": "l0", "r": "r0"}}))]);
    for level in 0..40 {
        for side in ["l", "r"] {
            let inputs = match level {
                39 => json!({}),
                _ => json!({"l": format!("l{}", level + 1), "r": format!("r{}", level + 1)}),
            };
            let node = json!({"locked": {"rev": format!("{side}{level}")}, "original": {}, "inputs": inputs});
            nodes.insert(format!("{side}{level}"), node);
        }
    }
    assert!(print(&json!({"nodes": nodes, "root": "root", "version": 7})).is_ok());
}

#[test]
fn broken_follows_name_the_file_and_the_place() {
    let parse = |nodes: Value| {
        let text = json!({"nodes": nodes, "root": "root", "version": 7}).to_string();
        lock::parse(Path::new("some/flake.lock"), text.as_bytes()).err().unwrap()
    };
    let cycle = parse(json!({"root": {"inputs": {"a": ["b"], "b": ["a"]}}}));
    assert!(matches!(cycle, KeyError::FollowsCycle { .. }));
    let message = cycle.to_string();
    assert!(message.contains("some/flake.lock") && message.contains("a -> b -> a"), "{message}");
    let nowhere = parse(json!({
        "root": {"inputs": {"tool": "t"}},
        "t": {"locked": {}, "original": {}, "inputs": {"nixpkgs": ["nixpkgs"]}},
    }));
    assert!(matches!(nowhere, KeyError::FollowsNowhere { .. }));
    let message = nowhere.to_string();
    assert!(message.contains("some/flake.lock") && message.contains("the input \"tool/nixpkgs\""), "{message}");
}
