//! Existing files that would conflict with a mount, and unfinished mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{
    Bench, KEY, MOUNT, at_nix, benches, detach_cleanly, expression, mounts_of, own_side, path_named, run, run_detach,
};
use crate::support::cache::entries;
use crate::support::machine::{TestStore, system};
use crate::support::rows::rows;
use nix_cache::attach;
use nix_cache::attach::{Admit, Answer, AttachLayer, AttachRequest, Mode, Request};
use nix_cache::base::digest::Sha;
use nix_cache::store::StorePath;

/// A folder and a file whose bytes differ with every build.
const CHANGING: &str = "{ system, salt }: derivation {
  inherit system;
  name = \"changing\";
  outputs = [ \"out\" \"file\" ];
  sh = \"${./tools}/busybox\";
  builder = \"${./tools}/busybox\";
  args = [ \"sh\" \"-c\" ''
    $sh mkdir -p $out/sub
    for name in a b; do $sh head -c 2000 /dev/urandom >$out/sub/$name; done
    $sh cp $out/sub/a $out/sub/only-$($sh head -c 8 /dev/urandom | $sh md5sum | $sh head -c 8)
    $sh head -c 2000 /dev/urandom >$file
  '' ];
}";

/// Builds it; the paths are the same each time.
fn build_changing(store: &TestStore) -> [StorePath; 2] {
    run(expression(store, CHANGING).args(["--argstr", "system", &system(), "--argstr", "salt", ""]));
    [path_named(store, "changing"), path_named(store, "changing-file")]
}

fn hash(store: &TestStore, path: &StorePath) -> String {
    rows(store).paths[&super::full(path)].hash.clone()
}

/// Mounts the paths given of the one layer in each cache.
pub(super) fn attach_mounted(store: &TestStore, wanted: &[(&PathBuf, nix_cache::store::Paths)]) {
    let place = store.dirs().own_dir().join("layers");
    fs::create_dir_all(&place).unwrap();
    let layer = |(number, (cache, infos)): (usize, &(&PathBuf, nix_cache::store::Paths))| {
        let [stored] = <[_; 1]>::try_from(entries(cache, "layer")).expect("the cache has one layer");
        let file = place.join(format!("layer-{number}"));
        fs::copy(stored, &file).unwrap();
        AttachLayer { id: Sha([number as u8; 32]), file, infos: infos.values().cloned().map(Arc::new).collect() }
    };
    let layers = wanted.iter().enumerate().map(layer).collect();
    let root = Some(store.root.clone());
    let (mode, realisations, daemon_sockets) = (Mode::Mount, Vec::new(), Vec::new());
    let (threads, milliseconds) = (1, None);
    let request = AttachRequest {
        store_root: root,
        mode,
        layers,
        threads,
        milliseconds,
        realisations,
        daemon_sockets,
        admit: Admit::Sound,
        first: Vec::new(),
    };
    let answer = attach::perform(&Request::Attach(request), &AtomicU64::new(0)).unwrap();
    let Answer::Attached(attached) = answer else { panic!("{answer:?}") };
    assert_eq!((attached.mode, attached.rejected.len()), (Mode::Mount, 0));
}

#[test]
fn two_layers_with_other_bytes_under_one_name() {
    for bench in benches() {
        let [folder, file] = build_changing(&bench.saved);
        let (one, two) = (bench.machine.path("cache-one"), bench.machine.path("cache-two"));
        bench.saved.save(&one, KEY, &[]);
        let other = bench.machine.store("other");
        other.build(&["another"]);
        assert_eq!(build_changing(&other), [folder.clone(), file.clone()]);
        other.save(&two, KEY, &[]);
        for path in [&folder, &file] {
            assert_ne!(hash(&other, path), hash(&bench.saved, path), "the builds are the same");
        }
        let store = bench.machine.store("mounted");
        // Both layers hold both paths; the folder is wanted of the one and the file of the other.
        let mut first = nix_cache::store::read_all(&bench.saved.dirs()).unwrap();
        first.remove(&file);
        let mut second = nix_cache::store::read_all(&other.dirs()).unwrap();
        second.retain(|path, _| !first.contains_key(path));
        assert!(
            second.contains_key(&file) && second.len() > 1,
            "the second layer must be needed for more than the file"
        );
        attach_mounted(&store, &[(&one, first), (&two, second)]);
        assert_eq!(hash(&store, &folder), hash(&bench.saved, &folder));
        assert_eq!(hash(&store, &file), hash(&other, &file));
        store.assert_sound();
        store.assert_verifies();
        detach_cleanly(&store);
    }
}

