//! `nix-cache push`: what it writes is read back by real Nix, which checks every signature.

pub(crate) mod servers;
mod step;
pub(crate) mod tools;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::signed::{Key, key};
use crate::support::check::flip_byte;
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{KEY, Run, notes};

/// `nix-cache push` of this store.
fn push_command(store: &TestStore, to: &str, key: Option<&Key>, paths: &[String]) -> Command {
    let mut command = store.machine.nix_cache(&["push", "--format", "json", "--to", to, "--threads", "2"]);
    command.arg("--store-root").arg(&store.root).args(paths);
    if let Some(key) = key {
        command.arg("--signing-key-file").arg(&key.secret);
    }
    command.env("NIX_CACHE_TUNING", "blob_delay=20,upload_stall=10000");
    command
}

fn push(store: &TestStore, to: &str, key: Option<&Key>, paths: &[String]) -> Value {
    Run::of(push_command(store, to, key, paths)).json()
}

/// The outcome of a push that could not do everything.
fn failing(command: Command) -> Value {
    let run = Run::of(command);
    assert_eq!(run.code, Some(1), "{}{}", run.out, run.log);
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {}{}", run.out, run.log))
}

/// `nix copy` of a path from a cache into a store that requires signatures by this key.
pub(crate) fn fetch(store: &TestStore, from: &str, trusted: &str, path: &str) -> Result<(), String> {
    let mut command = store.machine.command("nix");
    command.args(["copy", "--from", from, "--option", "trusted-public-keys", trusted]);
    command.args(["--option", "require-sigs", "true"]).arg("--to").arg(&store.root).arg(path);
    let output = command.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

pub(crate) fn file(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// The names of the files of a cache in a folder.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    let mut names: Vec<_> = files.map(|entry| entry.file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_pushed_is_fetched_by_every_nix_that_trusts_the_key() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (ours, theirs) = (key(&machine, "ours-1"), key(&machine, "theirs-1"));
        let (cache, first) = (machine.path("cache"), machine.store("first"));
        let built = first.build(&["everything"]);
        let to = file(&cache);
        let outcome = push(&first, &to, Some(&ours), &built);
        let sink = &outcome["sinks"][0];
        assert_eq!((&sink["complete"], notes(&outcome)), (&true.into(), vec![]), "{outcome}");
        assert_eq!(sink["paths-pushed"], outcome["paths-considered"]);
        let names = files(&cache);
        assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
        assert_eq!(names.iter().filter(|name| name.ends_with(".narinfo")).count() as u64, sink["paths-pushed"]);
        for reader in nix::all() {
            let store = machine.with(reader).store(&format!("reader-{}", reader.version));
            let refused = fetch(&store, &to, &theirs.public, &built[0]).unwrap_err();
            assert!(refused.contains("signature"), "Nix {}: {refused}", reader.version);
            fetch(&store, &to, &ours.public, &built[0]).unwrap();
            assert_eq!(store.valid().len() as u64, sink["paths-pushed"]);
            store.assert_verifies();
        }
        // The second time, there is nothing to do.
        let before: Vec<_> =
            names.iter().map(|name| fs::metadata(cache.join(name)).ok().map(|m| m.modified().unwrap())).collect();
        let again = push(&first, &to, Some(&ours), &built);
        assert_eq!((&again["sinks"][0]["paths-pushed"], &again["sinks"][0]["complete"]), (&0.into(), &true.into()));
        let after: Vec<_> =
            names.iter().map(|name| fs::metadata(cache.join(name)).ok().map(|m| m.modified().unwrap())).collect();
        assert_eq!(before, after);
    }
}

#[test]
fn content_addressed_paths_and_those_of_nix_are_read_as_they_were() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, store) = (key(&machine, "ours-1"), machine.store("first"));
    let built = store.build(&["everything"]);
    // Another tool wrote a part of the cache, and described it.
    let (cache, part) = (machine.path("cache"), store.build(&["one"]));
    let output = machine
        .command("nix")
        .args(["copy", "--from"])
        .arg(&store.root)
        .arg("--to")
        .arg(file(&cache))
        .args(&part)
        .output();
    assert!(output.unwrap().status.success());
    let described = fs::read_to_string(cache.join("nix-cache-info")).unwrap();
    let outcome = push(&store, &file(&cache), Some(&ours), &[&built[..], &part].concat());
    assert_eq!(outcome["sinks"][0]["paths-present"], 1, "{outcome}");
    assert_eq!(fs::read_to_string(cache.join("nix-cache-info")).unwrap(), described);
    let fixed = files(&cache).into_iter().filter(|name| name.ends_with(".narinfo"));
    let fixed = fixed.filter(|name| fs::read_to_string(cache.join(name)).unwrap().contains("\nCA: fixed:"));
    assert!(fixed.count() > 0);
}

