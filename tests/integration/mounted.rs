//! Mounted layers: everything that Nix does with a store, on one whose paths are in images.
//!
//! All mounts are below a test's own folder or in a separate mount namespace, and end with the test.

mod busy;
mod consumer;
mod daemon;
mod detach;
mod failing;
mod folder;
mod killed;
mod leftovers;
mod locked;
mod owner;
mod readonly;
mod refused;
mod rights;
mod stream;
mod twice;
mod uses;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use nix_cache::store::StorePath;
use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::machine::{Machine, TestStore};
use crate::support::nix::{self, Nix};
use crate::support::program::{KEY, Run};
use crate::support::realnix::{self, Root};
use crate::support::{skip, skip_refused};

/// The option that asks for a mount.
const MOUNT: [&str; 2] = ["--restore-mode", "mount"];

/// Every Nix that is here, where this kernel lets us mount; none where it does not.
pub(crate) fn nixes() -> &'static [Nix] {
    static REFUSED: OnceLock<bool> = OnceLock::new();
    let refused = *REFUSED.get_or_init(|| match refusal() {
        Some(why) => {
            skip_refused(&format!("layers cannot be mounted here: {why}"));
            true
        }
        None => false,
    });
    if refused { &[] } else { nix::all() }
}

/// Why this machine mounts no squashfs below an overlay, found out without the program that is tested.
fn refusal() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("the tests do not run as root".into());
    }
    let folder = Folder::new();
    let script = "mkdir source image upper work merged; echo one >source/one
        mksquashfs source file -quiet -no-progress >/dev/null
        mount -t squashfs -o loop,ro file image
        mount -t overlay overlay -o lowerdir=image,upperdir=upper,workdir=work,redirect_dir=on merged
        mv merged/one merged/two";
    if Command::new("mksquashfs").arg("-version").output().is_err() {
        skip("There is no `mksquashfs`: mounting is not tested. It comes with squashfs-tools.");
        return Some("it cannot be tried out".into());
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]).current_dir(folder.path());
    let output = command.output().expect("unshare runs");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A machine with a cache of everything, and a guard: what is mounted below its folder goes with it, also when a test fails.
struct Bench {
    machine: Machine,
    cache: PathBuf,
    /// The store that was saved, on plain files.
    saved: TestStore,
}

impl Drop for Bench {
    fn drop(&mut self) {
        for point in mounts_below(&self.machine.path("")).iter().rev() {
            if let Err(error) = unmount(point, UnmountFlags::empty()) {
                eprintln!("{} is unmounted later: {error}", point.display());
                unmount(point, UnmountFlags::DETACH).expect("root may detach a mount of its own");
            }
        }
    }
}

impl Bench {
    /// With everything of the test project built and saved under [`KEY`].
    fn new(nix: &Nix) -> Self {
        let machine = Machine::new(nix);
        let bench = Self { cache: machine.path("cache"), saved: machine.store("saved"), machine };
        bench.saved.build(&["everything"]);
        bench.saved.nix_store(&["--gc", "--print-roots"]);
        bench.save();
        bench
    }

    /// Saves the saved store once more.
    fn save(&self) -> Value {
        let outcome = self.saved.save(&self.cache, KEY, &[]);
        assert!(outcome["saved"].is_object(), "{outcome}");
        outcome
    }

    /// An empty store with the cache mounted.
    fn mounted(&self) -> TestStore {
        let store = self.machine.store("mounted");
        self.mount_on(&store);
        store
    }

    /// Restores by mounting, and asserts that this is what happened.
    fn mount_on(&self, store: &TestStore) -> Value {
        let outcome = store.restore(&self.cache, KEY, &MOUNT);
        assert_eq!((&outcome["mode"], &outcome["hit"]), (&"mount".into(), &"exact".into()), "{outcome}");
        assert_eq!(outcome["paths-lost"], 0, "{outcome}");
        assert!(mounts_of(store).contains(&store.dirs().real_store()), "nothing is mounted over the store");
        outcome
    }
}