#[test]
fn what_the_store_has_is_seen_as_it_has_it() {
    for bench in benches() {
        let paths = build_changing(&bench.saved);
        bench.save();
        let store = bench.machine.store("mounted");
        assert_eq!(build_changing(&store), paths);
        let hashes = paths.each_ref().map(|path| hash(&store, path));
        store.build(&["another"]);
        bench.mount_on(&store);
        assert_eq!(paths.each_ref().map(|path| hash(&store, path)), hashes);
        store.assert_sound();
        store.assert_verifies();
        assert_eq!(store.builds(&["everything"]), 0);
        detach_cleanly(&store);
        assert_eq!(paths.each_ref().map(|path| hash(&store, path)), hashes);
        path_named(&store, "another");
    }
}

#[test]
fn invalid_things_in_the_way_are_replaced() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let place = |name: &str| store.dirs().real(&path_named(&bench.saved, name));
        // Half a path, a file for a folder, a folder for a file, a link to nowhere.
        fs::create_dir_all(place("package-2").join("lib/junk")).unwrap();
        fs::write(place("package-2").join("lib/small"), "junk").unwrap();
        fs::write(place("package-3"), "junk").unwrap();
        fs::create_dir_all(place("everything").join("junk")).unwrap();
        std::os::unix::fs::symlink("/nowhere", place("fixed")).unwrap();
        bench.mount_on(&store);
        assert_eq!(rows(&store), rows(&bench.saved).restored());
        store.assert_sound();
        store.assert_verifies();
        detach_cleanly(&store);
    }
}

/// Starts a restore by mounting and kills it once `is_there` says so of the mounts of the store.
fn kill_when(bench: &Bench, store: &TestStore, is_there: impl Fn(&[PathBuf]) -> bool) {
    let mut command = store.verb("restore", &bench.cache, KEY, &MOUNT);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !is_there(&mounts_of(store)) {
        assert!(start.elapsed() < Duration::from_mins(2), "the restore does not come to that point");
        assert!(child.try_wait().unwrap().is_none(), "the restore ended before that point");
        sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A new restore after a killed one: everything is there and sound, and can be detached.
fn assert_recovers(bench: &Bench, store: &TestStore) {
    let outcome = store.restore(&bench.cache, KEY, &MOUNT);
    assert_eq!(outcome["hit"], "exact", "{outcome}");
    assert_eq!(rows(store), rows(&bench.saved).restored());
    store.assert_sound();
    store.assert_verifies();
    store.build(&["onTop"]);
    detach_cleanly(store);
    path_named(store, "on-top");
}

#[test]
fn a_restore_killed_before_it_registered() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let writer = Connection::open(store.dirs().db_path()).unwrap();
        writer.execute_batch("begin immediate").unwrap();
        let place = store.dirs().real_store();
        kill_when(&bench, &store, |mounts| mounts.contains(&place));
        writer.execute_batch("rollback").unwrap();
        assert!(store.valid().is_empty());
        assert_recovers(&bench, &store);
    }
}

#[test]
fn a_restore_killed_before_it_registered_can_be_detached() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let writer = Connection::open(store.dirs().db_path()).unwrap();
        writer.execute_batch("begin immediate").unwrap();
        let place = store.dirs().real_store();
        kill_when(&bench, &store, |mounts| mounts.contains(&place));
        writer.execute_batch("rollback").unwrap();
        detach_cleanly(&store);
        assert!(store.valid().is_empty());
    }
}

/// `command` with a program `mount` in front of the real one.
pub(super) fn with_mount_program(folder: &Path, script: &str, mut command: Command) -> Command {
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("mount");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path))).unwrap();
    command.env("PATH", path);
    command
}

