//! The order of reads, which the next job of the lane gets from the start.

use nix_cache::base::digest::Sha;
use nix_cache::snapshot::{Layer, Snapshot};

use super::*;
use crate::support::cache::{assert_whole, copy};

fn newest(cache: &Path) -> Snapshot {
    let snapshots = assert_whole(cache);
    let newest =
        snapshots.into_iter().max_by_key(|(_, snapshot)| snapshot.facts.created.max(snapshot.lanes["default"].used));
    newest.unwrap().1
}

#[test]
fn what_a_job_read_is_fetched_first_in_the_next_one() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    add(&saved, "one", 24);
    saved.save(&cache, KEY, &[]);
    let idle = "stream_fill=600000";
    let (first, outcome) = streamed(machine.store("first"), &cache, &[], idle);
    assert_streamed(&outcome);
    let tables = status(&first.0)["bytes-here"].as_u64().unwrap();
    let one = first.0.dirs().real(&path_named(&first.0, "one"));
    fs::read(one.join("file-12")).unwrap();
    assert!(status(&first.0)["bytes-here"].as_u64() > Some(tables));
    assert_eq!(first.0.save(&cache, KEY, &[])["reason"], "lane-grew");
    detach_cleanly(&first.0);
    let snapshot = newest(&cache);
    assert!(!snapshot.lanes["default"].trace.units.is_empty(), "{:?}", snapshot.lanes);
    let (second, outcome) = streamed(machine.store("second"), &cache, &[], idle);
    assert_streamed(&outcome);
    // The file is on two chunks, and nothing else is fetched.
    wait_for("the fetch of what was read", || status(&second.0)["bytes-here"].as_u64() >= Some(tables + (2 << 20)));
    // The same reads again are nothing to save.
    fs::read(second.0.dirs().real(&path_named(&second.0, "one")).join("file-12")).unwrap();
    assert_eq!(second.0.save(&cache, KEY, &[])["reason"], "nothing-new");
    detach_cleanly(&second.0);
}

