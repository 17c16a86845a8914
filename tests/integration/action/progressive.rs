//! Saves while the job runs (`progressive`): what a job built is not lost when it is killed, the post step saves only the rest, and the
//! process that saves ends with its job.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix_cache::snapshot::Snapshot;
use nix_cache::store::StorePath;

use super::job::Job;
use super::place::Place;
use crate::support::cache;
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation, RestPermission};
use crate::support::machine::system;
use crate::support::nix;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(5);
/// A save after a moment instead of a minute.
pub(super) const TUNING: &str =
    "rpc_delay=100,rpc_timeout=10000,finalize_delay=300,blob_delay=50,checkpoint_interval=200,checkpoint_look=100";

pub(super) fn job(place: &Place, fake: &Fake, name: &str, inputs: &[(&str, &str)]) -> Job {
    let mut job = place.job_unstarted(fake, name, RestPermission::Read);
    job.set("NIX_CACHE_TUNING", TUNING);
    job.input("progressive", "auto");
    for (name, value) in inputs {
        job.input(name, value);
    }
    job
}

pub(super) fn wait(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a process saves to the cache of this job while it runs.
pub(super) fn is_saving(job: &Job) -> bool {
    let Ok(lock) = File::open(job.store.dirs().own_dir().join("checkpoints.lock")) else { return false };
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
}

/// A process that carries out the main step and then goes on, as the worker of a runner does.
pub(super) fn worker(job: &Job, tracking: &str) -> Child {
    let step = job.command("restore");
    let mut command = Command::new("sh");
    command.args(["-c", r#""$0" "$@" >/dev/null 2>&1; exec sleep 600"#]).arg(step.get_program()).args(step.get_args());
    command.current_dir(step.get_current_dir().unwrap()).stdin(Stdio::null()).env("RUNNER_TRACKING_ID", tracking);
    for (name, value) in step.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.spawn().unwrap()
}

/// The name of the program that a process executes.
pub(super) fn name(process: &Child) -> String {
    fs::read_to_string(format!("/proc/{}/comm", process.id())).unwrap()
}

/// Kills all processes with this `RUNNER_TRACKING_ID`, as the runner does at the end of a job, and their children.
pub(super) fn kill_all(tracking: &str) -> usize {
    let mark = format!("RUNNER_TRACKING_ID={tracking}");
    let listed = fs::read_dir("/proc").unwrap().flatten();
    let numbers: Vec<i32> = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let parent = |number: &i32| -> Option<i32> {
        let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        text.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let has_mark = |number: &i32| {
        let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|line| line == mark.as_bytes())
    };
    let mut chosen: BTreeSet<i32> = numbers.iter().copied().filter(has_mark).collect();
    loop {
        let more = numbers.iter().copied().filter(|number| parent(number).is_some_and(|one| chosen.contains(&one)));
        let all = &chosen | &more.collect();
        if all == chosen {
            break;
        }
        chosen = all;
    }
    for number in &chosen {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_raw(*number).unwrap(),
            rustix::process::Signal::KILL,
        );
    }
    chosen.len()
}

/// A build that makes `another` first, and never ends.
pub(super) fn endless(job: &Job) -> Command {
    let project = job.store.machine.path("project");
    let text = format!(
        "let p = import {} {{ system = \"{system}\"; }}; in derivation {{ name = \"endless\"; system = \"{system}\"; \
         builder = \"${{{}/tools}}/busybox\"; args = [ \"sleep\" \"600\" ]; dep = p.another; }}",
        project.display(),
        project.display(),
        system = system(),
    );
    let mut command = job.store.command("nix-build");
    command.args(["--no-out-link", "-E", &text]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn what_a_killed_job_had_built_is_there_for_the_next_one() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let first = job(&place, &fake, "killed", &[]);
    let tracking = format!("github_{}", first.workspace().display());
    let mut worker = worker(&first, &tracking);
    wait("the main step starts a process, and ends", || is_saving(&first) && name(&worker).trim() == "sleep");
    let mut build = endless(&first).env("RUNNER_TRACKING_ID", &tracking).spawn().unwrap();
    wait("what is finished is saved while the build runs", || saved(&first, "another").is_some());
    assert!(build.try_wait().unwrap().is_none(), "the build goes on");
    assert!(kill_all(&tracking) >= 3, "the worker, the build, and the process that saves");
    let _ = (worker.wait(), build.wait());
    wait("nothing is left of the job", || !is_saving(&first));

    let next = job(&place, &fake, "next", &[("progressive", "off")]);
    assert_eq!(next.restore().code, Some(0));
    assert_eq!(next.outputs()["hit"], "exact");
    next.store.assert_sound();
    next.store.assert_verifies();
    assert_eq!(next.store.builds(&["another"]), 0, "what was finished is not built again");
}

/// A build that makes room waits for the collection of garbage, so it would wait for the upload as well.
#[test]
fn garbage_is_collected_while_a_checkpoint_is_uploaded() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let first = job(&place, &fake, "collecting", &[]);
    let tracking = format!("github_{}", first.workspace().display());
    let mut worker = worker(&first, &tracking);
    wait("the main step starts a process", || is_saving(&first));
    fake.fault(Fault::new(FaultName::Hang).on(Operation::PutBlob));
    first.store.build(&["another"]);
    wait("an upload begins", || fake.stats().struck(FaultName::Hang) > 0);
    let collect = first.store.command("nix-store").arg("--gc").spawn().map(|mut collect| {
        let start = Instant::now();
        while collect.try_wait().unwrap().is_none() && start.elapsed() < PATIENCE / 2 {
            std::thread::sleep(Duration::from_millis(20));
        }
        (collect.try_wait().unwrap(), collect.kill())
    });
    let is_uploading = is_saving(&first) && !has_saved(&first, &first.store.outputs());
    kill_all(&tracking);
    let _ = worker.wait();
    assert!(collect.unwrap().0.is_some_and(|status| status.success()), "the collection waited for the upload");
    assert!(is_uploading);
}

#[test]
fn the_post_step_saves_only_the_rest() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let first = job(&place, &fake, "first", &[]);
    assert_eq!(first.restore().code, Some(0));
    wait("the main step starts a process", || is_saving(&first));
    // On a busy machine, a save may leave sources to the next one, which only new outputs bring about.
    let everything = (5..15).find_map(|number| {
        let count = format!("count={number}");
        first.store.build(&["everything", &count]);
        wait("what is built is saved while the job runs", || has_saved(&first, &first.store.outputs()));
        has_saved(&first, &first.store.valid()).then_some(count)
    });
    let everything = ["everything", &everything.expect("sources are saved with outputs that come later")];
    let built = first.store.valid();
    let before = fake.stats();
    // Lookups lag behind: the last generation cannot be looked up yet.
    fake.set_lookup_lag(PATIENCE * 10);
    let step = first.post();
    fake.set_lookup_lag(Duration::ZERO);
    assert_eq!((step.code, step.notes()), (Some(0), Vec::new()), "{}", step.log);
    assert!(!is_saving(&first) && step.log.contains("Saved while the job ran"), "{}", step.log);
    let (save, running) = (&step.report["save"], &step.report["save"]["running"]);
    assert_eq!((&save["outcome"], &save["reason"]), (&"saved".into(), &"new-key".into()), "{}", step.log);
    assert_eq!(step.report["paths"]["new"], built.len());
    assert_eq!(running["paths"], built.len());
    let after = fake.stats();
    assert_eq!(after.creations - before.creations, 1, "the last generation, and no layer: {}", step.log);
    assert!(after.bytes_up - before.bytes_up < before.bytes_up / 10, "{before:?} {after:?}");
    assert_eq!(after.count(Operation::Download), before.count(Operation::Download), "it has kept the last generation");
    assert_eq!(save["uploaded-bytes"], after.bytes_up, "the report counts both");
    assert!(first.summary().contains("while the job ran"), "{}", first.summary());

    // The next one adds a little, of which the post step finds it already saved or saves it.
    let second = job(&place, &fake, "second", &[]);
    assert_eq!(second.restore().code, Some(0));
    assert_eq!(second.outputs()["hit"], "exact");
    assert_eq!(second.store.valid(), built);
    second.store.build(&["onTop"]);
    let step = second.post();
    assert_eq!((step.code, &step.report["save"]["outcome"]), (Some(0), &"saved".into()), "{}", step.log);
    let third = job(&place, &fake, "third", &[("progressive", "off")]);
    assert_eq!(third.restore().code, Some(0));
    assert_eq!((third.store.builds(&everything), third.store.builds(&["onTop"])), (0, 0));
    third.store.assert_verifies();
}

/// What a job has written down of what it saved.
fn record(job: &Job) -> Option<String> {
    fs::read_to_string(job.store.dirs().own_dir().join("checkpoints.json")).ok()
}

/// Whether a job's record says that all of `paths` are saved.
pub(super) fn has_saved(job: &Job, paths: &BTreeSet<StorePath>) -> bool {
    record(job).is_some_and(|text| paths.iter().all(|path| text.contains(path.as_str())))
}

/// The path of this name that a job's record says is saved.
pub(super) fn saved(job: &Job, name: &str) -> Option<String> {
    let end = format!("-{name}");
    record(job)?.split('"').find(|part| part.ends_with(&end)).map(str::to_owned)
}

#[test]
fn the_process_ends_with_its_job() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let first = job(&place, &fake, "first", &[]);
    let mut worker = worker(&first, "none");
    wait("the main step starts a process, and ends", || is_saving(&first) && name(&worker).trim() == "sleep");
    worker.kill().unwrap();
    worker.wait().unwrap();
    wait("it ends", || !is_saving(&first));
}

