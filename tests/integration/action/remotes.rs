//! The input `remote`: another place than GitHub's cache.

use super::job::Job;
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, RestPermission};
use crate::support::{moto, nix};

/// Made with `nix key generate-secret`, for these tests only.
pub(super) const SECRET: &str =
    "cache.example-1:jppvrpnHmfpu0SfXMvcjo6D1t35OCnkhPYPK/6suZ11+d04jNoUW8xImmf8/FHMc7PZcz/FPzOelLnjzJOQGEQ==";
pub(super) const PUBLIC: &str = "cache.example-1:fndOIzaFFvMSJpn/PxRzHOz2XM/xT8znpS548yTkBhE=";

fn job(place: &Place, fake: &Fake, name: &str, inputs: &[(&str, &str)]) -> Job {
    let mut job = place.job_unstarted(fake, name, RestPermission::Read);
    job.input("history", "false");
    for (name, value) in inputs {
        job.input(name, value);
    }
    job
}

#[test]
fn a_directory_takes_the_place_of_the_cache_service() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let folder = place.machine.path("shared disk");
    std::fs::create_dir(&folder).unwrap();
    let remote = format!("dir:{}", folder.display());
    let first = job(&place, &fake, "first", &[("remote", &remote)]);
    assert_eq!(first.restore().code, Some(0));
    place.work(&first);
    assert_eq!(first.post().report["save"]["outcome"], "saved");
    let second = job(&place, &fake, "second", &[("remote", &remote)]);
    let step = second.restore();
    assert_eq!((step.code, second.outputs()["hit"].as_str()), (Some(0), "exact"), "{}", step.log);
    assert!(fake.entries().is_empty(), "GitHub's cache is not used");
}

#[test]
fn a_remote_that_cannot_be_is_an_error_of_the_input() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    for wrong in ["s4://bucket", "s3://", "dir:", "https://example.org"] {
        let step = job(&place, &fake, "wrong", &[("remote", wrong)]).restore();
        assert_ne!(step.code, Some(0), "{wrong}: {}", step.log);
        assert!(step.log.contains("Correct the input \"remote\"."), "{wrong}: {}", step.log);
    }
}

#[test]
fn an_object_store_is_used_with_signatures_only() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    // Nothing listens there, and without keys nothing is asked.
    let remote = ("remote", "s3://bucket/ci?endpoint=http://127.0.0.1:9&region=us-east-1");
    let mut unsigned = job(&place, &fake, "unsigned", &[remote]);
    unsigned.set("AWS_ACCESS_KEY_ID", "id");
    unsigned.set("AWS_SECRET_ACCESS_KEY", "secret");
    let step = unsigned.restore();
    assert_eq!((step.code, unsigned.outputs()["hit"].as_str()), (Some(0), "miss"), "{}", step.log);
    assert!(step.log.contains("is used only with signed snapshots"), "{}", step.log);
    assert!(!step.log.contains("127.0.0.1:9"), "{}", step.log);

    let mut reader = job(&place, &fake, "reader", &[remote, ("trusted-public-keys", PUBLIC)]);
    reader.set("AWS_ACCESS_KEY_ID", "id");
    reader.set("AWS_SECRET_ACCESS_KEY", "secret");
    assert_eq!(reader.restore().code, Some(0));
    place.work(&reader);
    let saved = reader.post();
    assert_eq!(
        (&saved.report["save"]["outcome"], &saved.report["save"]["reason"]),
        (&"skipped".into(), &"unsigned".into())
    );
}

#[test]
fn an_object_store_takes_the_place_of_the_cache_service() {
    let Some(nix) = nix::all().last() else { return };
    let Some(server) = moto::server() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let remote = format!("s3://{}/ci?endpoint=http://{server}", moto::bucket(server));
    let run = |name: &str, more: &[(&str, &str)]| {
        let mut job =
            job(&place, &fake, name, &[&[("remote", &*remote), ("trusted-public-keys", PUBLIC)], more].concat());
        for (name, value) in moto::KEYS {
            job.set(name, value);
        }
        job.keep_secret("tests/secret+key");
        assert_eq!(job.restore().code, Some(0));
        job
    };
    let first = run("first", &[("signing-key", SECRET)]);
    assert_eq!(first.outputs()["hit"], "miss");
    place.work(&first);
    let saved = first.post();
    assert_eq!(saved.report["save"]["outcome"], "saved", "{}", saved.log);
    let second = run("second", &[]);
    assert_eq!(second.outputs()["hit"], "exact");
    assert!(fake.entries().is_empty(), "GitHub's cache is not used");
}

