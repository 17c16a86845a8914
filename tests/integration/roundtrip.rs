//! Restore and save through the binary, on real stores.

mod addressed;
mod damage;
mod inspect;
mod keep;
mod kinds;
mod lanes;
mod mixed;
mod recipes;
mod upstream;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{KEY, Run, notes};
use crate::support::rows::rows;

/// The key that a job with another lock has, and the prefix that it shares with [`KEY`].
const OTHER_KEY: &str = "tests-two";
const PREFIX: [&str; 2] = ["--restore-prefixes-first-match", "tests-"];

/// The paths of the newest snapshot under a key, as base names.
fn snapshot_paths(machine: &Machine, cache: &Path, key: &str) -> BTreeSet<String> {
    let paths = inspect(machine, cache, key)["paths"].as_array().expect("a snapshot has paths").clone();
    paths.iter().map(|path| path["path"].as_str().expect("a path has a name").to_owned()).collect()
}

fn inspect(machine: &Machine, cache: &Path, key: &str) -> Value {
    let remote = format!("dir:{}", cache.display());
    Run::of(machine.nix_cache(&["inspect", "--format", "json", "--primary-key", key, "--remote", &remote])).json()
}

/// The base name of a full store path.
fn base(path: &str) -> String {
    path.strip_prefix("/nix/store/").expect("it is a store path").to_owned()
}

/// A store with everything built, restored before, and saved under [`KEY`].
fn saved(machine: &Machine, cache: &Path) -> TestStore {
    let store = machine.store("saved");
    store.restore(cache, KEY, &[]);
    store.build(&["everything"]);
    assert_eq!(store.save(cache, KEY, &[])["reason"], "new-key");
    store
}

#[test]
fn what_was_saved_comes_back_with_all_that_the_database_said() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, first, second) = (machine.path("cache"), machine.store("first"), machine.store("second"));
        let missed = first.restore(&cache, KEY, &[]);
        assert_eq!(missed["hit"], "miss");
        assert_eq!(notes(&missed), [""; 0]);
        first.build(&["everything"]);
        let saved = first.save(&cache, KEY, &[]);
        assert_eq!((&saved["reason"], &saved["saved"]["generation"]), (&"new-key".into(), &1.into()));
        let restored = second.restore(&cache, KEY, &[]);
        assert_eq!((&restored["hit"], &restored["paths-lost"]), (&"exact".into(), &0.into()));
        assert_eq!(rows(&second), rows(&first).restored(), "with Nix {}", nix.version);
        second.assert_sound();
        second.assert_tidy();
        second.assert_verifies();
        assert_eq!(second.builds(&["everything"]), 0);
        assert_eq!(second.save(&cache, KEY, &[])["reason"], "nothing-new");
    }
}

#[test]
fn signatures_content_addresses_and_derivers_survive() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, first, second) = (machine.path("cache"), machine.store("first"), machine.store("second"));
        first.build(&["everything"]);
        for name in ["key-a", "key-b"] {
            let output = machine.command("nix").args(["key", "generate-secret", "--key-name", name]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::write(machine.path(name), output.stdout).unwrap();
            let key = machine.path(name);
            first.nix(&["store", "sign", "--all", "--key-file", key.to_str().unwrap()]);
        }
        let before = rows(&first);
        let with = |what: &str, has: &dyn Fn(&crate::support::rows::PathRow) -> bool| {
            assert!(before.paths.values().any(has), "no path of the test has {what}");
        };
        with("two signatures", &|row| row.signatures.as_ref().is_some_and(|signatures| signatures.len() == 2));
        with("a fixed content address", &|row| row.ca.as_deref().is_some_and(|ca| ca.starts_with("fixed:sha256:")));
        with("a recursive one", &|row| row.ca.as_deref().is_some_and(|ca| ca.starts_with("fixed:r:sha256:")));
        with("that of a text", &|row| row.ca.as_deref().is_some_and(|ca| ca.starts_with("text:sha256:")));
        with("a deriver", &|row| row.deriver.is_some());
        with("the mark of being built here", &|row| row.ultimate == Some(1));
        assert!(before.outputs.iter().any(|(_, name, _)| name == "doc"));
        first.save(&cache, KEY, &[]);
        second.restore(&cache, KEY, &[]);
        assert_eq!(rows(&second), before.restored(), "with Nix {}", nix.version);
    }
}

#[test]
fn one_nix_uses_what_another_saved() {
    for from in nix::all() {
        for to in nix::all().iter().filter(|to| *to != from) {
            let machine = Machine::new(from);
            let cache = machine.path("cache");
            let first = saved(&machine, &cache);
            let second = machine.with(to).store("second");
            assert_eq!(second.restore(&cache, KEY, &[])["hit"], "exact");
            assert_eq!(rows(&second), rows(&first).restored(), "from Nix {} to {}", from.version, to.version);
            second.assert_verifies();
            second.with(from).assert_verifies();
            assert_eq!(second.builds(&["everything"]), 0);
            assert_eq!(second.builds(&["onTop"]), 2);
            assert_eq!(second.save(&cache, KEY, &[])["saved"]["generation"], 2);
        }
    }
}

#[test]
fn garbage_is_collected_after_a_restore() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        saved(&machine, &cache);
        let second = machine.store("second");
        second.restore(&cache, KEY, &[]);
        let kept = second.build(&["another"]);
        second.nix_store(&["--gc", "--option", "keep-derivations", "false"]);
        let closure = second.nix_store(&["-qR", &kept[0]]);
        let closure: BTreeSet<String> = closure.lines().map(base).collect();
        let valid: BTreeSet<String> = second.valid().iter().map(ToString::to_string).collect();
        assert_eq!(valid, closure, "with Nix {}", nix.version);
        second.assert_verifies();
        std::fs::remove_file(second.root.join("result")).unwrap();
        second.nix_store(&["--gc"]);
        assert_eq!(second.valid(), BTreeSet::new());
    }
}

#[test]
fn a_store_that_was_never_restored_is_saved_whole() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, store) = (machine.path("cache"), machine.store("store"));
        store.build(&["everything"]);
        let saved = store.save(&cache, KEY, &[]);
        assert_eq!(saved["saved"]["paths"], store.valid().len());
        let again = store.save(&cache, KEY, &[]);
        assert_eq!((&again["reason"], &again["entries-created"]), (&"nothing-new".into(), &0.into()));
        assert_eq!(again["bytes-uploaded"], 0);
    }
}

#[test]
fn a_store_with_nothing_new_saves_nothing() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, store) = (machine.path("cache"), machine.store("store"));
        assert_eq!(store.save(&cache, KEY, &[])["reason"], "nothing-to-save");
        store.build(&["one"]);
        store.restore(&cache, KEY, &[]);
        assert_eq!(store.save(&cache, KEY, &[])["reason"], "nothing-to-save");
        assert_eq!(std::fs::read_dir(cache.join("snapshot")).unwrap().count(), 0);
    }
}
