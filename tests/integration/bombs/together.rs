//! Entries that each fit into memory, and would not if all of them were held at once.

use std::fs;
use std::path::Path;

use super::snapshots::sealed;
use super::{MOST, measured};
use crate::support::envelope;
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::{KEY, notes};

/// Paths of one snapshot: as many as fit into some 130 MB.
const PATHS: usize = 250_000;

/// Stores a snapshot whose paths no other one has. It says that all of `unread` belong to it.
fn plant(cache: &Path, key: &str, number: usize, unread: std::ops::Range<usize>) {
    let list = |element: &dyn Fn(usize) -> String| (0..PATHS).map(element).collect::<Vec<_>>().join(",");
    let names = list(&|path| format!("\"{:032}-a\"", number * PATHS + path));
    let paths = list(&|path| format!(r#"{{"path":{path},"hash":"{:064}","size":120,"time":1,"used":1}}"#, path + 1));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let unread: Vec<String> = unread.map(|number| format!("\"{number}\":{now}")).collect();
    let json = format!(
        r#"{{"facts":{{"created":1,"key":"k","system":"","tool":"t","lane":"l"}},"names":[{names}],"paths":[{paths}],"layers":[],"stored":[],
        "lanes":{{}},"unread":{{{}}}}}"#,
        unread.join(",")
    );
    fs::create_dir_all(cache.join("snapshot")).unwrap();
    fs::write(cache.join(format!("snapshot/{key}#g{number}")), sealed(&[json.as_bytes()])).unwrap();
}

#[test]
fn generations_that_are_merged_fit_into_memory_together() {
    let machine = Machine::new(&nix::all()[0]);
    let cache = machine.path("cache");
    (1..4).for_each(|number| plant(&cache, KEY, number, 1..number));
    let store = machine.store("store");
    let (run, memory) = measured(store.verb("restore", &cache, KEY, &[]));
    assert_eq!(run.json()["phases"][0]["count"], PATHS, "{run:?}");
    assert!(run.log.contains("so it is left out"), "{run:?}");
    assert!(memory < MOST, "{memory} KiB");
}

#[test]
fn damaged_entries_of_the_largest_size_fit_into_memory() {
    let machine = Machine::new(&nix::all()[0]);
    let cache = machine.path("cache");
    fs::create_dir_all(cache.join("snapshot")).unwrap();
    let body = vec![7; (64 << 20) - envelope::HEAD];
    for number in 1..3 {
        fs::write(cache.join(format!("snapshot/{KEY}#g{number}")), envelope::snapshot(&body)).unwrap();
    }
    let store = machine.store("store");
    let (run, memory) = measured(store.verb("restore", &cache, KEY, &[]));
    assert_eq!(notes(&run.json()), ["snapshot-unreadable"; 2], "{run:?}");
    assert!(memory < MOST, "{memory} KiB");
}

#[test]
fn a_prune_reads_one_large_snapshot_after_the_other() {
    let machine = Machine::new(&nix::all()[0]);
    let cache = machine.path("cache");
    (0..3).for_each(|number| plant(&cache, &format!("key-{number}"), 1, 0..0));
    let mut command = machine.nix_cache(&["prune"]);
    command.arg("--remote").arg(format!("dir:{}", cache.display()));
    let (run, memory) = measured(command);
    assert_eq!(run.code, Some(0), "{run:?}");
    // Beside a snapshot, what is known of all others stays in memory.
    assert!(memory < MOST + MOST / 2, "{memory} KiB");
}
