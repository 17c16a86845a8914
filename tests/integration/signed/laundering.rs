//! Unsigned paths do not get a signature indirectly.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Key, key, restore, save};
use crate::support::cache::{assert_whole, entries};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix::{self, Nix};
use crate::support::program::{KEY, Run, notes};

/// A cache that a stranger filled, a store that took it over without asking, and a key.
struct Scene {
    machine: Machine,
    cache: PathBuf,
    store: TestStore,
    ours: Key,
}

impl Scene {
    fn new(nix: &Nix, mode: &str) -> Self {
        let machine = Machine::new(nix);
        let ours = key(&machine, "ours-1");
        let (cache, stranger, store) = (machine.path("cache"), machine.store("stranger"), machine.store("store"));
        stranger.build(&["everything"]);
        stranger.save(&cache, KEY, &[]);
        assert_eq!(store.restore(&cache, KEY, &["--restore-mode", mode])["hit"], "exact");
        Self { machine, cache, store, ours }
    }

    /// Saves with the key into a cache of its own.
    fn signed(&self, name: &str) -> (PathBuf, Value) {
        let cache = self.machine.path(name);
        let outcome = save(&self.store, &cache, &self.ours);
        (cache, outcome)
    }

    /// The file that remembers what was taken over.
    fn ledger(&self) -> PathBuf {
        self.store.dirs().own_dir().join("unverified.json")
    }
}

/// Names of the paths in the only snapshot of a cache; none where there is no snapshot.
fn saved_names(cache: &Path) -> BTreeSet<String> {
    if entries(cache, "snapshot").is_empty() {
        return BTreeSet::new();
    }
    let snapshots = assert_whole(cache);
    snapshots.iter().flat_map(|(_, snapshot)| snapshot.paths.keys().map(|key| key.0.name().to_owned())).collect()
}

fn assert_clean(cache: &Path, outcome: &Value, case: &str) {
    assert_eq!(notes(outcome), ["not-verified"], "{case}: {outcome}");
    let names = saved_names(cache);
    for name in ["package-1", "package-1-doc", "everything", "another", "on-top", "copied"] {
        assert!(!names.contains(name), "{case}: {name} was signed");
    }
}

#[test]
fn what_came_without_a_signature_and_what_was_made_of_it_is_not_signed() {
    for (nix, mode) in nix::all().iter().zip(["unpack", "mount"]) {
        let scene = Scene::new(nix, mode);
        scene.store.build(&["onTop"]);
        scene.store.build(&["copied"]);
        let (cache, outcome) = scene.signed("signed");
        assert_clean(&cache, &outcome, mode);
        // Derivations and sources were hashed, and make their own names.
        let names = saved_names(&cache);
        assert!(names.contains("everything.drv") && names.contains("on-top.drv"), "{names:?}");
        // A second restore, with keys now, does not wash what the first one brought.
        restore(&scene.store, &scene.cache, &[&scene.ours]);
        let (cache, outcome) = scene.signed("signed-after-a-restore");
        assert_clean(&cache, &outcome, "restored with keys");
        // Nor does a save without the key, nor a lost record of the restore.
        scene.store.save(&scene.machine.path("unsigned"), KEY, &[]);
        let (cache, outcome) = scene.signed("signed-after-a-save");
        assert_clean(&cache, &outcome, "saved without the key");
        fs::remove_file(scene.store.dirs().own_dir().join("restore.json")).unwrap();
        let (cache, outcome) = scene.signed("signed-without-a-record");
        assert_clean(&cache, &outcome, "no record");
        let mut detach = scene.machine.nix_cache(&["detach"]);
        detach.arg("--store-root").arg(&scene.store.root);
        assert_eq!(Run::of(detach).code, Some(0));
        let (cache, outcome) = scene.signed("signed-after-a-detach");
        assert_clean(&cache, &outcome, "detached");
    }
}