#[test]
fn nothing_is_saved_early_where_the_post_step_may_not_save() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let cases: [&[(&str, &str)]; 5] = [
        &[("progressive", "off")],
        &[("save", "never")],
        // Nobody knows yet whether the job will fail.
        &[("save", "on-success")],
        &[("action", "restore")],
        &[("lookup-only", "true")],
    ];
    for (number, inputs) in cases.into_iter().enumerate() {
        let job = job(&place, &fake, &format!("job-{number}"), inputs);
        assert_eq!(job.restore().code, Some(0));
        assert!(!job.store.dirs().own_dir().join("checkpoints.log").exists(), "{inputs:?}");
    }
    let mut reader = job(&place, &fake, "reader", &[]);
    reader.set("ACTIONS_CACHE_MODE", "read");
    assert_eq!(reader.restore().code, Some(0));
    assert!(!reader.store.dirs().own_dir().join("checkpoints.log").exists());
}

#[test]
fn a_service_that_fails_is_a_note_and_no_failed_job() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let first = job(&place, &fake, "first", &[]);
    assert_eq!(first.restore().code, Some(0));
    wait("the main step starts a process", || is_saving(&first));
    fake.fault(Fault::new(FaultName::Error).on(Operation::Create).status(400));
    first.store.build(&["one"]);
    wait("the process gives up", || !is_saving(&first));
    fake.clear_faults();
    let step = first.post();
    assert_eq!((step.code, step.notes()), (Some(0), vec!["checkpoint-failed"]), "{}", step.log);
    assert_eq!(step.report["save"]["outcome"], "saved", "{}", step.log);
}

