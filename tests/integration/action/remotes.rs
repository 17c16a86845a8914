//! The input `remote`: another place than GitHub's cache.

use super::job::Job;
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, RestPermission};
use crate::support::{moto, nix};

/// Made with `nix key generate-secret`, for these tests only.
const SECRET: &str =
    "cache.example-1:jppvrpnHmfpu0SfXMvcjo6D1t35OCnkhPYPK/6suZ11+d04jNoUW8xImmf8/FHMc7PZcz/FPzOelLnjzJOQGEQ==";
const PUBLIC: &str = "cache.example-1:fndOIzaFFvMSJpn/PxRzHOz2XM/xT8znpS548yTkBhE=";

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
    assert!(step.log.contains("uses it only with signed snapshots"), "{}", step.log);
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
    let Some(server) = moto::server() else {
        assert!(
            std::env::var_os("NIX_CACHE_TEST_REQUIRE_ALL").is_none(),
            "moto is not installed: scripts/setup-act.sh"
        );
        return;
    };
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