#[test]
fn the_nearest_snapshot_of_several_remotes_wins_and_one_that_fails_is_a_note() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let disk = format!("dir:{}", place.machine.path("disk").display());
    let first = job(&place, &fake, "first", &[("remote", &disk)]);
    assert_eq!(first.restore().code, Some(0));
    place.work(&first);
    assert_eq!(first.post().report["save"]["outcome"], "saved");

    // GitHub's cache has nothing, so the directory serves, and nothing is new.
    let both = format!("github\n{disk} read-only");
    let second = job(&place, &fake, "second", &[("remote", &both)]);
    let step = second.restore();
    assert_eq!((step.code, second.outputs()["hit"].as_str()), (Some(0), "exact"), "{}", step.log);
    assert_eq!(second.store.valid(), place.paths);
    second.post();
    assert!(fake.entries().is_empty(), "{:?}", fake.entries());

    // What is new is saved to the main remote, in a snapshot that names the layers of the directory too.
    let third = job(&place, &fake, "third", &[("remote", &both)]);
    assert_eq!((third.restore().code, third.outputs()["hit"].as_str()), (Some(0), "exact"));
    third.store.build(&["one", "count=7"]);
    let saved = third.post();
    assert_eq!(saved.report["save"]["outcome"], "saved", "{}", saved.log);
    assert!(!fake.entries().is_empty());
    let fourth = job(&place, &fake, "fourth", &[("remote", &both)]);
    let step = fourth.restore();
    assert_eq!(fourth.outputs()["hit"], "exact", "{}", step.log);
    assert!(fourth.store.valid().is_superset(&place.paths), "layers of both");

    // One of them cannot be used: the other one is, and the report says so.
    let broken = format!("{disk}\ns3://bucket/x?endpoint=http://127.0.0.1:9&region=eu-west-1 read-only");
    let fifth = job(&place, &fake, "fifth", &[("remote", &broken), ("trusted-public-keys", PUBLIC)]);
    let step = fifth.restore();
    assert!(step.code == Some(0) && step.notes().contains(&"remote-failed"), "{}", step.log);
    let mut sixth = job(&place, &fake, "sixth", &[("remote", &both)]);
    sixth.set("ACTIONS_RESULTS_URL", "");
    let step = sixth.restore();
    assert_eq!(sixth.outputs()["hit"], "exact", "{}", step.log);
    assert!(step.notes().contains(&"remote-failed"), "{}", step.log);
    assert_eq!(sixth.post().code, Some(0));
}

#[test]
fn a_pull_request_saves_to_a_directory_only_with_a_signature() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let disk = format!("dir:{}", place.machine.path("disk").display());
    let run = |name: &str, event: &str, keys: &[(&str, &str)]| {
        let mut job = job(&place, &fake, name, &[&[("remote", &*disk)], keys].concat());
        job.set("GITHUB_EVENT_NAME", event);
        assert_eq!(job.restore().code, Some(0));
        place.work(&job);
        job.keep_secret(SECRET);
        (job.post(), job)
    };
    let (saved, _) = run("unsigned", "pull_request", &[]);
    assert_eq!(saved.report["save"]["reason"], "unsigned", "{}", saved.log);
    let entries = || std::fs::read_dir(place.machine.path("disk/snapshot")).unwrap().count();
    assert_eq!(entries(), 0);
    let (saved, _) = run("signed", "pull_request", &[("signing-key", SECRET), ("trusted-public-keys", PUBLIC)]);
    assert_eq!((&saved.report["save"]["outcome"], entries()), (&"saved".into(), 1), "{}", saved.log);
    let (saved, _) = run("push", "push", &[]);
    assert_ne!(saved.report["save"]["reason"], "unsigned", "{}", saved.log);
}

#[test]
fn repositories_share_snapshots_in_a_bucket_where_both_name_keys() {
    let Some(nix) = nix::all().last() else { return };
    let Some(server) = moto::server() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let remote = format!("s3://{}/ci?endpoint=http://{server}", moto::bucket(server));
    let run = |name: &str, repository: &str, more: &[(&str, &str)]| {
        let mut job = job(&place, &fake, name, &[&[("remote", &*remote)], more].concat());
        for (name, value) in moto::KEYS {
            job.set(name, value);
        }
        job.set("GITHUB_REPOSITORY", repository);
        let step = job.restore();
        (step, job)
    };
    let (_, first) = run("first", "octo/One", &[("trusted-public-keys", PUBLIC), ("signing-key", SECRET)]);
    place.work(&first);
    assert_eq!(first.post().report["save"]["outcome"], "saved");
    let trusts = ("trusted-public-keys", PUBLIC);
    let shares = ("share-with", "octo/one");
    let hit = |name: &str, more: &[(&str, &str)]| {
        let (step, job) = run(name, "octo/two", more);
        assert_eq!(step.code, Some(0), "{}", step.log);
        job.outputs()["hit"].clone()
    };
    assert_eq!(hit("apart", &[trusts]), "miss");
    assert_eq!(hit("shared", &[trusts, shares]), "exact");
    let other = "cache.other-1:vz+XRVSLRkCZ2uM58L4+C5Gz728DR16gOTtxackRHRg=";
    assert_eq!(hit("distrusted", &[("trusted-public-keys", other), shares]), "miss");
    assert_eq!(hit("unsigned", &[shares]), "miss");
    // GitHub's cache in front, and the bucket only read.
    let both = format!("github\n{remote} read-only");
    let (step, behind) = run("behind", "octo/one", &[trusts, ("remote", &both)]);
    assert_eq!(behind.outputs()["hit"], "exact", "{}", step.log);

    let (step, _) = run("wrong", "octo/two", &[trusts, ("share-with", "one")]);
    assert!(step.code == Some(2) && step.log.contains("share-with"), "{}", step.log);
    let mut github = job(&place, &fake, "github", &[shares]);
    github.set("NIX_CACHE_REMOTE", "");
    let step = github.restore();
    assert!(step.code == Some(2) && step.log.contains("belongs to one repository"), "{}", step.log);
    let disk = format!("dir:{}", place.machine.path("disk").display());
    let step = job(&place, &fake, "disk", &[shares, ("remote", &disk)]).restore();
    assert!(step.code == Some(0) && step.log.contains("is used only with signed snapshots"), "{}", step.log);
}
