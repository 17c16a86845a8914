//! Forged snapshots: nothing is registered that contradicts what can be computed, in either mode.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix_cache::layer::hash_of;
use nix_cache::snapshot::{PathKey, Record, Snapshot, decode, encode};
use nix_cache::store::{NarHash, PathInfo, StorePath};
use rusqlite::Connection;
use serde_json::Value;

use crate::support::cache::{copy, entries};
use crate::support::machine::{Machine, TestStore, system};
use crate::support::nix::{self, Nix};
use crate::support::program::{KEY, notes};
use crate::support::rows::rows;

/// A machine with a cache of everything that an attacker may write to.
struct Attack {
    machine: Machine,
    cache: PathBuf,
    saved: TestStore,
}

impl Attack {
    fn new(nix: &Nix) -> Self {
        let machine = Machine::new(nix);
        let (cache, saved) = (machine.path("cache"), machine.store("saved"));
        saved.build(&["everything"]);
        saved.save(&cache, KEY, &[]);
        Self { machine, cache, saved }
    }

    /// A copy of the cache with a snapshot that was changed.
    fn forged(&self, name: &str, change: impl FnOnce(&mut Snapshot)) -> PathBuf {
        let cache = self.machine.path(name);
        copy(&self.cache, &cache);
        forge(&cache, change);
        cache
    }

    /// Restores from `cache` into a new store, by mounting if that is `mode` and this kernel can.
    fn restored(&self, cache: &Path, mode: &str) -> (TestStore, Value) {
        let name = format!("{}-{mode}", cache.file_name().unwrap().to_str().unwrap());
        let store = self.machine.store(&name);
        let outcome = store.restore(cache, KEY, &["--restore-mode", mode]);
        (store, outcome)
    }

    /// The one path of the cache with this name, and what its record says.
    fn info(&self, name: &str) -> PathInfo {
        let snapshot = read(&self.cache);
        let mut found = snapshot.paths.values().filter(|record| record.info.path.name() == name);
        found.next().unwrap_or_else(|| panic!("{name} was built")).info.clone()
    }
}

fn read(cache: &Path) -> Snapshot {
    decode(&fs::read(&entries(cache, "snapshot")[0]).unwrap()).unwrap()
}

/// Changes the snapshot of a cache as someone can who may write to it and has no key.
pub(crate) fn forge(cache: &Path, change: impl FnOnce(&mut Snapshot)) {
    let mut snapshot = read(cache);
    change(&mut snapshot);
    fs::write(&entries(cache, "snapshot")[0], encode(&snapshot).unwrap()).unwrap();
}

/// Changes the record of one path, wherever the snapshot names it.
pub(crate) fn change(snapshot: &mut Snapshot, path: &StorePath, change: impl FnOnce(&mut PathInfo)) {
    let old: PathKey = snapshot.paths.keys().find(|key| key.0 == *path).unwrap().clone();
    let mut record: Record = snapshot.paths.remove(&old).unwrap();
    change(&mut record.info);
    let new = (record.info.path.clone(), record.info.nar_hash);
    snapshot.paths.insert(new.clone(), record);
    for layer in snapshot.layers.values_mut() {
        if layer.paths.remove(&old) {
            layer.paths.insert(new.clone());
        }
    }
}

/// Both modes; where nothing can be mounted, the program unpacks in either.
const MODES: [&str; 2] = ["unpack", "mount"];

fn full(path: &StorePath) -> String {
    path.full("/nix/store")
}

#[test]
fn outputs_come_from_the_derivation_and_not_from_the_snapshot() {
    for nix in nix::all() {
        let attack = Attack::new(nix);
        let honest = attack.info("package-1").path;
        let cache = attack.forged("outputs", |snapshot| {
            // A derivation that is said to have made what it did not.
            change(snapshot, &honest, |info| info.deriver = Some(attack.info("everything.drv").path));
        });
        for mode in MODES {
            let (store, outcome) = attack.restored(&cache, mode);
            assert_eq!((&outcome["hit"], outcome["paths-lost"].as_u64()), (&"exact".into(), Some(0)), "{outcome}");
            assert_eq!(rows(&store).outputs, rows(&attack.saved).outputs, "{mode}");
            assert_eq!(rows(&store).paths[&full(&honest)].deriver, None, "{mode}");
            let drv = full(&attack.info("package-1.drv").path);
            assert!(store.nix_store(&["--query", "--outputs", &drv]).contains(&full(&honest)), "{mode}");
            assert_eq!(store.build(&["everything"]), attack.saved.build(&["everything"]));
            assert!(rows(&store).paths.values().all(|row| row.ultimate.is_none()), "nothing was built here");
            detach(&store, mode);
        }
    }
}