/// A bench for each Nix.
fn benches() -> impl Iterator<Item = Bench> {
    nixes().iter().map(Bench::new)
}

/// The mount points at and below a folder, in the order they were mounted.
fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let list = fs::read("/proc/self/mountinfo").expect("there is /proc");
    let fields = list.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    let points = fields.map(|field| PathBuf::from(OsString::from_vec(unescaped(field))));
    points.filter(|point| point.starts_with(folder)).collect()
}

/// A name as the kernel lists it, with its octal numbers turned back.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut parts = field.split(|&byte| byte == b'\\');
    let mut name = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let digits = std::str::from_utf8(&part[..3]).expect("three digits follow a backslash");
        name.push(u8::from_str_radix(digits, 8).expect("they are octal"));
        name.extend_from_slice(&part[3..]);
    }
    name
}

fn mounts_of(store: &TestStore) -> Vec<PathBuf> {
    mounts_below(&store.root)
}

/// Runs `nix-cache detach` on a store.
pub(crate) fn run_detach(store: &TestStore) -> Run {
    let mut command = store.machine.nix_cache(&["detach", "--format", "json", "--threads", "2"]);
    command.arg("--store-root").arg(&store.root);
    Run::of(command)
}

/// Detaches and asserts that what is left is a plain, sound store with nothing of ours in it.
fn detach_cleanly(store: &TestStore) -> Value {
    let detached = run_detach(store).json();
    assert_eq!(detached["was-mounted"], true);
    assert_plain(store);
    detached
}

/// Asserts that the store directory holds the valid paths and nothing else, and that nothing of ours is left.
fn assert_plain(store: &TestStore) {
    assert_eq!(mounts_of(store), Vec::<PathBuf>::new());
    let own = store.dirs().own_dir();
    assert!(!own.join("mounts").exists() && !own.join("mounted.json").exists(), "traces of a mount are left");
    assert_eq!(entries(&own.join("layers")), BTreeSet::new());
    let valid: BTreeSet<String> = store.valid().iter().map(ToString::to_string).collect();
    assert_eq!(paths_in(&store.dirs().real_store()), valid);
    store.assert_sound();
    store.assert_verifies();
}

/// The names in a folder; none when there is no folder.
fn entries(folder: &Path) -> BTreeSet<String> {
    let Ok(listed) = fs::read_dir(folder) else { return BTreeSet::new() };
    listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The names in a store directory but for those that Nix uses for itself.
fn paths_in(store: &Path) -> BTreeSet<String> {
    let mut names = entries(store);
    names.retain(|name| name != ".links" && name != "trash");
    names
}

/// The store directory as it was, below the overlay.
fn own_side(store: &TestStore) -> PathBuf {
    store.dirs().own_dir().join("mounts/upper")
}

/// A valid path of the store by the end of its name.
fn path_named(store: &TestStore, name: &str) -> StorePath {
    let valid = store.valid();
    let found = valid.iter().find(|path| path.as_str().split_once('-').is_some_and(|(_, rest)| rest == name));
    found.unwrap_or_else(|| panic!("no valid path is named {name}")).clone()
}

/// A path in full.
fn full(path: &StorePath) -> String {
    path.full("/nix/store")
}

/// Runs a command and gives what it printed and said, together.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is there");
    let said = both(&output);
    assert!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    said
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// [`realnix::at_nix`] on a root that spreads no mounts.
fn at_nix(store: &TestStore, script: &str) -> Command {
    realnix::at_nix(store, Root::Private, script)
}

/// An expression of the test's own in the machine's project, as `nix-build` arguments.
fn expression(store: &TestStore, text: &str) -> Command {
    let file = store.machine.path("project/own.nix");
    fs::write(&file, text).expect("the project can be written");
    let mut command = store.command("nix-build");
    command.arg(file).arg("--no-out-link");
    command
}
