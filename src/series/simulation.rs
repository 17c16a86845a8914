//! Simulates many concurrent writers that only append.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;

use super::append::Appended;
use super::number::MOST;
use super::world::{Stored, World};
use super::{Clock, Draft, Series, TakenIn, append, find};
use crate::remote::{Entry, Kind, Remote, RemoteError};

/// A record that is a set of numbers; each writer adds its own.
struct Numbers<'a> {
    world: &'a World,
    all: BTreeSet<u64>,
    own: BTreeSet<u64>,
}

#[async_trait]
impl Draft for Numbers<'_> {
    fn encode(&mut self, _: Kind, _: &str) -> Result<Bytes, RemoteError> {
        Ok(serde_json::to_vec(&self.all).unwrap().into())
    }

    async fn read(&self, entry: &Entry, _: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        Ok(Some(self.world.read(entry, 0..0).await?.into()))
    }

    fn unread(&mut self, _: u64) {}

    fn has(&self, _: &Entry, bytes: Vec<u8>) -> bool {
        let other: BTreeSet<u64> = serde_json::from_slice(&bytes).unwrap();
        other.is_subset(&self.all)
    }

    fn take_in(&mut self, entry: &Entry, bytes: Vec<u8>) -> TakenIn {
        let other: BTreeSet<u64> = serde_json::from_slice(&bytes).unwrap();
        let covered = other.is_superset(&self.own);
        if entry.kind == Kind::Offer {
            self.own.extend(&other);
        }
        self.all.extend(other);
        if covered { TakenIn::Covered } else { TakenIn::Merged }
    }
}

const PREFIX: &str = "key#g";

async fn write(world: &World, number: u64, arrival: u64) -> Result<Appended, RemoteError> {
    world.until(arrival).await;
    let seen = find(world, Kind::Snapshot, &[PREFIX.into()]).await?;
    let own = BTreeSet::from([number]);
    let mut record = Numbers { world, all: own.clone(), own };
    if let Some(seen) = &seen {
        let bytes = Draft::read(&record, &seen.entry, u64::MAX).await?.unwrap();
        record.take_in(&seen.entry, bytes);
    }
    world.put_bytes(Kind::Layer, &format!("layer-{number}"), Bytes::from_static(b"l")).await?;
    let series = Series {
        remote: world,
        kind: Kind::Snapshot,
        prefix: PREFIX.into(),
        clock: world,
        writers: if number < 1000 { 0 } else { 100 },
    };
    append(&series, &mut record, seen.map_or(0, |seen| seen.number), None).await
}

/// What the newest generation has after everything has settled.
fn newest(world: &World) -> (u64, BTreeSet<u64>) {
    world.run(async {
        world.pass(5_000..5_001).await;
        let newest = find(world, Kind::Snapshot, &[PREFIX.into()]).await.unwrap().expect("there is one");
        (newest.number, serde_json::from_slice(&world.read(&newest.entry, 0..0).await.unwrap()).unwrap())
    })
}

/// A name that was reserved by a job that was killed.
fn burn(world: &World, name: &str) {
    let burnt = Stored { kind: Kind::Snapshot, name: name.into(), bytes: Bytes::new(), visible: None, used: 0 };
    world.inside().entries.push(burnt);
}

fn plant(world: &World, name: &str) {
    let bytes = Bytes::from_static(b"[]");
    world.inside().entries.push(Stored { kind: Kind::Snapshot, name: name.into(), bytes, visible: Some(0), used: 0 });
}

#[test]
fn any_number_of_jobs_at_once_have_all_in_the_newest_generation_for_three_reservations_each() {
    for (jobs, spread) in [
        (1, 1),
        (2, 1),
        (3, 500),
        (20, 1),
        (20, 3_000),
        (20, 10_000),
        (20, 30_000),
        (20, 120_000),
        (100, 1),
        (100, 5_000),
        (100, 20_000),
        (100, 60_000),
    ] {
        let (mut worst, mut longest, mut lookups, mut minute) = (0, 0, 0, 0);
        for seed in 0..8 {
            let world = World::new(seed);
            let arrivals: Vec<u64> = (0..jobs).map(|_| world.random(spread)).collect();
            let writes = arrivals.iter().zip(0..).map(|(arrival, number)| write(&world, number, *arrival));
            for written in world.run(join_all(writes)) {
                written.expect("it is written");
            }
            longest = longest.max(world.inside().now);
            let (_, all) = newest(&world);
            assert_eq!(all, (0..jobs).collect(), "{jobs} jobs within {spread} ms, seed {seed}");
            worst = worst.max(world.inside().creations.len());
            lookups = lookups.max(world.inside().lookups.len());
            let busiest = world.busiest_minute();
            assert!(busiest.0 <= 200 && busiest.1 <= 1500);
            minute = minute.max(busiest.1);
        }
        println!(
            "{jobs} jobs within {spread} ms: at most {:.2} reservations and {:.1} lookups a job, {minute} in a minute, {:.1} s",
            worst as f64 / jobs as f64,
            lookups as f64 / jobs as f64,
            longest as f64 / 1000.0
        );
        // With all of 100 at the same moment, the limit of 200 a minute holds half of them up.
        let most = if jobs == 100 && spread < 10_000 { jobs * 18 / 5 } else { jobs * 16 / 5 };
        assert!(worst as u64 <= most, "{worst} reservations for {jobs} jobs within {spread} ms");
        assert!(lookups as u64 <= 80 * jobs, "{lookups} lookups for {jobs} jobs within {spread} ms");
    }
}

