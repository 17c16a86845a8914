//! The history of jobs, and the trend in the summary.

use std::fs;

use super::job::Job;
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, Fault, FaultName, Operation, RestPermission, Scope};
use crate::support::nix;
use crate::support::program::Run;

pub(super) fn job(place: &Place, fake: &Fake, name: &str) -> Job {
    let mut job = place.job_unstarted(fake, name, RestPermission::Read);
    job.input("history", "true");
    job
}

/// Runs the three steps of a job, with all its work. Returns its report and its summary.
pub(super) fn run(place: &Place, job: &Job) -> (serde_json::Value, String) {
    assert_eq!(job.restore().code, Some(0));
    place.work(job);
    let post = job.post();
    assert_eq!(post.code, Some(0), "{}", post.log);
    (post.report, job.summary())
}

#[test]
fn each_job_is_in_the_history_and_compared_with_those_before_it() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = Fake::start(FakeConfig::default());
    let (first, summary) = run(&place, &job(&place, &fake, "one"));
    assert!(first["trend"].is_null() && !summary.contains("Trend"), "{summary}");
    assert!(first["job"]["started"].as_u64() > Some(1_790_000_000), "{first}");
    let (second, summary) = run(&place, &job(&place, &fake, "two"));
    assert_eq!((second["trend"]["runs"].as_u64(), second["trend"]["hit-rate-median"].as_f64()), (Some(1), Some(0.0)));
    assert!(summary.contains("| Trend | ▁█ median of the last 1 run: hit rate 0.0 %"), "{summary}");
    // A job that keeps no history is in none, and is not compared.
    let mut without = place.job_unstarted(&fake, "three", RestPermission::Read);
    without.input("history", "false");
    assert!(run(&place, &without).0["trend"].is_null());

    let shown = |arguments: &[&str]| {
        let mut command = place.machine.nix_cache(&[&["history"], arguments, &["--remote", "github"]].concat());
        command.envs(fake.env());
        Run::of(command)
    };
    let table = shown(&[]);
    assert_eq!(table.out.lines().count(), 4, "{table:?}");
    assert!(table.out.contains("100 %") && table.out.contains("2 runs of 1 lane"), "{table:?}");
    let exported = shown(&["export"]).out;
    let runs: Vec<serde_json::Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((runs.len(), &runs[0]["hit"], &runs[1]["hit"]), (2, &"miss".into(), &"exact".into()), "{exported}");
    assert_eq!(shown(&["export", "--format", "csv"]).out.lines().count(), 3);

    // Imported elsewhere: a run that is known changes nothing, and no generation is written for nothing.
    let (file, cache) = (place.machine.path("runs.jsonl"), place.machine.path("elsewhere"));
    let remote = format!("dir:{}", cache.display());
    let import = |text: &str| {
        fs::write(&file, text).unwrap();
        Run::of(place.machine.nix_cache(&["history", "import", file.to_str().unwrap(), "--remote", &remote]))
    };
    let (one, two) = exported.split_once('\n').unwrap();
    for (text, said) in [
        (one, "1 run read: 1 imported. The history is generation 1 of"),
        (&*exported, "2 runs read: 1 imported, 1 known already. The history is generation 2 of"),
        (&exported, "2 runs read: 2 known already. The history stays as it is."),
        (two, "1 run read: 1 known already. The history stays as it is."),
        ("", "There is nothing to import."),
    ] {
        let imported = import(text);
        assert!(imported.code == Some(0) && imported.log.contains(said), "{said}: {imported:?}");
    }
    let written = walkdir::WalkDir::new(&cache).into_iter().map(Result::unwrap);
    let written: Vec<_> = written.filter(|entry| entry.file_type().is_file()).collect();
    assert_eq!(written.len(), 2, "{written:?}");
    let copy = Run::of(place.machine.nix_cache(&["history", "export", "--remote", &remote]));
    assert_eq!(copy.out, exported);
    let wrong = import("{\"hit\": \"exact\"}\n{\"hit\": 7}\n");
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.log.contains("Line 2 of ") && wrong.log.contains("runs.jsonl"), "{wrong:?}");
}

