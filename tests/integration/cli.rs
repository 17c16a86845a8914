//! The command line: its output, exit codes, and errors for invalid arguments.

use std::fs;

use serde_json::{Value, json};

use crate::support::machine::{Machine, system};
use crate::support::nix;
use crate::support::program::{KEY, Run};

const LOCK: &str = r#"{
  "nodes": {
    "nixpkgs": {
      "locked": {
        "lastModified": 1700000000,
        "narHash": "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "owner": "NixOS", "repo": "nixpkgs", "rev": "0123456789012345678901234567890123456789", "type": "github"
      },
      "original": { "owner": "NixOS", "repo": "nixpkgs", "type": "github" }
    },
    "root": { "inputs": { "nixpkgs": "nixpkgs" } }
  },
  "root": "root",
  "version": 7
}"#;

#[test]
fn a_key_is_printed_for_people_and_for_programs() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    fs::write(machine.path("project/flake.lock"), LOCK).unwrap();
    let run = |more: &[&str]| Run::of(machine.nix_cache(&[&["key", "--project", "project"], more].concat()));
    let found = run(&["--format", "json"]).json();
    let primary = found["primary-key"].as_str().unwrap();
    assert!(primary.starts_with(&format!("v1-nix-{}-", system())), "{primary}");
    let prefixes: Vec<&str> =
        found["restore-prefixes"].as_array().unwrap().iter().map(|prefix| prefix.as_str().unwrap()).collect();
    assert!(prefixes.len() >= 3);
    // From near to far: each is a prefix of the one before it.
    assert!(prefixes.iter().zip([primary].iter().chain(&prefixes)).all(|(far, near)| near.starts_with(far)));
    let text = run(&[]).out;
    assert!(
        text.contains(&format!("key: {primary}\n")) && prefixes.iter().all(|prefix| text.contains(prefix)),
        "{text}"
    );
    // Another system, file, variable or text is another key; the same is the same.
    assert_eq!(run(&["--format", "json"]).json(), found);
    let others: [&[&str]; 4] =
        [&["--system", "riscv64-linux"], &["--key-files", "*.nix"], &["--extra-key", "x"], &["--prefix-key", "y"]];
    for other in others {
        assert_ne!(run(&[other, &["--format", "json"]].concat()).json()["primary-key"], primary, "{other:?}");
    }
}

#[test]
fn given_keys_are_used_as_they_are() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let found = Run::of(machine.nix_cache(&[
        "key",
        "--format",
        "json",
        "--primary-key",
        "my key/1",
        "--restore-prefixes-first-match",
        "my key/",
        "--restore-prefixes-first-match",
        "my ",
    ]));
    let found = found.json();
    assert_eq!((&found["primary-key"], &found["restore-prefixes"]), (&"my key/1".into(), &json!(["my key/", "my "])));
    // Commas and other odd characters do not meet in the cache.
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["one"]);
    assert_eq!(store.save(&cache, "a/b,c é%2F#g1", &[])["reason"], "new-key");
    assert_eq!(store.save(&cache, "a/b,c é/#g1", &[])["reason"], "new-key");
    let second = machine.store("second");
    assert_eq!(second.restore(&cache, "a/b,c é%2F#g1", &[])["hit"], "exact");
    let third = machine.store("third");
    assert_eq!(third.restore(&cache, "a/b,c", &["--restore-prefixes-first-match", "a/b,"])["hit"], "partial");
    assert_eq!(machine.store("fourth").restore(&cache, "a", &[])["hit"], "miss");
}

#[test]
fn the_first_prefix_that_has_a_snapshot_is_taken() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["one"]);
    for key in ["a-far-1", "a-near-1", "a-near-2"] {
        store.save(&cache, key, &[]);
    }
    let restore = |prefixes: &[&str]| {
        let more: Vec<&str> = prefixes.iter().flat_map(|prefix| ["--restore-prefixes-first-match", prefix]).collect();
        let name = prefixes.join("+");
        machine.store(&name).restore(&cache, "a-near-3", &more)["matched-key"].clone()
    };
    // Of several that one prefix fits, the newest; and the prefixes in their order.
    assert_eq!(restore(&["a-near-", "a-"]), "a-near-2");
    assert_eq!(restore(&["a-far", "a-near-"]), "a-far-1");
    assert_eq!(restore(&["b", "a-near-1"]), "a-near-1");
    assert_eq!(restore(&["b", "c"]), Value::Null);
}