/// Many derivations of a mounted layer are read from its image and not through the mount.
#[test]
fn of_many_derivations_those_that_are_not_what_is_recorded_are_left_out() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, saved) = (machine.path("cache"), machine.store("saved"));
        let mut instantiate = saved.command("nix-instantiate");
        instantiate.arg(machine.path("project")).args(["--argstr", "system", &system(), "--argstr", "count", "400"]);
        let output = instantiate.args(["-A", "everything", "--add-root"]).arg(saved.root.join("drv")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        saved.save(&cache, KEY, &[]);
        let derivations: Vec<PathInfo> = read(&cache).paths.into_values().map(|record| record.info).collect();
        assert!(derivations.iter().filter(|info| info.path.is_derivation()).count() > 400);
        let victim = derivations.iter().find(|info| info.path.name() == "package-300.drv").unwrap();
        let attack = Attack { machine, cache, saved };
        for mode in MODES {
            let (store, outcome) = attack.restored(&attack.cache, mode);
            assert_eq!((&outcome["hit"], &outcome["mode"]), (&"exact".into(), &mode.into()), "{outcome}");
            assert_eq!(rows(&store).outputs, rows(&attack.saved).outputs, "{mode}");
            store.assert_sound();
            detach(&store, mode);
        }
        let changes: [(&str, Change); 2] = [
            ("hash", Box::new(|info| info.nar_hash = NarHash([9; 32]))),
            ("size", Box::new(|info| info.nar_size -= 8)),
        ];
        for (name, what) in changes {
            let cache = attack.forged(name, |snapshot| change(snapshot, &victim.path, &what));
            for mode in MODES {
                let (store, outcome) = attack.restored(&cache, mode);
                // All that needs it: the derivation of everything.
                assert_eq!(outcome["paths-lost"], 2, "{name}, {mode}: {outcome}");
                assert!(!store.valid().contains(&victim.path), "{name}, {mode}");
                store.assert_sound();
                detach(&store, mode);
            }
        }
    }
}

/// Something done to the record of a path.
type Change = Box<dyn Fn(&mut PathInfo)>;

#[test]
fn records_that_cannot_be_true_are_left_out_and_all_others_restored() {
    let Some(nix) = nix::all().last() else { return };
    let attack = Attack::new(nix);
    let victim = attack.info("package-11").path;
    let other = attack.info("package-10").nar_hash;
    let fixed = attack.info("fixed");
    let changes: Vec<(&str, Change)> = vec![
        ("zero-hash", Box::new(|info| info.nar_hash = NarHash([0; 32]))),
        ("zero-size", Box::new(|info| info.nar_size = 0)),
        ("huge-size", Box::new(|info| info.nar_size = u64::MAX)),
        ("signature", Box::new(|info| info.signatures.extend(["::add-path::x:AAAA".into()]))),
        ("ca-of-other-bytes", {
            let base32 = |hash: NarHash| format!("fixed:r:sha256:{}", nix_derivation::nixbase32::encode(&hash.0));
            Box::new(move |info| info.ca = Some(base32(other)))
        }),
        ("ca-of-these-bytes", {
            let base32 = |hash: NarHash| format!("fixed:r:sha256:{}", nix_derivation::nixbase32::encode(&hash.0));
            Box::new(move |info| info.ca = Some(base32(info.nar_hash)))
        }),
        ("ca-of-another-path", Box::new(move |info| info.ca = fixed.ca.clone())),
        ("ca-malformed", Box::new(|info| info.ca = Some("fixed:r:sha256:x y".into()))),
    ];
    for (name, what) in changes {
        let cache = attack.forged(name, |snapshot| change(snapshot, &victim, &what));
        for mode in MODES {
            let (store, outcome) = attack.restored(&cache, mode);
            // `everything` refers to the path, and its derivation has another output.
            assert_eq!(outcome["paths-lost"], 2, "{name}, {mode}: {outcome}");
            assert_eq!(notes(&outcome), ["records-faulty"], "{name}, {mode}");
            let message = outcome["notes"][0]["message"].as_str().unwrap();
            assert!(message.contains(" 1 record ") && message.contains(victim.as_str()), "{message}");
            assert!(!store.valid().contains(&victim));
            store.assert_sound();
            detach(&store, mode);
        }
    }
    // Two outputs of one derivation that refer to each other are not the end of the restore.
    let circle = attack.forged("circle", |snapshot| {
        let doc = attack.info("package-11-doc").path;
        change(snapshot, &victim, |info| info.references.extend([doc.clone()]));
        change(snapshot, &doc, |info| info.references.extend([victim.clone()]));
    });
    let (store, outcome) = attack.restored(&circle, "unpack");
    assert_eq!((&outcome["hit"], &outcome["paths-lost"]), (&"exact".into(), &3.into()), "{outcome}");
    store.assert_sound();
}

