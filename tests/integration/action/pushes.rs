//! The input `push-to` of the main action.

use super::job::Job;
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, RestPermission};
use crate::support::nix;

/// Made with `nix key generate-secret`, for these tests only.
const SECRET: &str =
    "cache.example-1:jppvrpnHmfpu0SfXMvcjo6D1t35OCnkhPYPK/6suZ11+d04jNoUW8xImmf8/FHMc7PZcz/FPzOelLnjzJOQGEQ==";

fn job(place: &Place, fake: &Fake, name: &str, inputs: &[(&str, &str)]) -> Job {
    let mut job = place.job_unstarted(fake, name, RestPermission::Read);
    job.keep_secret(SECRET);
    for (name, value) in inputs {
        job.input(name, value);
    }
    job
}

#[test]
fn what_a_job_built_is_pushed_when_it_ends() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let (cache, other) = (place.machine.path("sink"), place.machine.path("other"));
    std::fs::write(&other, "not a folder").unwrap();
    let sinks = format!("file://{}\nfile://{}/x", cache.display(), other.display());
    let first = job(&place, &fake, "first", &[("push-to", &sinks), ("signing-key", SECRET)]);
    assert_eq!(first.restore().code, Some(0));
    first.store.build(&["onTop"]);
    let step = first.post();
    // One sink refuses. The job stays green, the other sink gets everything.
    assert_eq!((step.code, step.notes()), (Some(0), vec!["push-refused"]), "{}", step.log);
    assert_eq!(step.report["save"]["outcome"], "saved");
    let summary = first.summary();
    assert!(summary.contains("### Pushed to binary caches") && summary.contains("sink"), "{summary}");
    let narinfos = std::fs::read_dir(&cache)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "narinfo"));
    assert!(narinfos.count() >= 2);

    // With `on-success`, a failed job pushes nothing; a later one pushes nothing that is there.
    let inputs = [("push-to", &*sinks), ("signing-key", SECRET), ("save", "on-success"), ("job-status", "failure")];
    let failed = job(&place, &fake, "failed", &inputs);
    assert_eq!(failed.restore().code, Some(0));
    failed.store.build(&["one"]);
    let step = failed.post();
    assert!(step.log.contains("Nothing is pushed") && !failed.summary().contains("Pushed to"), "{}", step.log);
}

#[test]
fn a_sink_that_cannot_be_is_an_error_of_the_input() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    for wrong in ["ftp://example.org", "file:///a\nhttps://u:hunter2@example.org"] {
        let step = job(&place, &fake, "wrong", &[("push-to", wrong)]).restore();
        assert_eq!(step.code, Some(2), "{wrong}: {}", step.log);
        assert!(step.log.contains("Correct the input \"push-to\".") && !step.log.contains("hunter2"), "{}", step.log);
    }
}
