//! Snapshots of a few kilobytes that would become gigabytes.

use std::fs;
use std::io::Write;

use super::{MOST, measured};
use crate::support::envelope;
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::{KEY, notes};
use nix_cache::base::digest::Sha;

/// The bytes of a snapshot with this JSON, compressed by zstd, whose digests are right.
pub(crate) fn sealed(json: &[&[u8]]) -> Vec<u8> {
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for part in json {
        zstd.write_all(part).unwrap();
    }
    envelope::snapshot(&zstd.finish().unwrap())
}

const HEAD: &str = r#"{"facts":{"created":1,"key":"k","system":"s","tool":"t","lane":"l"}"#;

/// A snapshot whose parts are empty but for `part`, which stands `times` over between `before` and `after`.
fn filled(name: &str, before: &str, part: &str, times: usize, after: &str) -> Vec<Vec<u8>> {
    let mut json = vec![HEAD.as_bytes().to_vec()];
    for (other, empty) in [("names", "[]"), ("paths", "[]"), ("layers", "[]"), ("stored", "[]"), ("lanes", "{}")] {
        if other != name {
            json.push(format!(",\"{other}\":{empty}").into_bytes());
        }
    }
    json.push(format!(",\"{name}\":{before}").into_bytes());
    let many = part.repeat(1000).into_bytes();
    (0..times / 1000).for_each(|_| json.push(many.clone()));
    json.push(format!("{after}}}").into_bytes());
    json
}

/// A snapshot whose parts are empty but for `name`, which has `times` elements that differ.
fn numbered(name: &str, before: &str, times: usize, after: &str, element: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
    let first = format!("{before}{}", element(0));
    let mut json = filled(name, &first, "", 0, after);
    let end = json.pop();
    json.extend((1..times).map(|number| format!(",{}", element(number)).into_bytes()));
    json.extend(end);
    let spelt = format!("\"names\":[\"{}-a\"]", "0".repeat(32));
    for part in json.iter_mut().filter(|part| part.ends_with(b"\"names\":[]")) {
        *part = format!(",{spelt}").into_bytes();
    }
    json
}

#[test]
fn small_snapshots_that_would_become_large_are_a_miss() {
    let machine = Machine::new(&nix::all()[0]);
    let store = machine.store("store");
    let (size, chunk) = (2_u64 << 30, Sha::of(&vec![0; 1 << 20]).to_string());
    let layer = r#"{"size":0,"chunks":[],"paths":[],"nar_bytes":0,"created":0,"recipe":["#;
    let name = format!("\"{}-a\"", "0".repeat(32));
    let record = format!(
        r#"{{"path":0,"hash":"{}","size":1,"refs":[0],"sigs":["a:b"],"time":1,"outputs":{{"o":0}},"used":1}},"#,
        "0".repeat(64)
    );
    let again = format!(
        r#"{HEAD},"names":[],"paths":[],"layers":[{{"size":{size},"chunks":[{}],"paths":[],"nar_bytes":1,"created":1,"recipe":[{}]}}],
        "stored":[{{"entry":"e","size":{},"chunks":["{chunk}"]}}],"lanes":{{}}}}"#,
        vec![format!("\"{chunk}\""); 2048].join(","),
        vec![format!("[0,0,{}]", 1 << 20); 2048].join(","),
        1 << 20,
    );
    let bombs: [(&str, Vec<Vec<u8>>); 7] = [
        ("one chunk again and again", vec![again.into_bytes()]),
        ("a recipe", filled("layers", &format!("[{layer}"), "[0,0,0],", 6_000_000, "[0,0,0]]}]")),
        ("names", filled("names", &format!("[{name}"), &format!(",{name}"), 4_000_000, "]")),
        ("records", filled("paths", "[", &record, 1_000_000, &format!("{}]", record.trim_end_matches(',')))),
        ("something unknown", filled("x", "[", "[],", 20_000_000, "[]]")),
        ("a text", filled("x", "\"", &"a".repeat(100), 3_000_000, "\"")),
        ("depth", filled("x", "", "[", 20_000_000, "")),
    ];
    for (what, json) in bombs {
        let cache = machine.path("cache");
        let _ = fs::remove_dir_all(&cache);
        for folder in ["snapshot", "layer", "files", "tmp"] {
            fs::create_dir_all(cache.join(folder)).unwrap();
        }
        fs::write(cache.join("layer/e"), vec![0; 1 << 20]).unwrap();
        let parts: Vec<&[u8]> = json.iter().map(Vec::as_slice).collect();
        let bytes = sealed(&parts);
        fs::write(cache.join(format!("snapshot/{KEY}#g1")), &bytes).unwrap();
        let (run, memory) = measured(store.verb("restore", &cache, KEY, &[]));
        println!("{what}: {} bytes of snapshot, {memory} KiB of memory", bytes.len());
        let outcome = run.json();
        assert_eq!(
            (&outcome["hit"], notes(&outcome)),
            (&"miss".into(), vec!["snapshot-unreadable"]),
            "{what}: {outcome}"
        );
        assert!(!outcome["notes"][0]["message"].as_str().unwrap().contains("format"), "{what}: {outcome}");
        assert!(memory < MOST, "{what}: {memory} KiB");
        assert!(!store.dirs().own_dir().join("layers").exists(), "{what}");
    }
}

#[test]
fn snapshots_that_are_just_small_enough_fit_into_memory() {
    let machine = Machine::new(&nix::all()[0]);
    let name = format!("\"{}-a\"", "0".repeat(32));
    let record = |number| format!(r#"{{"path":0,"hash":"{number:064}","size":1,"time":1,"used":1}}"#);
    let snapshots: [(&str, Vec<Vec<u8>>); 3] = [
        ("records", numbered("paths", "[", 380_000, "]", record)),
        ("names", filled("names", &format!("[{name}"), &format!(",{name}"), 1_900_000, "]")),
        ("one path again and again", filled("upstream", "[0", ",0", 9_500_000, "]")),
    ];
    for (what, json) in snapshots {
        let store = machine.store(what);
        let cache = machine.path("cache");
        let _ = fs::remove_dir_all(&cache);
        for folder in ["snapshot", "layer", "files", "tmp"] {
            fs::create_dir_all(cache.join(folder)).unwrap();
        }
        let parts: Vec<&[u8]> = json.iter().map(Vec::as_slice).collect();
        fs::write(cache.join(format!("snapshot/{KEY}#g1")), sealed(&parts)).unwrap();
        let (run, memory) = measured(store.verb("restore", &cache, KEY, &[]));
        println!("{what}: {memory} KiB of memory");
        assert!(!notes(&run.json()).contains(&"snapshot-unreadable"), "{what}: {run:?}");
        assert!(memory < MOST, "{what}: {memory} KiB");
    }
}
