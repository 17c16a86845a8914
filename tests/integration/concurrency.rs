//! Several at once: saves, restores, builds and garbage collections.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::cache::{assert_whole, entries};
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::{KEY, Run};
use nix_cache::store::path_lock;

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

fn finish(child: Child) -> String {
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the program writes UTF-8")
}

#[test]
fn of_two_saves_at_once_both_win() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let stores = [machine.store("first"), machine.store("second")];
    stores[0].build(&["everything"]);
    stores[1].build(&["everything", "salt=second"]);
    let mut raced = 0;
    for round in 0..3 {
        let cache = machine.path(&format!("cache-{round}"));
        let saves = stores.each_ref().map(|store| start(store.verb("save", &cache, KEY, &[])));
        let outcomes = saves.map(|save| serde_json::from_str::<serde_json::Value>(&finish(save)).unwrap());
        let generations: Vec<_> = outcomes.iter().filter_map(|one| one["saved"]["generation"].as_u64()).collect();
        assert!(generations == [1, 2] || generations == [2, 1], "{outcomes:?}");
        raced += usize::from(outcomes.iter().all(|outcome| outcome["reason"] == "new-key"));
        let snapshots = assert_whole(&cache);
        assert_eq!(snapshots.len(), 2);
        let newest = &snapshots[1].1;
        let named: std::collections::BTreeSet<_> = newest.paths.keys().map(|key| key.0.clone()).collect();
        let all: std::collections::BTreeSet<_> =
            stores.iter().flat_map(super::support::machine::TestStore::valid).collect();
        assert_eq!(named, all, "the newest generation has what both had");
        if round == 0 {
            let third = machine.store("third");
            third.restore(&cache, KEY, &[]);
            assert_eq!(third.valid(), all);
            third.assert_verifies();
        }
    }
    eprintln!("{raced} of 3 pairs of saves met");
}

#[test]
fn two_restores_into_one_store_come_one_after_the_other() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, first) = (machine.path("cache"), machine.store("first"));
        first.build(&["everything"]);
        first.save(&cache, KEY, &[]);
        for round in 0..3 {
            let store = machine.store(&format!("store-{round}"));
            let restores = [(); 2].map(|()| start(store.verb("restore", &cache, KEY, &[])));
            let outcomes = restores.map(|one| serde_json::from_str::<serde_json::Value>(&finish(one)).unwrap());
            let paths: u64 = outcomes.iter().map(|outcome| outcome["paths-restored"].as_u64().unwrap()).sum();
            assert_eq!(paths, first.valid().len() as u64, "{outcomes:?}");
            assert_eq!(store.valid(), first.valid());
            store.assert_tidy();
            store.assert_verifies();
        }
    }
}

#[test]
fn a_save_during_garbage_collections_stores_nothing_wrong() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let store = machine.store("store");
        let kept = store.build(&["everything"]);
        for round in 0..4 {
            let cache = machine.path(&format!("cache-{round}"));
            // Garbage: what was built here, and now and then all the rest.
            store.build_command(&["onTop", &format!("salt={round}")]).arg("--no-out-link").output().unwrap();
            let save = start(store.verb("save", &cache, KEY, &[]));
            let collect = || {
                start({
                    let mut command = store.command("nix-store");
                    command.arg("--gc");
                    command
                })
            };
            finish(collect());
            finish(collect());
            finish(save);
            let snapshots = assert_whole(&cache);
            assert!(snapshots[0].1.paths.keys().any(|key| kept[0].ends_with(key.0.as_str())));
            let second = machine.store(&format!("second-{round}"));
            let outcome = second.restore(&cache, KEY, &[]);
            assert_eq!((&outcome["hit"], &outcome["paths-lost"]), (&"exact".into(), &0.into()), "{outcome}");
            second.assert_sound();
            second.assert_verifies();
        }
        store.assert_verifies();
    }
}

#[test]
fn a_restore_during_garbage_collections_leaves_a_sound_store() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, first) = (machine.path("cache"), machine.store("first"));
        first.build(&["everything"]);
        first.save(&cache, KEY, &[]);
        for round in 0..3 {
            let store = machine.store(&format!("store-{round}"));
            let restore = start(store.verb("restore", &cache, KEY, &[]));
            for _ in 0..4 {
                store.nix_store(&["--gc"]);
            }
            finish(restore);
            store.assert_sound();
            store.assert_tidy();
            store.assert_verifies();
        }
    }
}

#[test]
fn a_restore_during_a_build_disturbs_neither() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, first) = (machine.path("cache"), machine.store("first"));
        first.build(&["everything"]);
        first.save(&cache, KEY, &[]);
        for round in 0..3 {
            let store = machine.store(&format!("store-{round}"));
            let mut build = store.build_command(&["everything"]);
            build.arg("--out-link").arg(store.root.join("result"));
            let build = start(build);
            let mut restores = Vec::new();
            for _ in 0..3 {
                restores.push(Run::of(store.verb("restore", &cache, KEY, &[])));
            }
            finish(build);
            for restore in &restores {
                assert_eq!(restore.code, Some(0), "{restore:?}");
            }
            assert_eq!(store.builds(&["everything"]), 0);
            store.assert_sound();
            store.assert_tidy();
            store.assert_verifies();
        }
    }
}

#[test]
fn saves_of_one_store_at_once_agree() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["everything"]);
    let saves = [(); 3].map(|()| start(store.verb("save", &cache, KEY, &[])));
    for save in saves {
        finish(save);
    }
    assert_whole(&cache);
    assert_eq!(entries(&cache, "layer").len(), 1, "the same paths are the same layer");
    let second = machine.store("second");
    second.restore(&cache, KEY, &[]);
    assert_eq!(second.valid(), store.valid());
}

#[test]
fn nix_and_we_keep_each_other_from_a_path() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let store = machine.store("store");
        let place = machine.path("some-path");
        let lock = path_lock(&place).unwrap().expect("nobody holds it");
        assert!(path_lock(&place).unwrap().is_none(), "it is taken");
        drop(lock);
        assert!(!machine.path("some-path.lock").exists());
        // What was deleted by its last holder is told by its one byte.
        fs::write(machine.path("stale.lock"), "").unwrap();
        assert!(path_lock(&machine.path("stale")).unwrap().is_some());

        let slow = store.dirs().real_store();
        let mut build = store.build_command(&["slow"]);
        build.arg("--no-out-link");
        let build = start(build);
        let name = loop {
            let taken = fs::read_dir(&slow).unwrap().find_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                name.strip_suffix("-slow.lock").map(|hash| format!("{hash}-slow"))
            });
            if let Some(name) = taken {
                break name;
            }
            std::thread::yield_now();
        };
        // Nix makes the file first and locks it then.
        let is_held = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            path_lock(&slow.join(&name)).unwrap().is_none()
        });
        assert!(is_held, "the build holds the lock on its output");
        // A restore registers paths without such locks only if it gets this one, which Nix holds as long as it uses the database.
        let database = fs::File::open(store.dirs().state_dir().join("db/big-lock")).unwrap();
        let alone = || rustix::fs::flock(&database, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        assert!(!alone(), "the build has the database open");
        finish(build);
        assert!(alone(), "nobody has it open");
        drop(database);
        assert!(path_lock(&slow.join(&name)).unwrap().is_some());
    }
}
