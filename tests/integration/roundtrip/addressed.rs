//! Content-addressed derivations (the experimental feature `ca-derivations` of Nix): what they made is known after a restore.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::saved;
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::{KEY, Run, notes};

const CONFIG: &str = "experimental-features = nix-command flakes ca-derivations
substituters =
build-users-group =
sandbox-paths =
";

fn with_feature(mut command: Command) -> Command {
    command.env("NIX_CONFIG", CONFIG);
    command
}

/// What a build prints, and how many derivations it had to build.
fn build(store: &TestStore) -> (String, usize) {
    build_one(store, "usesAddressed")
}

fn build_one(store: &TestStore, name: &str) -> (String, usize) {
    let mut command = with_feature(store.build_command(&[name]));
    let output = command.arg("--no-out-link").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let count = said.lines().filter(|line| line.starts_with("building '")).count();
    (String::from_utf8(output.stdout).unwrap(), count)
}

#[test]
fn a_content_addressed_derivation_is_not_built_again_after_a_restore() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        // The snapshot of a store without the feature gets them from a later save.
        let first = saved(&machine, &cache);
        let (made, built) = build(&first);
        assert_eq!(built, 3);
        let outcome = first.save(&cache, KEY, &[]);
        assert_eq!((&outcome["reason"], notes(&outcome)), (&"new-paths".into(), vec![]), "{outcome}");
        for mode in ["unpack", "mount"] {
            let store = machine.store(mode);
            assert!(with_feature(store.command("nix-store")).arg("--init").status().unwrap().success());
            let outcome = store.restore(&cache, KEY, &["--restore-mode", mode]);
            assert_eq!((outcome["paths-lost"].as_u64(), notes(&outcome)), (Some(0), vec![]), "{outcome}");
            assert_eq!(build(&store), (made.clone(), 0), "with Nix {}, {mode}", nix.version);
            store.assert_sound();
            assert_eq!(store.save(&cache, KEY, &[])["reason"], "nothing-new");
            let mut detach = machine.nix_cache(&["detach"]);
            detach.arg("--store-root").arg(&store.root);
            let run = Run::of(detach);
            assert_eq!(run.code, Some(0), "{run:?}");
        }
        // Where Nix has no place for them, the paths are restored all the same.
        let plain = machine.store("plain");
        let outcome = plain.restore(&cache, KEY, &[]);
        assert_eq!((outcome["paths-lost"].as_u64(), notes(&outcome)), (Some(0), vec![]), "{outcome}");
    }
}

/// How many realisations the database of a store has.
fn realisations(store: &TestStore) -> usize {
    nix_cache::store::read_realisations(&store.dirs()).unwrap().len()
}

#[test]
fn a_detach_that_is_killed_leaves_the_realisations_for_the_next() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let (cache, first) = (machine.path("cache"), machine.store("first"));
        build_one(&first, "onAddressed");
        first.save(&cache, KEY, &[]);
        let mut interrupted = 0;
        for round in 0..10 {
            let store = machine.store(&format!("round-{round}"));
            assert!(with_feature(store.command("nix-store")).arg("--init").status().unwrap().success());
            store.restore(&cache, KEY, &["--restore-mode", "mount"]);
            // It stays, and what it refers to with it.
            assert_eq!(build(&store).1, 1);
            let before = realisations(&store);
            assert!(before > 0);
            let mut detach = machine.nix_cache(&["detach"]);
            detach.arg("--store-root").arg(&store.root).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = detach.spawn().unwrap();
            // Killed as soon as they are taken out, it seldom has put them back.
            while child.try_wait().unwrap().is_none() && realisations(&store) == before {
                std::thread::sleep(Duration::from_micros(200));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            interrupted += usize::from(realisations(&store) < before);
            let mut detach = machine.nix_cache(&["detach"]);
            detach.arg("--store-root").arg(&store.root);
            assert_eq!(Run::of(detach).code, Some(0));
            assert_eq!((realisations(&store), build(&store).1), (before, 0), "with Nix {}", nix.version);
            store.assert_sound();
            if interrupted > 1 {
                break;
            }
        }
        println!("{interrupted} detaches of Nix {} were killed in the middle", nix.version);
    }
}
