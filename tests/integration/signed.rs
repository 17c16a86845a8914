//! Signed snapshots: what is trusted, and that no save signs paths that it did not build or verify.

mod laundering;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::cache::{assert_whole, copy, entries};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{KEY, Run, notes};

/// A key that Nix made: the file with the secret one, and the public one as text.
pub(crate) struct Key {
    pub secret: PathBuf,
    pub public: String,
}

pub(crate) fn key(machine: &Machine, name: &str) -> Key {
    let nix = |words: &[&str], input: Option<&Path>| {
        let mut command: Command = machine.command("nix");
        command
            .args(words)
            .stdin(input.map_or_else(std::process::Stdio::null, |file| fs::File::open(file).unwrap().into()));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let secret = machine.path(&format!("{name}.secret"));
    fs::write(&secret, nix(&["key", "generate-secret", "--key-name", name], None)).unwrap();
    let public = nix(&["key", "convert-secret-to-public"], Some(&secret));
    Key { secret, public }
}

fn save(store: &TestStore, cache: &Path, key: &Key) -> Value {
    store.save(cache, KEY, &["--signing-key-file", key.secret.to_str().unwrap()])
}

fn restore(store: &TestStore, cache: &Path, trusted: &[&Key]) -> Value {
    let keys = trusted.iter().map(|key| &*key.public).collect::<Vec<_>>().join("\n");
    let arguments = ["--trusted-public-keys", &keys];
    store.restore(cache, KEY, if trusted.is_empty() { &[] } else { &arguments })
}

#[test]
fn what_a_trusted_key_signed_is_restored_and_all_else_is_a_miss() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (ours, theirs) = (key(&machine, "ours-1"), key(&machine, "theirs-1"));
        let (cache, first) = (machine.path("cache"), machine.store("first"));
        first.build(&["everything"]);
        assert_eq!(save(&first, &cache, &ours)["reason"], "new-key");
        for (name, trusted, signed_by) in [
            ("own", &[&ours][..], Value::from("ours-1")),
            ("both", &[&theirs, &ours], "ours-1".into()),
            ("nobody", &[], Value::Null),
        ] {
            let store = machine.store(name);
            let outcome = restore(&store, &cache, trusted);
            assert_eq!((&outcome["hit"], &outcome["signed-by"]), (&"exact".into(), &signed_by), "{outcome}");
            assert_eq!((store.valid(), notes(&outcome)), (first.valid(), vec![]));
            store.assert_verifies();
        }
        let store = machine.store("other");
        let outcome = restore(&store, &cache, &[&theirs]);
        assert_eq!((&outcome["hit"], notes(&outcome)), (&"miss".into(), vec!["snapshot-untrusted"]));
        assert!(store.valid().is_empty());
    }
}

#[test]
fn an_entry_under_another_name_is_a_miss() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let ours = key(&machine, "ours-1");
    let (cache, first) = (machine.path("cache"), machine.store("first"));
    first.build(&["one"]);
    save(&first, &cache, &ours);
    let signed = entries(&cache, "snapshot").remove(0);
    for (case, name) in ["another-key#g1", &format!("{KEY}#g2")].into_iter().enumerate() {
        let copied = machine.path(&format!("cache-{case}"));
        copy(&cache, &copied);
        fs::remove_file(copied.join("snapshot").join(signed.file_name().unwrap())).unwrap();
        fs::copy(&signed, copied.join("snapshot").join(name)).unwrap();
        let store = machine.store(&format!("store-{case}"));
        let asked = name.split('#').next().unwrap();
        let outcome = store.restore(&copied, asked, &["--trusted-public-keys", &ours.public]);
        assert_eq!((&outcome["hit"], notes(&outcome)), (&"miss".into(), vec!["snapshot-untrusted"]), "{name}");
        assert_eq!(store.restore(&copied, asked, &[])["hit"], "exact", "without keys the name is all that counts");
    }
}

#[test]
fn a_save_builds_upon_nothing_that_it_does_not_trust() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (ours, theirs) = (key(&machine, "ours-1"), key(&machine, "theirs-1"));
        let (cache, stranger) = (machine.path("cache"), machine.store("stranger"));
        // More generations than a search goes back, and than a save would try: none of them is ours.
        for round in 0..6 {
            stranger.build(&["everything", &format!("salt=stranger-{round}")]);
            if round % 2 == 0 {
                save(&stranger, &cache, &theirs)
            } else {
                stranger.save(&cache, KEY, &[])
            };
        }
        let store = machine.store("ours");
        assert_eq!(restore(&store, &cache, &[&ours])["hit"], "miss");
        store.build(&["everything"]);
        let saved = save(&store, &cache, &ours);
        assert_eq!((&saved["reason"], &saved["saved"]["generation"]), (&"new-key".into(), &7.into()), "{saved}");
        let snapshots = assert_whole(&cache);
        let newest = &snapshots.iter().find(|(name, _)| *name == format!("{KEY}#g7")).unwrap().1;
        let named: std::collections::BTreeSet<_> = newest.paths.keys().map(|key| key.0.clone()).collect();
        assert_eq!(named, store.valid(), "nothing of the stranger's was signed");
        let second = machine.store("second");
        let outcome = restore(&second, &cache, &[&ours]);
        assert_eq!((&outcome["hit"], &outcome["signed-by"]), (&"exact".into(), &"ours-1".into()));
        assert_eq!(second.valid(), store.valid());
        // Nothing new by the same key, and the key of somebody else who is trusted.
        assert_eq!(save(&second, &cache, &ours)["reason"], "nothing-new");
    }
}