/// The newest snapshot of a cache in a folder.
fn newest(cache: &Path) -> Snapshot {
    let (_, snapshot) = cache::assert_whole(cache).pop().expect("a snapshot was saved");
    snapshot
}

#[test]
fn after_a_change_of_the_lock_a_killed_job_loses_nothing_and_one_that_ends_keeps_only_what_it_uses() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let folder = place.machine.path("cache");
    let remote = format!("dir:{}", folder.display());
    let old = job(&place, &fake, "old", &[("progressive", "off"), ("remote", &remote), ("key", "tests-1")]);
    old.restore();
    old.store.build(&["everything", "count=5"]);
    assert_eq!(old.post().report["save"]["outcome"], "saved");
    let had = old.store.valid();

    let mut kept = Vec::new();
    for progressive in ["off", "auto"] {
        let copy = place.machine.path(&format!("cache-{progressive}"));
        cache::copy(&folder, &copy);
        let remote = format!("dir:{}", copy.display());
        let inputs =
            [("remote", &*remote), ("key", "tests-2"), ("restore-keys", "tests-"), ("progressive", progressive)];
        let job_of = |name: &str| job(&place, &fake, &format!("{name}-{progressive}"), &inputs);
        let new = job_of("new");
        assert_eq!(new.restore().code, Some(0));
        assert_eq!(new.outputs()["hit"], "partial");
        new.store.build(&["onTop"]);
        if progressive == "auto" {
            wait("what is new is saved", || has_saved(&new, &(&new.store.outputs() - &had)));
            let there: BTreeSet<StorePath> = newest(&copy).paths.keys().map(|key| key.0.clone()).collect();
            assert!(had.is_subset(&there), "a job that is killed now leaves everything to the next one");
        }
        let step = new.post();
        assert_eq!(step.report["save"]["reason"], "new-key", "{}", step.log);
        let snapshot = newest(&copy);
        let lanes: Vec<(String, BTreeSet<StorePath>, usize)> = snapshot
            .lanes
            .into_iter()
            .map(|(name, lane)| (name, lane.paths.into_keys().collect(), lane.saves.len()))
            .collect();
        kept.push((snapshot.paths.into_keys().map(|key| key.0).collect::<BTreeSet<_>>(), lanes));
    }
    assert!(!had.is_subset(&kept[0].0), "the job does not use everything");
    assert_eq!(kept[0], kept[1]);
}
