//! Layers that disappear between the restore and the save of one job: the save stores them again, so that the next job has everything.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::job::Job;
use super::place::Place;
use super::remotes::{PUBLIC, SECRET};
use crate::support::fake::{Fake, FakeConfig, RestPermission};
use crate::support::{moto, nix};

/// What a lifecycle rule of a bucket, or somebody with a shell, does: deletes every layer. Returns their number.
type Deletion<'a> = &'a dyn Fn() -> usize;

fn check(place: &Place, fake: &Fake, name: &str, remote: &str, delete_layers: Deletion<'_>) {
    let run = |number: &str| -> Job {
        let mut job = place.job_unstarted(fake, &format!("{name}-{number}"), RestPermission::Read);
        for (input, value) in [("remote", remote), ("trusted-public-keys", PUBLIC), ("signing-key", SECRET)] {
            job.input(input, value);
        }
        for (variable, value) in moto::KEYS {
            job.set(variable, value);
        }
        assert_eq!(job.restore().code, Some(0));
        job
    };
    let first = run("first");
    place.work(&first);
    assert_eq!(first.post().report["save"]["outcome"], "saved");

    let second = run("second");
    assert_eq!((second.outputs()["hit"].as_str(), second.store.valid()), ("exact", place.paths.clone()));
    assert!(delete_layers() > 0, "{name}");
    second.store.build(&["one", "count=7"]);
    let (saved, all) = (second.post(), second.store.valid());
    assert_eq!(saved.report["save"]["outcome"], "saved", "{}", saved.log);
    assert!(saved.notes().contains(&"entries-lost"), "{name}: {}", saved.log);

    let third = run("third");
    assert_eq!(third.outputs()["hit"], "exact");
    assert_eq!(third.store.valid(), all, "{name}");
    assert_eq!(third.store.builds(&["everything", "count=5"]), 0, "{name}");
    third.store.assert_verifies();
    assert_eq!(third.post().report["save"]["reason"], "nothing-new", "{name}");
}

#[test]
fn layers_that_are_deleted_from_a_directory_during_a_job_are_stored_again() {
    let Some(nix) = nix::all().last() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let disk = place.machine.path("disk");
    let files = || fs::read_dir(disk.join("layer")).unwrap().map(|file| file.unwrap().path());
    let delete = || files().map(|file| fs::remove_file(file).unwrap()).count();
    check(&place, &fake, "directory", &format!("dir:{}", disk.display()), &delete);
}

#[test]
fn layers_that_are_deleted_from_an_object_store_during_a_job_are_stored_again() {
    let Some(nix) = nix::all().last() else { return };
    let Some(server) = moto::server() else { return };
    let (place, fake) = (Place::new(nix), Fake::start(FakeConfig::default()));
    let bucket = moto::bucket(server);
    let delete =
        || objects(server, &bucket, "ci/v1/layer/").iter().map(|key| drop_object(server, &bucket, key)).count();
    check(&place, &fake, "bucket", &format!("s3://{bucket}/ci?endpoint=http://{server}"), &delete);
}

/// The names of the objects below `prefix`.
fn objects(server: SocketAddr, bucket: &str, prefix: &str) -> Vec<String> {
    let answer = moto::plain(server, "GET", &format!("/{bucket}?list-type=2&prefix={prefix}"));
    let keys = answer.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
    keys.map(|(key, _)| key.to_owned()).collect()
}

fn drop_object(server: SocketAddr, bucket: &str, key: &str) {
    let answer = moto::plain(server, "DELETE", &Path::new("/").join(bucket).join(key).display().to_string());
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}