/// Imports a record of this lane for each pair of the bytes that came from the cache and the milliseconds of the restore, oldest first. A substituter
/// sends ten bytes in a microsecond.
fn import_runs(place: &Place, fake: &Fake, runs: &[(u64, u64)]) {
    let record = |(number, (bytes, restore)): (u64, &(u64, u64))| {
        serde_json::json!({
            "time": 1_799_000_000 + number, "run": number, "lane": "CI/build", "system": crate::support::machine::system(),
            "status": "success", "hit": "exact", "restore-ms": restore, "save-ms": 9_000, "downloaded": 90_000_000,
            "cached-built": 0, "cached-bytes": bytes, "fetched-bytes": 100_000_000, "fetched-ms": 10_000,
        })
        .to_string()
    };
    let file = place.machine.path("imported.jsonl");
    fs::write(&file, (0..).zip(runs).map(record).collect::<Vec<_>>().join("\n")).unwrap();
    let mut command = place.machine.nix_cache(&["history", "import", file.to_str().unwrap(), "--remote", "github"]);
    command.envs(fake.env());
    assert_eq!(Run::of(command).code, Some(0));
}

/// A run in which the cache cost more than it saved: restored in 60 s what a substituter sends in a second.
const LOSS: (u64, u64) = (10_000_000, 60_000);
/// One in which it saved a minute less the save.
const GAIN: (u64, u64) = (600_000_000, 0);

#[test]
fn a_lane_that_loses_time_stops_using_the_cache_and_says_so() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = Fake::start(FakeConfig::default());
    // What is there to be restored.
    let (first, _) = run(&place, &job(&place, &fake, "first"));
    assert_eq!(first["save"]["outcome"], "saved", "{first}");
    import_runs(&place, &fake, &[LOSS; 5]);
    let stopped = job(&place, &fake, "stopped");
    let (report, summary) = run(&place, &stopped);
    assert_eq!((&report["guard"]["state"], &report["key"]["hit"]), (&"stopped".into(), &"miss".into()), "{report}");
    assert_eq!((&report["save"]["outcome"], &report["save"]["reason"]), (&"skipped".into(), &"cost-guard".into()));
    assert_eq!(
        (report["paths"]["restored"].as_u64(), report["guard"]["judged-ms"].as_array().map(Vec::len)),
        // The first save of a lane is not judged.
        (Some(0), Some(5))
    );
    assert!(summary.contains("cost the last measured 5 runs of this lane 5 min 4"), "{summary}");
    // It is in the history as a run that was stopped.
    let mut command = place.machine.nix_cache(&["history", "export", "--remote", "github"]);
    command.envs(fake.env());
    assert!(Run::of(command).out.contains("\"guard\":\"stopped\""));
    // Without the guard, everything is as usual.
    let mut off = job(&place, &fake, "off");
    off.input("guard", "off");
    let (report, _) = run(&place, &off);
    assert_eq!((&report["guard"], &report["key"]["hit"]), (&serde_json::Value::Null, &"exact".into()), "{report}");
}

#[test]
fn what_the_next_run_would_not_restore_is_not_saved() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = Fake::start(FakeConfig::default());
    // The lane has gained and lost, and is not stopped yet. Nothing is there to be restored, so this run is the fifth that does not make up for it.
    import_runs(&place, &fake, &[LOSS, GAIN, LOSS, LOSS, LOSS, LOSS]);
    let (last, summary) = run(&place, &job(&place, &fake, "last"));
    assert_eq!((&last["guard"], &last["key"]["hit"]), (&serde_json::Value::Null, &"miss".into()), "{last}");
    assert_eq!((&last["save"]["outcome"], &last["save"]["reason"]), (&"skipped".into(), &"cost-guard".into()));
    assert!(summary.contains("because the next run would not restore it"), "{summary}");
    assert_eq!(fake.saved().len(), 0);
    // And so it is.
    let next = job(&place, &fake, "next").restore().report;
    assert_eq!(next["guard"]["state"], "stopped", "{next}");
    let mut off = job(&place, &fake, "off");
    off.input("guard", "off");
    let (report, _) = run(&place, &off);
    assert_eq!(report["save"]["outcome"], "saved", "{report}");
}