#[test]
fn a_miss_is_a_failure_only_where_that_is_asked_for() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    let run = Run::of(store.verb("restore", &cache, KEY, &[]));
    assert_eq!((run.code, &run.json()["hit"]), (Some(0), &"miss".into()));
    let run = Run::of(store.verb("restore", &cache, KEY, &["--fail-on-miss"]));
    assert_eq!(run.code, Some(1));
    assert!(run.log.contains(KEY) && run.log.contains("--fail-on-miss"), "{}", run.log);
    store.build(&["one"]);
    store.save(&cache, KEY, &[]);
    let run = Run::of(machine.store("second").verb("restore", &cache, KEY, &["--fail-on-miss"]));
    assert_eq!(run.json()["hit"], "exact");
}

#[test]
fn outcomes_are_printed_for_people() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (cache, store, second) = (machine.path("cache"), machine.store("store"), machine.store("second"));
    let text = |verb: &str, store: &crate::support::machine::TestStore| {
        let mut command = machine.nix_cache(&[verb, "--primary-key", KEY, "--store-root"]);
        command.arg(&store.root).arg("--remote").arg(format!("dir:{}", cache.display()));
        let run = Run::of(command);
        assert_eq!(run.code, Some(0), "{run:?}");
        run.out
    };
    assert!(text("restore", &store).starts_with("Miss: "));
    store.build(&["one"]);
    assert!(text("save", &store).starts_with(&format!("Saved generation 1 of {KEY}: ")));
    assert!(text("save", &store).starts_with("Nothing saved: "));
    assert!(text("restore", &second).starts_with(&format!("Exact hit: generation 1 of {KEY}. ")));
}

#[test]
fn arguments_that_make_no_sense_are_named_with_the_remedy() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    fs::write(machine.path("project/flake.lock"), "{ no JSON").unwrap();
    let cases: [(&[&str], &[&str]); 11] = [
        (&[], &["Usage"]),
        (&["resotre"], &["resotre", "restore"]),
        (&["restore"], &["--remote"]),
        (&["restore", "--remote", "somewhere"], &["somewhere", "dir:PATH"]),
        (&["save", "--remote", "dir:"], &["dir:", "dir:/path/of/the/folder"]),
        (&["save", "--remote", "dir:x", "--compression-level", "23"], &["23", "1 to 22"]),
        (&["save", "--remote", "dir:x", "--threads", "0"], &["0", "1 to 256"]),
        (&["restore", "--remote", "dir:x", "--restore-mode", "copy"], &["copy", "unpack"]),
        (&["key", "--project", "project"], &["flake.lock"]),
        (&["key", "--flake-lock", "nowhere/flake.lock"], &["nowhere/flake.lock"]),
        (&["key", "--primary-key", ""], &["key"]),
    ];
    for (arguments, said) in cases {
        let run = Run::of(machine.nix_cache(arguments));
        assert_eq!((run.code, &*run.out), (Some(2), ""), "{arguments:?}: {run:?}");
        for text in said {
            assert!(run.log.contains(text), "{arguments:?} does not say {text:?}: {}", run.log);
        }
    }
    assert!(!machine.path("x").exists(), "nothing is made for arguments that make no sense");
}

#[test]
fn what_is_not_there_is_a_failure_with_the_remedy() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    let remote = format!("dir:{}", cache.display());
    let run = Run::of(machine.nix_cache(&["inspect", "--primary-key", KEY, "--remote", &remote]));
    assert_eq!(run.code, Some(1));
    assert!(run.log.contains(KEY) && run.log.contains(cache.to_str().unwrap()), "{run:?}");
    // A store where there is none yet, and no program to make one.
    let mut command = store.verb("restore", &cache, KEY, &[]);
    command.arg("--quiet").env("PATH", "/nowhere").env_remove("NIX_CONF_DIR");
    command.args(["--lane", "x"]);
    let elsewhere = crate::support::machine::TestStore { machine: machine.clone(), root: machine.path("nowhere") };
    let mut command_without = elsewhere.verb("restore", &cache, KEY, &[]);
    command_without.env("PATH", "/nowhere");
    assert_eq!(Run::of(command).code, Some(0), "a store that is there needs no Nix");
    let run = Run::of(command_without);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.log.contains("nowhere") && run.log.contains("install Nix"), "{}", run.log);
}

#[test]
fn quiet_says_nothing_where_all_is_well() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["one"]);
    for verb in ["restore", "save"] {
        let run = Run::of(store.verb(verb, &cache, KEY, &["--quiet"]));
        assert_eq!((run.code, &*run.log), (Some(0), ""), "{run:?}");
        serde_json::from_str::<Value>(&run.out).unwrap();
    }
    let run = Run::of(store.verb("save", &cache, KEY, &["--verbose"]));
    assert!(run.log.contains(KEY), "{run:?}");
}
