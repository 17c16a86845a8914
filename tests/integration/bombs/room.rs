//! A disk with less free space than a restore or save needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cache::entries;
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::program::{KEY, Run, notes};
use crate::support::skip_refused;

/// A file system in memory.
struct Disk(PathBuf);

impl Disk {
    fn new(place: &Path, size: u64) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let options = format!("size={size},mode=755");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(place).output().ok()?;
        if output.status.success() {
            return Some(Self(place.to_owned()));
        }
        skip_refused(&format!("Nothing can be mounted here: {}", String::from_utf8_lossy(&output.stderr)));
        None
    }

    fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.0).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Fills it up to `free` bytes.
    fn fill(&self, free: u64) {
        let ballast = fs::File::create(self.0.join("ballast")).unwrap();
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, self.free() - free).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

/// The disk of the tests, of which a twentieth is the reserve.
const SIZE: u64 = 160 << 20;
const RESERVE: u64 = SIZE / 20;

#[test]
fn a_restore_leaves_the_reserve_to_the_job_and_says_what_it_lacked() {
    let machine = Machine::new(&nix::all()[0]);
    let cache = machine.path("cache");
    let first = machine.store("saved");
    first.build(&["everything"]);
    first.save(&cache, KEY, &[]);
    let layers: u64 = entries(&cache, "layer").iter().map(|layer| layer.metadata().unwrap().len()).sum();
    for mode in ["mount", "unpack"] {
        let place = machine.path(mode);
        let Some(disk) = Disk::new(&place, SIZE) else { return };
        let store = machine.store(mode);
        // The layers would just fit, and leave the job next to nothing.
        disk.fill(layers + (RESERVE / 2));
        let run = Run::of(store.verb("restore", &cache, KEY, &["--restore-mode", mode]));
        let outcome = run.json();
        assert!(notes(&outcome).contains(&"no-room"), "{mode}: {outcome}");
        let said = outcome["notes"].to_string();
        assert!(said.contains("are free") && said.contains("left to the job"), "{said}");
        assert!(disk.free() >= RESERVE / 2, "{mode}: {} bytes are free", disk.free());
        store.assert_sound();
        fs::remove_file(place.join("ballast")).unwrap();
        assert_eq!(store.restore(&cache, KEY, &["--restore-mode", "unpack"])["hit"], "exact", "{mode}");
        store.assert_sound();
    }
}

#[test]
fn a_save_without_room_for_its_layer_is_skipped_with_a_note() {
    let machine = Machine::new(&nix::all()[0]);
    let place = machine.path("small");
    let Some(disk) = Disk::new(&place, SIZE) else { return };
    let store = machine.store("small");
    store.build(&["everything"]);
    disk.fill(RESERVE / 2);
    let cache = machine.path("cache");
    let mut command = store.verb("save", &cache, KEY, &[]);
    command.env("TMPDIR", &place).env("RUNNER_TEMP", &place);
    let run = Run::of(command);
    let outcome = run.json();
    let said = outcome["notes"].to_string();
    assert!(said.contains("left to the job"), "{run:?}");
    assert!(entries(&cache, "snapshot").is_empty() && disk.free() >= RESERVE / 4, "{outcome}");
    fs::remove_file(place.join("ballast")).unwrap();
    assert_eq!(store.save(&cache, KEY, &[])["reason"], "new-key");
}
