//! Mounting restores and detaches that are killed, at any moment: the store stays sound, and the next run works.

use super::stream::STREAM;
use super::{Bench, KEY, MOUNT, assert_plain, mounts_of, nixes, run_detach};
use crate::kill::{assert_part_of, duration, kill_somewhere, kills};
use crate::support::random::Random;
use crate::support::rows::rows;

fn bench() -> Option<Bench> {
    let bench = nixes().last().map(Bench::new)?;
    bench.saved.build(&["everything", "count=60"]);
    bench.save();
    Some(bench)
}

#[test]
fn a_mounting_restore_that_is_killed_leaves_a_sound_store() {
    let Some(bench) = bench() else { return };
    let all = rows(&bench.saved).restored();
    // Layers are mounted after their download, or before it.
    let modes = [MOUNT, STREAM];
    let restore = |name: &str, mode| bench.machine.store(name).verb("restore", &bench.cache, KEY, mode);
    let usual = modes.each_ref().map(|mode| {
        let one = |number| {
            let name = format!("measured-{}-{number}", mode[1]);
            let usual = duration(restore(&name, mode));
            run_detach(&bench.machine.store(&name));
            usual
        };
        (0..3).map(one).min().unwrap()
    });
    let (mut random, mut killed, mut mounted) = (Random::new(), 0, 0);
    for turn in 0..kills().div_ceil(4) {
        let name = format!("store-{turn}");
        let at = turn as usize % 2;
        killed += u64::from(kill_somewhere(restore(&name, &modes[at]), usual[at], &mut random));
        let store = bench.machine.store(&name);
        mounted += u64::from(!mounts_of(&store).is_empty());
        assert_part_of(&store, &all);
        store.assert_sound();
        if turn % 3 == 0 {
            // Whoever builds before the next restore finds a store that works.
            store.build(&["another"]);
            store.assert_verifies();
        }
        let outcome = store.restore(&bench.cache, KEY, &modes[random.below(2) as usize]);
        assert_eq!((&outcome["hit"], &outcome["paths-lost"]), (&"exact".into(), &0.into()), "{outcome}");
        assert!(bench.saved.valid().is_subset(&store.valid()), "{outcome}");
        store.assert_sound();
        run_detach(&store).json();
        assert_plain(&store);
    }
    println!("{killed} mounting restores were killed, {mounted} with something mounted");
}

#[test]
fn a_detach_that_is_killed_is_finished_by_the_next() {
    let Some(bench) = bench() else { return };
    let detach = |name: &str| {
        let store = bench.machine.store(name);
        bench.mount_on(&store);
        store.build(&["onTop"]);
        let mut command = store.machine.nix_cache(&["detach", "--threads", "2"]);
        command.arg("--store-root").arg(&store.root);
        command
    };
    let usual = (0..3).map(|number| duration(detach(&format!("measured-{number}")))).min().unwrap();
    let kept = bench.machine.store("measured-0").valid();
    let (mut random, mut killed, mut unfinished) = (Random::new(), 0, 0);
    for turn in 0..kills().div_ceil(4) {
        let name = format!("store-{turn}");
        let command = detach(&name);
        let store = bench.machine.store(&name);
        let before = rows(&store);
        killed += u64::from(kill_somewhere(command, usual, &mut random));
        unfinished += u64::from(!mounts_of(&store).is_empty());
        store.assert_sound();
        if turn % 2 == 1 {
            // The next job restores first.
            let outcome = store.restore(&bench.cache, KEY, &MOUNT);
            assert_eq!((&outcome["hit"], &outcome["paths-lost"]), (&"exact".into(), &0.into()), "{outcome}");
            assert!(kept.is_subset(&store.valid()), "{outcome}");
        }
        run_detach(&store).json();
        assert_plain(&store);
        assert_part_of(&store, &before);
        assert_eq!(store.valid(), kept);
    }
    println!("{killed} detaches were killed, {unfinished} before everything was unmounted");
}
