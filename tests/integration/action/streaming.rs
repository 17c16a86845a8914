//! Jobs that stream, and what they leave to the next one.

use std::fs;
use std::path::Path;

use super::job::Job;
use crate::mounted;
use crate::support::fake::{Fake, FakeConfig, RestPermission};
use crate::support::machine::Machine;
use crate::support::random::mix;

/// Adds a path of some MiB that do not compress.
fn add(job: &Job, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for number in 0..8_u64 {
        let words = (0..1 << 17).map(|at| mix((number << 20) + at).to_le_bytes());
        fs::write(folder.join(format!("file-{number}")), words.collect::<Vec<_>>().concat()).unwrap();
    }
    job.store.nix_store(&["--add", folder.to_str().unwrap()]);
}

/// Changes a byte in every MiB but the first two and the last two.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    for part in 2..(bytes.len() >> 20) - 2 {
        bytes[(part << 20) + 1000] ^= 1;
    }
    fs::write(file, bytes).unwrap();
}

/// Whoever looks at a job that could not read something must find out why, also where nothing is saved.
#[test]
fn a_layer_that_is_damaged_is_an_annotation_of_each_job_and_the_next_save_replaces_it() {
    let Some(nix) = mounted::nixes().last() else { return };
    let (machine, fake) = (Machine::new(nix), Fake::start(FakeConfig::default()));
    let disk = machine.path("disk");
    let run = |name: &str, save: &str| {
        let mut job = Job::new(&machine, &fake, name, RestPermission::Read);
        job.input("remote", &format!("dir:{}", disk.display()));
        job.input("restore-mode", "stream");
        job.input("save", save);
        job.set("NIX_CACHE_TUNING", "blob_delay=20,stream_give_up=100,stream_fill=600000");
        assert_eq!(job.restore().code, Some(0));
        job
    };
    let folder = machine.path("one");
    let first = run("first", "auto");
    add(&first, &folder);
    assert_eq!(first.post().report["save"]["outcome"], "saved");
    let [layer] = <[_; 1]>::try_from(crate::support::cache::entries(&disk, "layer")).unwrap();
    damage(&layer);
    for (name, save) in [("second", "never"), ("third", "auto")] {
        let job = run(name, save);
        assert_eq!(job.outputs()["hit"], "exact");
        let path = job.store.valid().into_iter().find(|path| path.name() == "one").unwrap();
        fs::read(job.store.dirs().real(&path).join("file-4")).unwrap_err();
        let post = job.post();
        mounted::run_detach(&job.store).json();
        assert_eq!(post.code, Some(0));
        let annotation = post.log.lines().find(|line| line.starts_with("::warning") && line.contains("of layer"));
        let annotation = annotation.unwrap_or_else(|| panic!("{}", post.log));
        assert!(annotation.contains(path.as_str()) && annotation.contains("next save"), "{annotation}");
        assert_eq!(post.notes().iter().filter(|note| **note == "layer-lost").count(), 1, "{:?}", post.notes());
        let wanted = if save == "never" { "skipped" } else { "saved" };
        assert_eq!(post.report["save"]["outcome"], wanted, "{}", post.log);
    }
    // Nobody is told to read it any more.
    let fourth = run("fourth", "auto");
    assert!(fourth.store.valid().iter().all(|path| path.name() != "one"));
    add(&fourth, &folder);
    let post = fourth.post();
    mounted::run_detach(&fourth.store);
    assert_eq!(post.report["save"]["outcome"], "saved", "{}", post.log);
    assert!(!post.notes().contains(&"layer-lost"), "{}", post.log);
}