#[test]
fn numbers_that_were_never_finished_are_passed_over_and_cost_one_wait() {
    for burnt in [1, 5, 40] {
        let world = World::new(burnt);
        for number in 1..=burnt {
            burn(&world, &format!("{PREFIX}{number}"));
        }
        let written = world.run(write(&world, 7, 0)).unwrap();
        assert_eq!(newest(&world).1, BTreeSet::from([7]));
        assert!(written.number > burnt, "{}", written.number);
        let took = world.inside().now;
        assert!(took < 60_000, "{took} ms for {burnt}");
        println!("{burnt} burnt numbers: {took} ms, {} reservations", world.inside().creations.len());
        // Those that come later are not held up by them.
        let before = world.inside().now;
        world.run(write(&world, 8, before)).unwrap();
        assert!(world.inside().now - before < 6_000);
    }
}

#[test]
fn planted_numbers_do_not_end_a_series() {
    for planted in [
        vec!["18446744073709551615"],
        vec!["99999999999", "1", "5x"],
        vec!["999999999"],
        vec!["0", "", "-1", "1111111111"],
    ] {
        let world = World::new(1);
        world.run(write(&world, 1, 0)).unwrap();
        world.run(world.pass(5_000..5_001));
        for number in &planted {
            plant(&world, &format!("{PREFIX}{number}"));
        }
        for job in 2..5 {
            let now = world.inside().now + 5_000;
            let written = world.run(write(&world, job, now)).unwrap();
            assert!((1..=MOST).contains(&written.number));
        }
        let (_, all) = newest(&world);
        assert!(all.is_superset(&BTreeSet::from([2, 3, 4])), "{planted:?}: {all:?}");
        assert!(all.contains(&1) || planted[0] == "999999999", "{planted:?}: {all:?}");
    }
}

#[test]
fn a_job_that_is_passed_by_while_it_writes_loses_nothing() {
    for seed in 0..40 {
        let world = World::new(seed);
        // Longer than others wait for a number.
        let slowly = 2_000 + world.random(12_000);
        world.inside().slow = Some((format!("{PREFIX}1"), slowly));
        let both = world.run(async { futures_util::join!(write(&world, 1, 0), write(&world, 2, 300)) });
        assert!(both.0.is_ok() && both.1.is_ok());
        assert_eq!(newest(&world).1, BTreeSet::from([1, 2]), "seed {seed}, {slowly} ms");
    }
}

/// A number of a writer that others do not meet. Returns the times of the lookups of its append.
fn write_alone(world: &World, ahead: bool) -> Vec<u64> {
    let mut record = Numbers { world, all: BTreeSet::from([1]), own: BTreeSet::from([1]) };
    let prefix = PREFIX.into();
    let series = Series { remote: world, kind: Kind::Snapshot, prefix, clock: world, writers: 0 };
    world.run(async {
        let ahead = if ahead { Some(series.look_ahead().await.unwrap()) } else { None };
        world.inside().lookups.clear();
        append(&series, &mut record, 0, ahead).await.unwrap();
    });
    std::mem::take(&mut world.inside().lookups)
}

#[test]
fn a_writer_that_is_alone_waits_for_one_lookup_and_for_none_if_it_has_looked_ahead() {
    for seed in 0..8 {
        let lookups = write_alone(&World::new(seed), false);
        // Each takes 200 ms at least.
        assert!(lookups.len() == 2 && lookups[0].abs_diff(lookups[1]) < 200, "one after the other: {lookups:?}");
        assert!(write_alone(&World::new(seed), true).is_empty());
    }
}

#[test]
fn what_is_written_after_a_look_ahead_is_not_lost() {
    for seed in 0..8 {
        let world = World::new(seed);
        let mut record = Numbers { world: &world, all: BTreeSet::from([1]), own: BTreeSet::from([1]) };
        let prefix = PREFIX.into();
        let series = Series { remote: &world, kind: Kind::Snapshot, prefix, clock: &world, writers: 0 };
        world.run(async {
            let ahead = series.look_ahead().await.unwrap();
            let now = world.inside().now;
            write(&world, 2, now).await.unwrap();
            append(&series, &mut record, 0, Some(ahead)).await.unwrap();
        });
        assert_eq!(newest(&world).1, BTreeSet::from([1, 2]), "seed {seed}");
    }
}