#[test]
fn a_job_pushes_what_it_built_and_a_substituter_lacks() {
    let Some(nix) = nix::all().first() else { return };
    let machine = Machine::new(nix);
    let (ours, cache, upstream, sink) =
        (key(&machine, "ours-1"), machine.path("cache"), machine.path("upstream"), machine.path("sink"));
    let signing = ["--signing-key-file", ours.secret.to_str().unwrap()];
    let first = machine.store("first");
    let everything = first.build(&["everything"]);
    first.save(&cache, KEY, &signing);
    // Upstream has the first packages.
    push(&first, &file(&upstream), Some(&ours), &everything);

    let second = machine.store("second");
    let unknown = failing(push_command(&second, &file(&sink), Some(&ours), &[]));
    assert_eq!(notes(&unknown), ["push-unknown"]);
    second.restore(&cache, KEY, &["--trusted-public-keys", &ours.public]);
    let nothing = push(&second, &file(&sink), Some(&ours), &[]);
    assert_eq!((&nothing["paths-considered"], sink.exists()), (&0.into(), false), "{nothing}");
    let built = second.build(&["onTop"]);
    let mut command = push_command(&second, &file(&sink), Some(&ours), &[]);
    let config = format!("{}\nsubstituters = {}\n", "experimental-features = nix-command", file(&upstream));
    command.env("NIX_CONFIG", config);
    let outcome = Run::of(command).json();
    // `another` and `onTop` are new. What they refer to was restored, and is upstream.
    assert_eq!(outcome["sinks"][0]["paths-pushed"], 2, "{outcome}");
    assert!(outcome["paths-upstream"].as_u64().unwrap() > 0, "{outcome}");
    assert!(files(&sink).iter().any(|name| built[0].contains(name.trim_end_matches(".narinfo"))));
    // Without that substituter, a sink gets everything that is referred to.
    let whole = push(&second, &file(&machine.path("whole")), Some(&ours), &[]);
    assert_eq!(whole["sinks"][0]["paths-pushed"], outcome["paths-considered"]);
    let reader = machine.store("reader");
    fetch(&reader, &file(&machine.path("whole")), &ours.public, &built[0]).unwrap();
}

#[test]
fn what_nothing_vouches_for_is_neither_signed_nor_pushed() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, cache, sink) = (key(&machine, "ours-1"), machine.path("cache"), machine.path("sink"));
    let first = machine.store("first");
    let built = first.build(&["everything"]);
    first.save(&cache, KEY, &[]);
    let second = machine.store("second");
    second.restore(&cache, KEY, &[]);
    let on_top = second.build(&["onTop"]);
    for (key, paths) in [(Some(&ours), &built[..]), (None, &built), (Some(&ours), &on_top), (None, &[])] {
        let outcome = failing(push_command(&second, &file(&sink), key, paths));
        assert!(notes(&outcome).contains(&"not-verified"), "{outcome}");
        assert!(!sink.exists(), "{:?}", files(&sink));
    }
    // What was built from nothing that was restored can be vouched for.
    let own = second.build(&["one"]);
    assert_eq!(push(&second, &file(&sink), Some(&ours), &own)["sinks"][0]["paths-pushed"], 1);
}

#[test]
fn a_damaged_path_is_left_out_with_its_referrers_and_the_rest_is_pushed() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, sink, store) = (key(&machine, "ours-1"), machine.path("sink"), machine.store("first"));
    let (one, on_top) = (store.build(&["one"]), store.build(&["onTop"]));
    let another = store.nix_store(&["--query", "--references", &on_top[0]]);
    let damaged = store.root.join(another.trim().trim_start_matches('/'));
    flip_byte(&damaged, 3);
    let outcome = failing(push_command(&store, &file(&sink), Some(&ours), &[&one[..], &on_top].concat()));
    assert_eq!(notes(&outcome), ["push-incomplete"]);
    assert_eq!(outcome["sinks"][0]["paths-missing"], 2, "{outcome}");
    let name = |path: &str| format!("{}.narinfo", &path.trim().rsplit('/').next().unwrap()[..32]);
    let there = files(&sink);
    assert!(there.contains(&name(&one[0])) && !there.contains(&name(&on_top[0])) && !there.contains(&name(&another)));
}

#[test]
fn a_folder_that_takes_nothing_is_a_warning_with_a_remedy() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, store) = (key(&machine, "ours-1"), machine.store("first"));
    let built = store.build(&["one"]);
    fs::write(machine.path("file"), "").unwrap();
    let outcome = failing(push_command(&store, &file(&machine.path("file/cache")), Some(&ours), &built));
    assert_eq!(notes(&outcome), ["push-refused"], "{outcome}");
    // A cache for another store directory.
    fs::create_dir(machine.path("guix")).unwrap();
    fs::write(machine.path("guix/nix-cache-info"), "StoreDir: /gnu/store\n").unwrap();
    let outcome = failing(push_command(&store, &file(&machine.path("guix")), Some(&ours), &built));
    assert!(outcome["notes"][0]["message"].as_str().unwrap().contains("/gnu/store"), "{outcome}");
    // A full disk.
    let small = machine.path("small");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&small).status().unwrap();
    if mounted.success() {
        let everything = store.build(&["everything"]);
        let outcome = failing(push_command(&store, &file(&small), Some(&ours), &everything));
        let left = files(&small);
        assert!(Command::new("umount").arg(&small).status().unwrap().success());
        assert_eq!(notes(&outcome), ["push-refused"], "{outcome}");
        assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
    }
}

#[test]
fn wrong_arguments_are_named() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let store = machine.store("first");
    let absent = format!("/nix/store/{}-absent", "0".repeat(32));
    for (to, path, says) in [
        ("file://cache", None, "not absolute"),
        ("https://u:hunter2@example.org", None, "NIX_CACHE_PUSH_LOGIN"),
        ("file:///tmp/cache", Some(absent.as_str()), "not valid in this store"),
        ("file:///tmp/cache", Some("result-of-nothing"), "nor a link to one"),
    ] {
        let paths: Vec<String> = path.map(str::to_owned).into_iter().collect();
        let run = Run::of(push_command(&store, to, None, &paths));
        assert_eq!(run.code, Some(2), "{}", run.log);
        assert!(run.log.contains(says) && !run.log.contains("hunter2"), "{}", run.log);
    }
    let run = Run::of(machine.nix_cache(&["push"]));
    assert!(run.code == Some(2) && run.log.contains("--to file:///srv/cache"), "{}", run.log);
}
