//! Random faults of all kinds, in both steps of a job: no job is red, no path is broken, and nothing that was saved is missing from the
//! next job that meets no trouble. `NIX_CACHE_TEST_FAULTS` says how many jobs; `NIX_CACHE_TEST_SEED` where to begin.

use std::sync::Mutex;

use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName as Name, Operation as On, RestPermission};
use crate::support::nix;
use crate::support::random::Random;

/// Rounds that are played at once: they mostly wait.
const AT_ONCE: usize = 3;
/// Rounds of the test suite.
const ROUNDS: u64 = 6;

const TUNING: &str = "rpc_delay=20,rpc_timeout=3000,lookup_timeout=2000,lookup_budget=6000,find_patience=500,put_patience=5000,commit_budget=5000,\
                      finalize_delay=50,stall=700,slow_window=700,upload_stall=3000,blob_delay=10";

/// Faults that destroy nothing.
const NAMES: &[Name] = &[
    Name::Error,
    Name::Html,
    Name::Throttle,
    Name::Unauthorized,
    Name::ReadDenied,
    Name::WriteDenied,
    Name::NotOk,
    Name::Quota,
    Name::NotFound,
    Name::BadRoute,
    Name::ExpiredUrl,
    Name::Drop,
    Name::Hang,
    Name::LostReply,
    Name::Cut,
    Name::Stall,
    Name::IgnoreRange,
    Name::Corrupt,
    Name::Truncate,
    Name::Shift,
    Name::Trickle,
    Name::Redirect,
];

fn any_fault(random: &mut Random) -> Fault {
    let pick = |random: &mut Random, end: usize| random.below(end as u64) as usize;
    let name = NAMES[pick(random, NAMES.len())];
    let mut fault = Fault::new(name);
    let operations = [On::Create, On::Finalize, On::Lookup, On::PutBlob, On::Download];
    if matches!(
        name,
        Name::Error | Name::Html | Name::Throttle | Name::Drop | Name::Hang | Name::LostReply | Name::Redirect
    ) {
        fault = fault.on(operations[pick(random, operations.len())]);
    }
    if name == Name::Error {
        fault = fault.status([400, 403, 404, 408, 416, 429, 500, 502, 503, 504][pick(random, 10)]);
    }
    if name == Name::Throttle {
        fault = fault.retry_after([0, 1, 60][pick(random, 3)]);
    }
    if random.below(3) > 0 {
        fault = fault.times(1 + random.below(5));
    }
    fault.after(random.below(4)).every(1 + random.below(3)).bytes([0, 1, 40, 200, 1000, 5000, 70_000][pick(random, 7)])
}

struct Round {
    number: u64,
    main: Vec<Fault>,
    post: Vec<Fault>,
    makes_all: bool,
}

fn play(place: &Place, round: &Round) -> bool {
    let Round { number, main, post, makes_all } = round;
    let fake = Fake::start(FakeConfig::default());
    let first = place.job(&fake, &format!("first-{number}"), RestPermission::None);
    place.work(&first);
    assert_eq!(first.post().report["save"]["outcome"], "saved");
    let mut job = place.job_unstarted(&fake, &format!("job-{number}"), RestPermission::None);
    job.set("NIX_CACHE_TUNING", TUNING);
    job.input("restore-timeout", "20");
    job.input("save-timeout", "30");
    for fault in main {
        fake.fault(fault.clone());
    }
    let restored = job.restore();
    assert_eq!(restored.code, Some(0), "{}", restored.log);
    job.store.assert_sound();
    fake.clear_faults();
    if *makes_all {
        let mut import = job.store.command("nix-store");
        let input = std::fs::File::open(place.made()).unwrap();
        assert!(import.arg("--import").stdin(input).output().unwrap().status.success());
    }
    job.store.build(&["one", &format!("salt={number}")]);
    let made = job.store.valid();
    for fault in post {
        fake.fault(fault.clone());
    }
    let saved = job.post();
    assert_eq!(saved.code, Some(0), "{}", saved.log);
    fake.clear_faults();
    let later = place.job_unstarted(&fake, &format!("later-{number}"), RestPermission::None);
    let step = later.restore();
    assert_eq!(step.code, Some(0), "{}", step.log);
    later.store.assert_sound();
    let (found, logs) = (later.store.valid(), format!("{}{}{}", restored.log, saved.log, step.log));
    let missing: Vec<_> = place.paths.difference(&found).collect();
    assert!(missing.is_empty(), "{} of {} paths are missing: {logs}", missing.len(), place.paths.len());
    let is_saved = saved.report["save"]["outcome"] == "saved";
    assert!(!is_saved || made.is_subset(&found), "what was saved is missing: {logs}");
    for job in [&first, &job, &later] {
        nix_cache::store::tree::remove_tree(&job.store.root).unwrap();
    }
    is_saved
}

#[test]
fn random_faults_lose_nothing_that_was_saved() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let count = std::env::var("NIX_CACHE_TEST_FAULTS").ok().and_then(|count| count.parse().ok()).unwrap_or(ROUNDS);
    let mut random = Random::seeded(20_261_126);
    let rounds: Vec<Round> = (0..count)
        .map(|number| {
            let mut faults = || (0..random.below(3)).map(|_| any_fault(&mut random)).collect::<Vec<_>>();
            let (main, post) = (faults(), faults());
            Round { number, main, post, makes_all: random.below(3) == 0 }
        })
        .collect();
    let (waiting, failed, saved) = (Mutex::new(rounds), Mutex::new(Vec::new()), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(round) = { waiting.lock().unwrap().pop() } {
                    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&place, &round)));
                    if let Ok(is_saved) = played {
                        *saved.lock().unwrap() += u64::from(is_saved);
                    } else {
                        let Round { number, main, post, makes_all } = &round;
                        failed.lock().unwrap().push(format!("{number}: {main:?} {post:?} {makes_all}"));
                    }
                }
            });
        }
    });
    let (failed, saved) = (failed.into_inner().unwrap(), saved.into_inner().unwrap());
    println!("{count} jobs with random faults, of which {saved} saved: {} lost something", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}