/// Puts other bytes into a path of the attacker's own store, with a database that agrees.
fn tamper(store: &TestStore, path: &StorePath, text: &str) {
    let real = store.dirs().real(path);
    let mode = fs::metadata(&real).unwrap().permissions();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&real, text).unwrap();
    fs::set_permissions(&real, mode).unwrap();
    let hash = hash_of(&real).unwrap().to_database();
    let size = 112 + text.len().next_multiple_of(8);
    let database = Connection::open(store.dirs().db_path()).unwrap();
    let done = database
        .execute("update ValidPaths set hash = ?1, narSize = ?2 where path = ?3", (hash, size as i64, full(path)))
        .unwrap();
    assert_eq!(done, 1);
}

#[test]
fn bytes_that_do_not_make_their_path_are_not_registered() {
    for nix in nix::all() {
        let attack = Attack::new(nix);
        let evil = attack.machine.store("evil");
        evil.restore(&attack.cache, KEY, &[]);
        let victims = [attack.info("fixed").path, attack.info("text").path, attack.info("package-11.drv").path];
        for victim in &victims {
            tamper(&evil, victim, "what the attacker likes");
        }
        let cache = attack.machine.path("tampered");
        assert_eq!(evil.save(&cache, KEY, &[])["reason"], "new-key");
        // The content address may also be left out: a fixed output's is known to its derivation, that of a derivation follows.
        let bare = attack.machine.path("bare");
        copy(&cache, &bare);
        forge(&bare, |snapshot| {
            for victim in [&victims[0], &victims[2]] {
                change(snapshot, victim, |info| info.ca = None);
            }
        });
        for (cache, expected) in [(&cache, &victims[..]), (&bare, &[victims[0].clone(), victims[2].clone()][..])] {
            for mode in MODES {
                let (store, outcome) = attack.restored(cache, mode);
                assert_eq!(notes(&outcome), ["paths-rejected"], "{mode}: {outcome}");
                let valid = store.valid();
                assert!(expected.iter().all(|victim| !valid.contains(victim)), "{mode}: {outcome}");
                // What Nix has to make again, it makes as it should be.
                assert_eq!(store.build(&["everything"]), attack.saved.build(&["everything"]));
                store.assert_sound();
                detach(&store, mode);
            }
        }
    }
}

#[test]
fn a_size_that_the_database_does_not_know_is_found_out_by_the_save() {
    let Some(nix) = nix::all().last() else { return };
    let attack = Attack::new(nix);
    let sizes = |store: &TestStore| -> BTreeMap<String, Option<i64>> {
        rows(store).paths.into_iter().map(|(path, row)| (path, row.nar_size)).collect()
    };
    let before = sizes(&attack.saved);
    let database = Connection::open(attack.saved.dirs().db_path()).unwrap();
    database.execute("update ValidPaths set narSize = case when id % 2 then null else 0 end", ()).unwrap();
    let cache = attack.machine.path("sizes");
    attack.saved.save(&cache, KEY, &[]);
    for mode in MODES {
        let (store, outcome) = attack.restored(&cache, mode);
        assert_eq!((outcome["paths-lost"].as_u64(), notes(&outcome)), (Some(0), vec![]), "{outcome}");
        assert_eq!(sizes(&store), before, "{mode}");
        detach(&store, mode);
    }
}

/// Nothing stays mounted.
fn detach(store: &TestStore, mode: &str) {
    if mode == "mount" {
        let mut command = store.machine.nix_cache(&["detach"]);
        command.arg("--store-root").arg(&store.root);
        assert!(command.output().unwrap().status.success());
    }
}