#[test]
fn where_signatures_are_required_an_empty_list_of_keys_is_a_miss() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let ours = key(&machine, "ours-1");
    let (cache, first) = (machine.path("cache"), machine.store("first"));
    first.build(&["one"]);
    save(&first, &cache, &ours);
    let required = |keys: &str| {
        let store = machine.store(&format!("store-{}", keys.len()));
        let outcome = store.restore(&cache, KEY, &["--require-signatures", "--trusted-public-keys", keys]);
        (store, outcome)
    };
    let (store, outcome) = required("");
    assert_eq!((&outcome["hit"], notes(&outcome)), (&"miss".into(), vec!["snapshot-untrusted"]), "{outcome}");
    assert!(outcome["notes"][0]["message"].as_str().unwrap().contains("require-signatures"), "{outcome}");
    assert!(store.valid().is_empty());
    store.build(&["another"]);
    let saved = store.save(&cache, KEY, &["--require-signatures"]);
    assert_eq!((&saved["reason"], notes(&saved)), (&"refused".into(), vec!["no-signing-key"]));
    let (_, outcome) = required(&ours.public);
    assert_eq!(outcome["hit"], "exact");
    assert_eq!(outcome["vouched"], "the signature of the snapshot by ours-1");
    let outcome = machine.store("trusting").restore(&cache, KEY, &[]);
    assert_eq!(outcome["vouched"], "only the access control of the cache");
}

#[test]
fn who_trusts_signed_snapshots_only_and_cannot_sign_saves_nothing() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let ours = key(&machine, "ours-1");
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["one"]);
    let saved = store.save(&cache, KEY, &["--trusted-public-keys", &ours.public]);
    assert_eq!((&saved["reason"], notes(&saved)), (&"refused".into(), vec!["no-signing-key"]));
    assert_eq!(saved["notes"][0]["severity"], "notice", "so it is in every job of a fork");
    assert!(entries(&cache, "snapshot").is_empty() && entries(&cache, "layer").is_empty());
}

#[test]
fn of_two_saves_that_meet_each_takes_in_only_whom_it_trusts() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, theirs) = (key(&machine, "ours-1"), key(&machine, "theirs-1"));
    let stores = [machine.store("first"), machine.store("second")];
    stores[0].build(&["everything"]);
    stores[1].build(&["everything", "salt=second"]);
    for round in 0..4 {
        let cache = machine.path(&format!("cache-{round}"));
        let signers = if round % 2 == 0 { [&ours, &ours] } else { [&ours, &theirs] };
        let saves = [0, 1].map(|at| {
            let file = signers[at].secret.to_str().unwrap().to_owned();
            let mut command = stores[at].verb("save", &cache, KEY, &["--signing-key-file", &file]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        });
        for save in saves {
            let output = save.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let snapshots = assert_whole(&cache);
        assert_eq!(snapshots.len(), 2, "each has a generation");
        for (at, store) in stores.iter().enumerate() {
            let fresh = machine.store(&format!("fresh-{round}-{at}"));
            assert_eq!(restore(&fresh, &cache, &[signers[at]])["hit"], "exact");
            let all = if round % 2 == 0 { &stores[0].valid() | &stores[1].valid() } else { store.valid() };
            assert_eq!(fresh.valid(), all, "round {round}, store {at}");
        }
    }
}

#[test]
fn inspect_shows_who_signed_and_asks_for_it_where_that_is_wanted() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (ours, theirs) = (key(&machine, "ours-1"), key(&machine, "theirs-1"));
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["one"]);
    save(&store, &cache, &ours);
    let inspect = |more: &[&str]| {
        let remote = format!("dir:{}", cache.display());
        let words = ["inspect", "--primary-key", KEY, "--remote", &remote];
        Run::of(machine.nix_cache(&[&words[..], more].concat()))
    };
    assert!(inspect(&["--trusted-public-keys", &ours.public]).out.contains("generation 1, signed by ours-1\n"));
    assert!(!inspect(&[]).out.contains("signed"));
    let refused = inspect(&["--trusted-public-keys", &theirs.public]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.log.contains("signed by ours-1, which `trusted-public-keys` does not name"), "{}", refused.log);
}

#[test]
fn keys_that_are_none_are_wrong_arguments_and_are_not_shown() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let ours = key(&machine, "ours-1");
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    let secret = fs::read_to_string(&ours.secret).unwrap();
    let broken = machine.path("broken");
    for text in ["", "\n", "no key", &secret[..40], &format!("{secret} {secret} {secret} {secret}")] {
        fs::write(&broken, text).unwrap();
        let run = Run::of(store.verb("save", &cache, KEY, &["--signing-key-file", broken.to_str().unwrap()]));
        assert_eq!(run.code, Some(2), "{text:?}: {}", run.log);
        assert!(!run.log.contains(&secret[10..30]) && run.log.contains("key"), "{}", run.log);
    }
    for text in [secret.trim(), "x", &ours.public[..20]] {
        let run = Run::of(store.verb("restore", &cache, KEY, &["--trusted-public-keys", text]));
        assert_eq!(run.code, Some(2), "{}", run.log);
        assert!(!run.log.contains(&secret[10..30]) && run.log.contains("public key"), "{}", run.log);
    }
    let run = Run::of(store.verb("save", &cache, KEY, &["--signing-key-file", "/nowhere/key"]));
    assert_eq!(run.code, Some(2));
    assert!(run.log.contains("/nowhere/key"), "{}", run.log);
    assert!(entries(&cache, "snapshot").is_empty());
}
