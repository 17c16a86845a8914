//! Disks that are full or read-only, and caches that are not folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cache::{assert_whole, entries};
use crate::support::machine::{Machine, TestStore};
use crate::support::program::{KEY, Run, notes};
use crate::support::{nix, rows::rows, skip_refused};

/// A file system of its own, unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    /// Runs `mount` with these arguments and the place. None where that is refused.
    fn new(place: &Path, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let output = Command::new("mount").args(arguments).arg(place).output().ok()?;
        if output.status.success() {
            return Some(Self(place.to_owned()));
        }
        skip_refused(&format!("Nothing can be mounted here: {}", String::from_utf8_lossy(&output.stderr)));
        None
    }

    fn memory(place: &Path, size: &str) -> Option<Self> {
        Self::new(place, &["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "none"])
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.unwrap().success(), "what was mounted can be mounted with {options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

fn saved(machine: &Machine, cache: &Path) -> TestStore {
    let store = machine.store("saved");
    store.build(&["everything"]);
    store.save(cache, KEY, &[]);
    store
}

#[test]
fn a_full_disk_ends_a_restore_without_a_broken_path() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        let first = saved(&machine, &cache);
        let small = machine.path("small");
        let Some(mount) = Mount::memory(&small, "64m") else { return };
        let store = machine.store("small");
        // Room for nothing, for less than the layer, for less than what is in it, for nearly all of it.
        for room in [0, 40, 700, 2000, 4000, 5500] {
            mount.remount(&format!("size={}k", used_kilobytes(&small) + room));
            let run = Run::of(store.verb("restore", &cache, KEY, &[]));
            assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
            let named = ["No space left on device", "disk is full", "disk I/O error", "are left to the job"];
            assert!(named.iter().any(|text| run.log.contains(text)), "{room} kB: {run:?}");
            mount.remount("size=64m");
            store.assert_sound();
            store.assert_verifies();
            store.nix_store(&["--gc"]);
            let own = store.dirs().own_dir();
            nix_cache::store::tree::remove_tree(&own).unwrap();
        }
        assert_eq!(store.restore(&cache, KEY, &[])["hit"], "exact");
        assert_eq!(rows(&store), rows(&first).restored());
        store.assert_tidy();
        store.assert_verifies();
    }
}

fn used_kilobytes(place: &Path) -> u64 {
    let output = Command::new("df").args(["--output=used", "-k"]).arg(place).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap().trim().parse().unwrap()
}

#[test]
fn a_full_cache_takes_nothing_and_keeps_what_it_has() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    store.build(&["everything"]);
    let Some(mount) = Mount::memory(&cache, "100k") else { return };
    let outcome = store.save(&cache, KEY, &[]);
    assert_eq!((&outcome["reason"], notes(&outcome)), (&"failed".into(), vec!["save-failed"]));
    assert!(outcome["notes"][0]["message"].as_str().unwrap().contains("No space left"), "{outcome}");
    assert_eq!((entries(&cache, "snapshot").len(), entries(&cache, "layer").len()), (0, 0));
    assert_eq!(entries(&cache, "tmp").len(), 0, "what could not be finished is removed");
    mount.remount("size=64m");
    assert_eq!(store.save(&cache, KEY, &[])["reason"], "new-key");
    assert_eq!(assert_whole(&cache).len(), 1);
}

#[test]
fn a_full_disk_under_the_store_ends_a_save_without_harm() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let cache = machine.path("cache");
    let Some(mount) = Mount::memory(&machine.path("small"), "128m") else { return };
    let store = machine.store("small");
    store.build(&["everything"]);
    mount.remount(&format!("size={}k", used_kilobytes(&store.root) + 40));
    let mut save = store.verb("save", &cache, KEY, &[]);
    // Where the folder for temporary files has room, the layer is packed there.
    save.env("TMPDIR", &store.root);
    let outcome = Run::of(save).json();
    assert_eq!((&outcome["reason"], notes(&outcome)), (&"failed".into(), vec!["save-failed"]));
    assert!(outcome["notes"][0]["message"].as_str().unwrap().contains("disk full"), "{outcome}");
    assert_eq!((entries(&cache, "snapshot").len(), entries(&cache, "layer").len()), (0, 0));
    mount.remount("size=128m");
    assert_eq!(store.save(&cache, KEY, &[])["reason"], "new-key");
    store.assert_verifies();
}

#[test]
fn a_cache_that_is_read_only_is_read_and_not_written() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let cache = machine.path("cache");
    let first = saved(&machine, &cache);
    let view = machine.path("view");
    let Some(mount) = Mount::new(&view, &["--bind", cache.to_str().unwrap()]) else { return };
    mount.remount("bind,ro");
    let store = machine.store("store");
    assert_eq!(store.restore(&view, KEY, &[])["hit"], "exact");
    assert_eq!(rows(&store), rows(&first).restored());
    store.build(&["onTop"]);
    let outcome = store.save(&view, KEY, &[]);
    assert_eq!((&outcome["reason"], notes(&outcome)), (&"refused".into(), vec!["save-refused"]));
    assert_eq!(store.save(&cache, KEY, &[])["saved"]["generation"], 2);
}

#[test]
fn a_cache_that_is_a_file_is_an_argument_that_makes_no_sense() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (cache, store) = (machine.path("cache"), machine.store("store"));
    fs::write(&cache, "no folder").unwrap();
    for verb in ["restore", "save"] {
        let run = Run::of(store.verb(verb, &cache, KEY, &[]));
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.log.contains(cache.to_str().unwrap()), "{run:?}");
    }
    assert_eq!(fs::read_to_string(&cache).unwrap(), "no folder");
}