/// The stored bytes of the last job are gone then, so its trace helps only through the names of paths.
#[test]
fn after_a_change_of_the_lock_paths_of_the_same_names_are_fetched_first() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    add(&saved, "read", 6);
    add(&saved, "other", 6);
    saved.save(&cache, KEY, &[]);
    let idle = "stream_fill=600000";
    let (first, outcome) = streamed(machine.store("first"), &cache, &[], idle);
    assert_streamed(&outcome);
    let read = first.0.dirs().real(&path_named(&first.0, "read"));
    for number in 0..6 {
        fs::read(read.join(format!("file-{number}"))).unwrap();
    }
    assert_eq!(first.0.save(&cache, KEY, &[])["reason"], "lane-grew");
    detach_cleanly(&first.0);
    let before = newest(&cache);
    let paths: Vec<&str> = before.lanes["default"].trace.paths.iter().map(StorePath::name).collect();
    // Where the other one begins is read with the superblock.
    assert!(paths.contains(&"read"), "{paths:?}");

    let (key, prefix) = ("tests-two", ["--restore-prefixes-first-match", "tests-"]);
    let bumped = machine.store("bumped");
    let near = bumped.restore(&cache, key, &[&["--restore-mode", "unpack"][..], &prefix].concat());
    assert_eq!(near["hit"], "partial", "{near}");
    let old: Vec<String> = bumped.valid().iter().map(full).collect();
    bumped.nix_store(&[&["--delete"][..], &old.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    for (name, from) in [("read", "later"), ("other", "much")] {
        // Other bytes under the same name.
        let (folder, bytes) = (source(&machine, name, 0), source(&machine, from, if name == "read" { 6 } else { 20 }));
        for file in entries(&folder) {
            fs::remove_file(folder.join(&file)).unwrap();
        }
        for file in entries(&bytes) {
            fs::copy(bytes.join(&file), folder.join(&file)).unwrap();
        }
        let name = if name == "read" { folder.clone() } else { folder.with_file_name("unknown") };
        if name != folder {
            fs::rename(&folder, &name).unwrap();
        }
        bumped.nix_store(&["--add", name.to_str().unwrap()]);
    }
    let outcome = bumped.save(&cache, key, &[]);
    assert!(outcome["saved"].is_object(), "{outcome}");
    let after = assert_whole(&cache).into_iter().find(|(name, _)| name.starts_with(key)).unwrap().1;
    assert_eq!((after.layers.len(), after.paths.len()), (1, 2), "{:?}", after.paths.keys());
    let second = Streamed(machine.store("second"));
    let mut command = second.0.verb("restore", &cache, key, &STREAM);
    command.env("NIX_CACHE_TUNING", idle);
    assert_streamed(&Run::of(command).json());
    let here = || status(&second.0)["bytes-here"].as_u64().unwrap();
    wait_for("the fetch of the path of the same name", || here() >= 6 << 20);
    std::thread::sleep(Duration::from_millis(100));
    assert!(here() < 10 << 20, "{} of the other path came too", here());
    detach_cleanly(&second.0);
}

/// The layer of the path with this name in the newest snapshot.
fn layer_of(cache: &Path, name: &str) -> Sha {
    let snapshot = newest(cache);
    let holds = |layer: &Layer| layer.paths.iter().any(|(path, _)| path.name() == name);
    *snapshot.layers.iter().find(|(_, layer)| holds(layer)).unwrap().0
}

#[test]
fn after_layers_are_packed_again_the_paths_that_a_job_read_are_fetched_first() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, aside) = (machine.path("cache"), machine.path("aside"));
    let names: Vec<String> = (0..9).map(|number| format!("path-{number}")).collect();
    let saved = machine.store("saved");
    for name in &names[..8] {
        add(&saved, name, 8);
        assert!(saved.save(&cache, KEY, &[])["saved"].is_object());
    }
    assert_eq!(newest(&cache).layers.len(), 8);
    // A ninth layer is too many. Which of the others are packed with it shows in a copy of the cache.
    copy(&cache, &aside);
    add(&saved, &names[8], 8);
    assert!(saved.save(&aside, KEY, &[])["saved"].is_object());
    let read =
        names[..8].iter().find(|name| layer_of(&cache, name) != layer_of(&aside, name)).expect("one is packed again");

    let idle = "stream_fill=600000";
    let (first, outcome) = streamed(machine.store("first"), &cache, &[], idle);
    assert_streamed(&outcome);
    let path = first.0.dirs().real(&path_named(&first.0, read));
    for number in 0..8 {
        fs::read(path.join(format!("file-{number}"))).unwrap();
    }
    assert_eq!(first.0.save(&cache, KEY, &[])["reason"], "lane-grew");
    detach_cleanly(&first.0);
    let before = layer_of(&cache, read);
    assert!(saved.save(&cache, KEY, &[])["saved"].is_object());
    assert_ne!(layer_of(&cache, read), before);

    let (second, outcome) = streamed(machine.store("second"), &cache, &[], idle);
    assert_streamed(&outcome);
    let units = newest(&cache).lanes["default"].trace.units.clone();
    wait_for("the fetch of what was read", || arrived(&second.0).0 >= 8 << 20);
    std::thread::sleep(Duration::from_millis(500));
    let (here, all) = arrived(&second.0);
    assert!(here < all / 2, "{here} of {all} bytes came; the trace: {units:?}");
    // They are those of that path.
    fs::rename(&cache, machine.path("away")).unwrap();
    let path = second.0.dirs().real(&path_named(&second.0, read));
    for number in 0..8 {
        let original = machine.path(&format!("{read}-source/{read}/file-{number}"));
        assert_eq!(fs::read(path.join(format!("file-{number}"))).unwrap(), fs::read(original).unwrap());
    }
    detach_cleanly(&second.0);
}