#[test]
fn the_remedy_that_the_note_names_is_one() {
    let Some(nix) = nix::all().last() else { return };
    let scene = Scene::new(nix, "unpack");
    let (_, outcome) = scene.signed("signed");
    let message = outcome["notes"][0]["message"].as_str().unwrap();
    assert_eq!(Path::new(message.split("delete ").nth(1).unwrap().trim_end_matches('.')), scene.ledger());
    // One that makes no sense may have named anything.
    let good = fs::read(scene.ledger()).unwrap();
    fs::write(scene.ledger(), &good[..good.len() / 2]).unwrap();
    let (cache, outcome) = scene.signed("broken");
    assert_eq!((&outcome["reason"], notes(&outcome)), (&"failed".into(), vec!["not-verified"]), "{outcome}");
    assert!(entries(&cache, "snapshot").is_empty());
    fs::remove_file(scene.ledger()).unwrap();
    let (cache, outcome) = scene.signed("all");
    assert_eq!((&outcome["reason"], notes(&outcome)), (&"new-key".into(), vec![]), "{outcome}");
    let second = scene.machine.store("second");
    assert_eq!(restore(&second, &cache, &[&scene.ours])["hit"], "exact");
    assert_eq!(second.valid(), scene.store.valid());
}

#[test]
fn what_is_made_again_here_is_signed() {
    for nix in nix::all() {
        let scene = Scene::new(nix, "unpack");
        let _ = fs::remove_file(scene.store.root.join("result"));
        // New files may get the inode numbers of those that are removed here.
        scene.store.nix_store(&["--gc"]);
        assert!(scene.store.valid().is_empty());
        // Nix knows the second of a registration: what is built within that of the first build could be the restored path.
        let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let first = second();
        while second() == first {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        scene.store.build(&["everything"]);
        let (cache, outcome) = scene.signed("signed");
        assert_eq!((&outcome["reason"], notes(&outcome)), (&"new-key".into(), vec![]), "{outcome}");
        assert!(saved_names(&cache).contains("everything"));
    }
}

#[test]
fn a_path_that_nix_trusts_by_its_signature_is_signed_if_its_bytes_are_those() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (ours, builder) = (key(&machine, "ours-1"), key(&machine, "builder-1"));
        let (stranger, cache) = (machine.store("stranger"), machine.path("cache"));
        stranger.build(&["everything"]);
        stranger.nix(&["store", "sign", "--all", "--key-file", builder.secret.to_str().unwrap()]);
        stranger.save(&cache, KEY, &[]);
        let trusting = |command: &mut std::process::Command| {
            let config =
                "experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nsandbox-paths =\n";
            let keys = format!("{config}trusted-public-keys = {}\n", builder.public.trim());
            command.env("NIX_CONFIG", keys);
        };
        for damaged in [false, true] {
            let store = machine.store(if damaged { "damaged" } else { "whole" });
            let mut command = store.verb("restore", &cache, KEY, &[]);
            trusting(&mut command);
            let outcome = Run::of(command).json();
            let vouched = outcome["vouched"].as_str().unwrap();
            let all = store.valid().len();
            assert!(vouched.contains(&format!("for {all} of {all} paths a signature")), "{vouched}");
            if damaged {
                let path = stranger.valid().into_iter().find(|path| path.name() == "everything").unwrap();
                crate::support::check::flip_byte(&store.dirs().real(&path), 3);
            }
            let signed = machine.path(&format!("signed-{damaged}"));
            let mut command = store.verb("save", &signed, KEY, &["--signing-key-file", ours.secret.to_str().unwrap()]);
            trusting(&mut command);
            let outcome = Run::of(command).json();
            let names = saved_names(&signed);
            assert!(names.contains("package-1"), "{outcome}");
            assert_eq!(names.contains("everything"), !damaged, "{outcome}");
            assert_eq!(notes(&outcome).is_empty(), !damaged, "{outcome}");
        }
    }
}

#[test]
fn what_another_key_signed_is_not_signed_by_one_that_does_not_trust_it() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, theirs) = (key(&machine, "ours-1"), key(&machine, "theirs-1"));
    let (cache, stranger, store) = (machine.path("cache"), machine.store("stranger"), machine.store("store"));
    stranger.build(&["everything"]);
    save(&stranger, &cache, &theirs);
    assert_eq!(restore(&store, &cache, &[&theirs])["signed-by"], "theirs-1");
    let alone = machine.path("alone");
    assert_clean(&alone, &save(&store, &alone, &ours), "another key");
    let both = machine.path("both");
    let secret = ours.secret.to_str().unwrap();
    let words = ["--signing-key-file", secret, "--trusted-public-keys", &theirs.public];
    let outcome = store.save(&both, KEY, &words);
    assert_eq!((&outcome["reason"], notes(&outcome)), (&"new-key".into(), vec![]), "{outcome}");
    assert!(saved_names(&both).contains("everything"));
}
