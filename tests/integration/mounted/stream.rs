//! Streamed layers: everything that is done with mounted ones, while their bytes arrive or do not.

mod arriving;
mod control;
mod damage;
mod dying;
mod faults;
mod layers;
mod outage;
mod pressure;
mod recipes;
mod remotes;
mod trace;

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::support::program::notes;
use crate::support::random::mix;

/// The option that asks for streaming.
pub(super) const STREAM: [&str; 2] = ["--restore-mode", "stream"];

/// The folder of the stream of a store.
fn stream_of(store: &TestStore) -> Option<PathBuf> {
    let own = store.dirs().own_dir().metadata().unwrap();
    let prefix = format!("nix-cache-stream-{}-{}.", own.dev(), own.ino());
    let found: Vec<String> = entries(Path::new("/run")).into_iter().filter(|name| name.starts_with(&prefix)).collect();
    assert!(found.len() < 2, "{found:?}");
    found.first().map(|name| Path::new("/run").join(name))
}

/// What the worker says about itself.
fn status(store: &TestStore) -> Value {
    let file = stream_of(store).expect("layers are streamed").join("files/control");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// How many bytes are here, of how many.
fn arrived(store: &TestStore) -> (u64, u64) {
    let status = status(store);
    let [here, all] = ["bytes-here", "bytes"].map(|field| status[field].as_u64().unwrap());
    (here, all)
}

/// The process that fetches.
fn worker(store: &TestStore) -> Pid {
    Pid::from_raw(status(store)["pid"].as_i64().unwrap() as i32).unwrap()
}

fn becomes(is_so: impl Fn() -> bool) -> bool {
    for _ in 0..1500 {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    assert!(becomes(is_so), "{what} does not happen");
}

fn assert_no_stream(store: &TestStore) {
    wait_for("the end of the server", || stream_of(store).is_none());
}

/// A store with streamed layers, which is detached at the end, however the test ends.
struct Streamed(TestStore);

impl Drop for Streamed {
    fn drop(&mut self) {
        run_detach(&self.0);
    }
}

/// Bytes that do not compress, in some files of a folder.
fn source(machine: &Machine, name: &str, mebibytes: u64) -> PathBuf {
    let folder = machine.path(&format!("{name}-source/{name}"));
    fs::create_dir_all(&folder).unwrap();
    let seed = name.bytes().fold(7, |seed, byte| mix(seed + u64::from(byte)));
    for number in 0..mebibytes {
        let words = (0..1 << 17).map(|at| mix(seed + (number << 20) + at).to_le_bytes());
        fs::write(folder.join(format!("file-{number}")), words.collect::<Vec<_>>().concat()).unwrap();
    }
    folder
}

fn add(store: &TestStore, name: &str, mebibytes: u64) {
    store.nix_store(&["--add", source(&store.machine, name, mebibytes).to_str().unwrap()]);
}

fn streamed(store: TestStore, cache: &Path, more: &[&str], tuning: &str) -> (Streamed, Value) {
    let streamed = Streamed(store);
    let mut command = streamed.0.verb("restore", cache, KEY, &[&STREAM, more].concat());
    command.env("NIX_CACHE_TUNING", tuning);
    let outcome = Run::of(command).json();
    (streamed, outcome)
}

fn assert_streamed(outcome: &Value) {
    assert_eq!((&outcome["mode"], &outcome["hit"]), (&"stream".into(), &"exact".into()), "{outcome}");
    assert_eq!(outcome["paths-lost"], 0, "{outcome}");
}

#[test]
fn a_streamed_store_is_whole_and_is_detached_without_a_trace() {
    for bench in benches() {
        let (streamed, outcome) = streamed(bench.machine.store("streamed"), &bench.cache, &[], "");
        assert_streamed(&outcome);
        let store = &streamed.0;
        assert_eq!(store.valid(), bench.saved.valid());
        store.assert_verifies();
        assert_eq!(store.builds(&["everything"]), 0);
        // A new path, which refers to a streamed one.
        store.build(&["onTop"]);
        let saved = store.save(&bench.machine.path("other"), KEY, &[]);
        assert!(saved["saved"].is_object(), "{saved}");
        detach_cleanly(store);
        assert_no_stream(store);
        assert_eq!(store.builds(&["onTop"]), 0);
    }
}

/// The restore reads all derivations. They lie together, so it neither waits for many chunks nor fetches the rest of the layer.
#[test]
fn a_restore_fetches_little_of_a_layer_with_derivations_between_large_paths() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    saved.build(&["everything"]);
    let derivations: Vec<String> =
        saved.valid().iter().filter(|path| path.is_derivation()).map(|path| path.name().to_owned()).collect();
    assert!(derivations.len() > 8, "{derivations:?}");
    for name in &derivations {
        add(&saved, name.trim_end_matches(".drv"), 2);
    }
    saved.save(&cache, KEY, &[]);
    let (streamed, outcome) = streamed(machine.store("streamed"), &cache, &[], "stream_fill=600000");
    assert_streamed(&outcome);
    assert_eq!(streamed.0.valid(), saved.valid());
    let (here, all) = arrived(&streamed.0);
    assert!(all > derivations.len() as u64 * (2 << 20) && here < 5 << 20, "{here} of {all} bytes");
}

#[test]
fn a_store_that_cannot_be_mounted_is_unpacked_from_the_stream() {
    let Some(nix) = nixes().last() else { return };
    let bench = Bench::new(nix);
    let store = bench.machine.store("streamed");
    let lock = store.dirs().real_store().join(format!("{}.lock", path_named(&bench.saved, "everything")));
    let held = fs::File::create(&lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (streamed, outcome) = streamed(store, &bench.cache, &[], "");
    assert_eq!((&outcome["mode"], notes(&outcome)), (&"unpack".into(), vec!["not-mounted", "paths-rejected"]));
    path_named(&streamed.0, "package-7");
    drop(held);
    fs::remove_file(lock).unwrap();
    assert_plain(&streamed.0);
    assert_no_stream(&streamed.0);
}

#[test]
fn a_stream_is_not_detached_below_a_reader() {
    let Some(nix) = nixes().last() else { return };
    let bench = Bench::new(nix);
    let (streamed, outcome) = streamed(bench.machine.store("streamed"), &bench.cache, &[], "");
    assert_streamed(&outcome);
    let store = &streamed.0;
    let open = fs::File::open(store.dirs().real(&path_named(store, "everything"))).unwrap();
    let refused = run_detach(store);
    assert!(refused.code == Some(1) && refused.log.contains("the store is in use"), "{refused:?}");
    store.assert_verifies();
    drop(open);
    detach_cleanly(store);
    assert_no_stream(store);
}

/// A user's own store: its images get the user as their owner, and root leaves the network to that user.
#[test]
fn the_owner_of_a_store_owns_what_is_streamed_to_it() {
    let Some(nix) = nixes().last() else { return };
    let bench = Bench::new(nix);
    let store = bench.machine.store("streamed");
    for entry in walkdir::WalkDir::new(&store.root) {
        std::os::unix::fs::lchown(entry.unwrap().path(), Some(1000), Some(1000)).unwrap();
    }
    let (streamed, outcome) = streamed(store, &bench.cache, &[], "");
    assert_streamed(&outcome);
    let found = streamed.0.dirs().real(&path_named(&streamed.0, "everything")).metadata().unwrap();
    assert_eq!((found.uid(), found.gid()), (1000, 1000));
    detach_cleanly(&streamed.0);
    assert_no_stream(&streamed.0);
}
