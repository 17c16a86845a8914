//! The history of jobs, and the trend in the summary.

use std::fs;

use super::job::Job;
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, RestPermission};
use crate::support::nix;
use crate::support::program::Run;

fn job(place: &Place, fake: &Fake, name: &str) -> Job {
    let mut job = place.job_unstarted(fake, name, RestPermission::Read);
    job.input("history", "true");
    job
}

/// Runs the three steps of a job, with all its work. Returns its report and its summary.
fn run(place: &Place, job: &Job) -> (serde_json::Value, String) {
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

    // Imported elsewhere, and once more: nothing is counted twice.
    let (file, cache) = (place.machine.path("runs.jsonl"), place.machine.path("elsewhere"));
    fs::write(&file, &exported).unwrap();
    let remote = format!("dir:{}", cache.display());
    for _ in 0..2 {
        let import = ["history", "import", file.to_str().unwrap(), "--remote", &remote];
        let imported = Run::of(place.machine.nix_cache(&import));
        assert_eq!(imported.code, Some(0), "{imported:?}");
    }
    let copy = Run::of(place.machine.nix_cache(&["history", "export", "--remote", &remote]));
    assert_eq!(copy.out, exported);
    fs::write(&file, "{\"hit\": \"exact\"}\n{\"hit\": 7}\n").unwrap();
    let wrong = Run::of(place.machine.nix_cache(&["history", "import", file.to_str().unwrap(), "--remote", &remote]));
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.log.contains("Line 2 of ") && wrong.log.contains("runs.jsonl"), "{wrong:?}");
}
