//! Simulates two hundred runs of a repository: two jobs end at about the same time, and the cache evicts what was not read for longest.

use std::collections::BTreeSet;

use futures_util::join;

use super::{History, Run, history_key};
use crate::series::sign::Keyring;
use crate::series::world::World;
use crate::series::{self, Clock, Target};

const RUNS: u64 = 200;

fn run(number: u64) -> Run {
    Run {
        time: 1_790_000_000 + number,
        run: number / 2,
        attempt: 1,
        lane: ["CI/build", "CI/checks"][number as usize % 2].to_owned(),
        sha: format!("{:040x}", number * 7_919),
        hit: "exact".to_owned(),
        cached: Some(number),
        ..Run::default()
    }
}

/// The end of a job: it reads the history, compares itself, and adds itself.
async fn end(world: &World, number: u64) {
    let (key, keys) = (history_key("nix"), Keyring::default());
    world.pass(0..3_000).await;
    let loaded = super::load(world, &key, &keys).await.unwrap();
    let run = run(number);
    let _ = super::trend(&loaded.record, &run);
    world.pass(0..500).await;
    let target = Target { remote: world, key: &key, keys: &keys, prune: History::prune };
    let added = series::add_at(world, &target, (Some(loaded), History::of([run])), &mut Vec::new()).await;
    added.unwrap_or_else(|error| panic!("run {number}: {error}"));
}

/// The runs that the next job reads.
fn known(world: &World) -> BTreeSet<u64> {
    let loaded = world.run(async {
        world.pass(5_000..5_001).await;
        super::load(world, &history_key("nix"), &Keyring::default()).await.unwrap()
    });
    loaded.record.runs.values().map(|run| run.cached.unwrap()).collect()
}

#[test]
fn none_of_two_hundred_runs_in_pairs_is_lost_to_the_other_or_to_eviction() {
    let (mut met, mut evicted) = (0, 0);
    for seed in 0..2 {
        let world = World::new(seed);
        for first in (0..RUNS).step_by(2) {
            let before = world.creations();
            world.run(async { join!(end(&world, first), end(&world, first + 1)) });
            // One that is alone reserves one name.
            met += u64::from(world.creations() > before + 2);
            world.run(world.pass(5_000..7_200_000));
            if world.random(3) == 0 {
                evicted += world.evict(1 + world.random(4) as usize);
            }
        }
        assert_eq!(known(&world), (0..RUNS).collect(), "seed {seed}");
    }
    println!("{met} of {RUNS} pairs met, {evicted} entries were evicted");
    assert!(met > 20 && evicted > 60, "{met} pairs met, {evicted} entries were evicted");
}

#[test]
fn what_was_evicted_is_all_that_is_lost() {
    let world = World::new(9);
    for first in (0..40).step_by(2) {
        world.run(async { join!(end(&world, first), end(&world, first + 1)) });
        world.run(world.pass(5_000..60_000));
        if first == 18 {
            world.evict(0);
        }
    }
    assert_eq!(known(&world), (20..40).collect());
}
