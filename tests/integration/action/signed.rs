//! Signing keys as inputs of the action: every level of the cache is signed, and the secret key goes nowhere.

use std::fs;

use super::job::Job;
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, RestPermission};
use crate::support::nix;

/// Made with `nix key generate-secret`, for these tests only.
const SECRET: &str =
    "cache.example-1:jppvrpnHmfpu0SfXMvcjo6D1t35OCnkhPYPK/6suZ11+d04jNoUW8xImmf8/FHMc7PZcz/FPzOelLnjzJOQGEQ==";
const PUBLIC: &str = "cache.example-1:fndOIzaFFvMSJpn/PxRzHOz2XM/xT8znpS548yTkBhE=";
const OTHER_PUBLIC: &str = "cache.other-1:vz+XRVSLRkCZ2uM58L4+C5Gz728DR16gOTtxackRHRg=";

fn job(place: &Place, fake: &Fake, name: &str, inputs: &[(&str, &str)]) -> Job {
    let mut job = place.job_unstarted(fake, name, RestPermission::Read);
    job.input("paths", "notes");
    job.keep_secret(SECRET);
    for (name, value) in inputs {
        job.input(name, value);
    }
    job
}

fn note_of(job: &Job) -> Option<String> {
    fs::read_to_string(job.workspace().join("notes/note")).ok()
}

fn write_note(job: &Job, text: &str) {
    fs::create_dir_all(job.workspace().join("notes")).unwrap();
    fs::write(job.workspace().join("notes/note"), text).unwrap();
}

#[test]
fn both_levels_are_signed_and_what_is_not_is_a_miss() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let plain = job(&place, &fake, "plain", &[]);
    assert_eq!(plain.restore().code, Some(0));
    write_note(&plain, "not signed");
    place.work(&plain);
    assert_eq!(plain.post().report["save"]["outcome"], "saved");

    let signer = job(&place, &fake, "signer", &[("signing-key", SECRET)]);
    let step = signer.restore();
    assert_eq!((signer.outputs()["hit"].as_str(), note_of(&signer)), ("miss", None), "{}", step.log);
    assert!(step.notes().contains(&"snapshot-untrusted") && step.notes().contains(&"files-untrusted"), "{}", step.log);
    write_note(&signer, "signed");
    place.work(&signer);
    let saved = signer.post();
    assert_eq!((&saved.report["save"]["outcome"], &saved.report["save"]["generation"]), (&"saved".into(), &2.into()));

    let reader = job(&place, &fake, "reader", &[("trusted-public-keys", &format!("{OTHER_PUBLIC}\n{PUBLIC}"))]);
    let step = reader.restore();
    assert_eq!(
        (reader.outputs()["hit"].as_str(), note_of(&reader).as_deref()),
        ("exact", Some("signed")),
        "{}",
        step.log
    );
    assert_eq!(reader.store.valid(), place.paths);
    assert!(step.notes().is_empty(), "{:?}", step.notes());
    // It cannot sign, so it saves nothing: not the store, not the files.
    write_note(&reader, "changed");
    let (saved, entries) = (reader.post(), fake.entries().len());
    assert_eq!(saved.report["save"]["reason"], "no-signing-key", "{}", saved.log);
    assert!(!saved.log.contains("::warning"), "{}", saved.log);
    assert_eq!(fake.entries().len(), entries);

    let stranger = job(&place, &fake, "stranger", &[("trusted-public-keys", OTHER_PUBLIC)]);
    let step = stranger.restore();
    assert_eq!((stranger.outputs()["hit"].as_str(), note_of(&stranger)), ("miss", None), "{}", step.log);
    assert!(step.log.contains("cache.example-1, which `trusted-public-keys` does not name"), "{}", step.log);
}

#[test]
fn what_one_step_took_over_unsigned_another_does_not_sign() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let plain = job(&place, &fake, "plain", &[]);
    plain.restore();
    write_note(&plain, "not signed");
    plain.post();
    // Of this key there are files, and no store paths.
    let mut half = job(&place, &fake, "half", &[]);
    half.restore();
    assert_eq!(note_of(&half).as_deref(), Some("not signed"));
    place.work(&half);
    half.input("signing-key", SECRET);
    let (saved, before) = (half.post(), fake.entries().len());
    assert_eq!(
        (&saved.report["save"]["outcome"], &saved.report["save"]["reason"]),
        (&"failed".into(), &"not-verified".into())
    );
    assert!(saved.log.contains("::warning") && saved.notes().contains(&"not-verified"), "{}", saved.log);
    assert_eq!(fake.entries().len(), before);
}

#[test]
fn a_key_that_does_not_reach_the_post_step_costs_the_save_and_no_more() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let mut lost = job(&place, &fake, "lost", &[("signing-key", SECRET), ("signing-key-digest", "00")]);
    assert_eq!(lost.restore().code, Some(0));
    place.work(&lost);
    lost.input("signing-key", "");
    let saved = lost.post();
    assert_eq!((saved.code, &saved.report["save"]["reason"]), (Some(0), &"no-signing-key".into()), "{}", saved.log);
    assert!(saved.log.contains("::warning") && fake.entries().is_empty(), "{}", saved.log);
}

#[test]
fn a_broken_key_fails_the_job_and_is_not_shown() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    for (name, value) in [("signing-key", &SECRET[..SECRET.len() - 4]), ("trusted-public-keys", SECRET)] {
        let job = job(&place, &fake, name, &[(name, value)]);
        let step = job.restore();
        assert_eq!(step.code, Some(2), "{}", step.log);
        let lines = step.log.lines().filter(|line| !line.starts_with("::add-mask::"));
        assert!(lines.into_iter().all(|line| !line.contains(&SECRET[20..50])), "{}", step.log);
    }
}
