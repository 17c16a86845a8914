//! The action's steps as the runner starts them, with all known answers of the cache service: no job fails because of it, no store is
//! damaged, the log and the summary say why, and a later job finds everything again.

pub(crate) mod artifacts;
mod budgets;
mod campaign;
mod early_pushes;
mod evicted;
mod history;
mod job;
mod place;
mod progressive;
mod pushes;
mod remotes;
mod row;
mod signed;
mod streaming;
mod table;
mod truth;
mod warm;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use crate::support::fake::{Fake, FakeConfig, Operation, RestPermission};
use crate::support::nix;
use place::Place;
use row::Row;

/// Rows that are played at once. They mostly wait.
const AT_ONCE: usize = 6;

fn play(rows: Vec<Row>) {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let (waiting, failed) = (Mutex::new(rows), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = { waiting.lock().unwrap().pop() } {
                    eprintln!("row: {}", row.name);
                    if catch_unwind(AssertUnwindSafe(|| row.play(&place))).is_err() {
                        failed.lock().unwrap().push(row.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "these rows failed, for reasons above: {failed:#?}");
}

#[test]
fn trouble_with_a_restore_is_a_miss_or_passes() {
    play(table::restores());
}

#[test]
fn trouble_with_a_save_is_told_or_passes() {
    play(table::saves());
}

#[test]
fn jobs_that_may_only_write_save_a_key_once() {
    let Some(nix) = nix::all().first() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let mut outcomes = Vec::new();
    for number in 0..3 {
        let mut job = place.job_unstarted(&fake, &format!("write-only-{number}"), RestPermission::Read);
        job.set("ACTIONS_CACHE_MODE", "write-only");
        assert_eq!(job.restore().code, Some(0));
        place.work(&job);
        let post = job.post();
        assert_eq!(post.code, Some(0), "{}", post.log);
        outcomes.push(post.report["save"]["outcome"].as_str().unwrap().to_owned());
    }
    assert_eq!(outcomes, ["saved", "skipped", "skipped"]);
    let stats = fake.stats();
    // The second one cannot know that the first was not killed: it sends the layer once more, under the one more name of the day.
    assert_eq!((stats.creations, stats.count(Operation::PutBlob), stats.count(Operation::Lookup)), (3, 3, 0));
    let reader = place.job_unstarted(&fake, "reader", RestPermission::Read);
    reader.restore();
    assert_eq!((reader.store.valid(), &*reader.outputs()["hit"]), (place.paths.clone(), "exact"));
}