#[test]
fn a_restore_killed_while_it_mounts_images() {
    for bench in benches() {
        for script in ["kill -9 $PPID", "/usr/bin/env PATH=\"${PATH#*:}\" mount \"$@\" || exit; kill -9 $PPID"] {
            let store = bench.machine.store(if script.starts_with("kill") { "before" } else { "after" });
            let folder = bench.machine.path("bin");
            let command = store.verb("restore", &bench.cache, KEY, &MOUNT);
            let ended = with_mount_program(&folder, script, command).output().unwrap();
            assert_eq!(ended.status.code(), None, "the restore was not killed");
            assert_eq!(mounts_of(&store).len(), usize::from(!script.starts_with("kill")));
            bench.mount_on(&store);
            store.assert_verifies();
            detach_cleanly(&store);
        }
    }
}

#[test]
fn a_restore_killed_between_its_two_mounts() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let upper = own_side(&store);
        fs::create_dir_all(&upper).unwrap();
        rustix::mount::mount_bind(store.dirs().real_store(), &upper).unwrap();
        assert_eq!(run_detach(&store).json()["was-mounted"], false);
        rustix::mount::mount_bind(store.dirs().real_store(), &upper).unwrap_or(());
        bench.mount_on(&store);
        store.assert_verifies();
        detach_cleanly(&store);
    }
}

#[test]
fn a_refused_mount_leaves_nothing_and_is_unpacked() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let folder = bench.machine.path("bin");
        let command = store.verb("restore", &bench.cache, KEY, &MOUNT);
        let script = "echo 'mount: only the superuser may do it' >&2; exit 32";
        let outcome = crate::support::program::Run::of(with_mount_program(&folder, script, command)).json();
        assert_eq!(outcome["mode"], "unpack");
        assert_eq!(crate::support::program::notes(&outcome), ["not-mounted"]);
        assert!(outcome["notes"][0]["message"].as_str().unwrap().contains("only the superuser"), "{outcome}");
        assert_eq!(rows(&store), rows(&bench.saved).restored());
        super::assert_plain(&store);
    }
}

/// A store whose mounts are gone while its database takes their paths for valid, as after a restart of the machine.
fn restarted(bench: &Bench) -> TestStore {
    let store = bench.machine.store("mounted");
    let script = "nix_cache restore --restore-mode mount --primary-key \"$1\" --remote \"dir:$2\"
        nix-build --argstr system \"$4\" \"$3\" -A onTop --no-out-link
        nix-store --delete \"$5\"";
    let mut command = at_nix(&store, script);
    command.arg("sh").arg(KEY).arg(&bench.cache).arg(bench.machine.path("project")).arg(system());
    run(command.arg(super::full(&path_named(&bench.saved, "everything"))));
    assert_eq!(mounts_of(&store), Vec::<PathBuf>::new());
    assert!(store.valid().len() > 10);
    store
}

#[test]
fn after_a_restart_of_the_machine_a_detach_does_the_rest() {
    for bench in benches() {
        let store = restarted(&bench);
        assert_eq!(run_detach(&store).json()["was-mounted"], false);
        super::assert_plain(&store);
        path_named(&store, "on-top");
        assert_eq!(store.builds(&["onTop"]), 0);
    }
}

#[test]
fn after_a_restart_of_the_machine_a_restore_mounts_again() {
    for bench in benches() {
        let store = restarted(&bench);
        bench.mount_on(&store);
        store.assert_sound();
        store.assert_verifies();
        assert_eq!(store.builds(&["everything"]), 0);
        detach_cleanly(&store);
        path_named(&store, "on-top");
    }
}

#[test]
fn what_became_valid_meanwhile_is_left_alone() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        store.build(&["another"]);
        let mut infos = nix_cache::store::read_all(&bench.saved.dirs()).unwrap();
        let valid = path_named(&store, "package-1");
        let paths = infos.closure([&path_named(&bench.saved, "package-2")]);
        assert!(paths.contains(&valid));
        infos.retain(|path, _| paths.contains(path));
        attach_mounted(&store, &[(&bench.cache, infos)]);
        assert!(own_side(&store).join(valid.as_str()).exists(), "a valid path was removed");
        path_named(&store, "package-2");
        store.assert_verifies();
        detach_cleanly(&store);
    }
}