/// A fork's job may read the cache and write nothing.
pub(super) fn of_a_fork() -> Fake {
    Fake::start(FakeConfig {
        scopes: vec![Scope::read("refs/pull/7/merge"), Scope::read("refs/heads/main")],
        ..FakeConfig::default()
    })
}

#[test]
fn the_record_of_a_fork_is_an_artifact_which_the_history_and_the_dashboard_read() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = of_a_fork();
    let (report, _) = run(&place, &job(&place, &fake, "fork"));
    assert_ne!(report["save"]["outcome"], "saved", "{report}");
    let artifacts = fake.artifacts();
    let [(name, zip, hash)] = artifacts.as_slice() else { panic!("{artifacts:?}") };
    assert!(name.starts_with("nix-cache-history-"), "{name}");
    assert!(hash.starts_with("sha256:") && hash.len() == 71, "{hash}");
    // As a download leaves them, with one of which nothing is right.
    let folder = place.machine.path("artifacts");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.zip")), zip).unwrap();
    fs::write(folder.join("hostile.zip"), b"PK\x05\x06 and nothing else").unwrap();
    let remote = format!("dir:{}", place.machine.path("elsewhere").display());
    let import = ["history", "import", folder.to_str().unwrap(), "--remote", &remote];
    let imported = Run::of(place.machine.nix_cache(&import));
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(imported.log.contains("1 run read: 1 imported.") && imported.log.contains("hostile.zip"), "{imported:?}");
    let exported = Run::of(place.machine.nix_cache(&["history", "export", "--remote", &remote])).out;
    assert!(exported.contains("\"hit\":\"miss\"") && exported.lines().count() == 1, "{exported}");
    let out = place.machine.path("page");
    let arguments = ["dashboard", "--runs", folder.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let made = Run::of(place.machine.nix_cache(&arguments));
    assert!(made.code == Some(0) && (made.out.clone() + &made.log).contains("of 1 run"), "{made:?}");
}

#[test]
fn the_setting_says_where_the_record_goes_and_trouble_is_a_note() {
    let Some(nix) = nix::all().first() else { return };
    let place = Place::new(nix);
    let fake = of_a_fork();
    for wanted in ["cache", "off", "false"] {
        let mut job = job(&place, &fake, wanted);
        job.input("history", wanted);
        run(&place, &job);
        assert_eq!((fake.artifacts().len(), fake.entries().len()), (0, 0), "{wanted}");
    }
    // A job that can write keeps it in the cache, unless an artifact is wanted.
    let fake = Fake::start(FakeConfig::default());
    run(&place, &job(&place, &fake, "writes"));
    assert_eq!((fake.artifacts().len(), fake.entries().len() - fake.saved().len()), (0, 1));
    let mut wanted = job(&place, &fake, "wanted");
    wanted.input("history", "artifact");
    run(&place, &wanted);
    assert_eq!((fake.artifacts().len(), fake.entries().len() - fake.saved().len()), (1, 1));
    let fake = Fake::start(FakeConfig::default());
    // The service of artifacts fails: a note with a code, and a job that succeeds.
    fake.fault(Fault::new(FaultName::Error).on(Operation::FinalizeArtifact));
    let mut failing = place.job_unstarted(&fake, "failing", RestPermission::Read);
    failing.input("history", "artifact");
    let (report, summary) = run(&place, &failing);
    assert!(report["notes"].as_array().unwrap().iter().any(|note| note["code"] == "history-artifact"), "{report}");
    assert!(summary.contains("FinalizeArtifact failed with status 500"), "{summary}");
}
