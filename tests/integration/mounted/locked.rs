//! Mounting while another process is working in the store, whose locks would not be visible through the overlay.

use std::fs::{self, File};
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};

use super::leftovers::with_mount_program;
use super::{KEY, MOUNT, assert_plain, benches, expression, mounts_of, path_named, run};
use crate::support::machine::system;
use crate::support::program::{Run, notes};

/// A build that takes long enough for a restore to happen meanwhile.
const SLOW: &str = "{ system }: derivation {
  inherit system;
  name = \"slow\";
  builder = \"${./tools}/busybox\";
  args = [ \"sh\" \"-c\" \"${./tools}/busybox sleep 4; ${./tools}/busybox mkdir $out\" ];
}";

#[test]
fn a_build_under_way_is_not_broken() {
    for bench in benches() {
        run(expression(&bench.saved, SLOW).args(["--argstr", "system", &system()]));
        bench.save();
        let store = bench.machine.store("mounted");
        let mut build = expression(&store, SLOW);
        build.args(["--argstr", "system", &system()]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let build = build.spawn().unwrap();
        let lock = format!("{}.lock", path_named(&bench.saved, "slow"));
        while !store.dirs().real_store().join(&lock).exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let outcome = store.restore(&bench.cache, KEY, &MOUNT);
        let output = build.wait_with_output().unwrap();
        assert!(output.status.success(), "{outcome}: {}", super::both(&output));
        path_named(&store, "slow");
        path_named(&store, "everything");
        store.assert_sound();
        store.assert_verifies();
    }
}

#[test]
fn a_held_lock_means_that_paths_are_unpacked_and_what_it_protects_is_not_touched() {
    for bench in benches() {
        let path = path_named(&bench.saved, "everything");
        let store = bench.machine.store("mounted");
        let lock = store.dirs().real_store().join(format!("{path}.lock"));
        let held = File::create(&lock).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let outcome = store.restore(&bench.cache, KEY, &MOUNT);
        let expected = vec!["not-mounted", "paths-rejected"];
        assert_eq!((&outcome["mode"], notes(&outcome)), (&"unpack".into(), expected), "{outcome}");
        assert!(outcome["notes"][0]["message"].as_str().unwrap().contains(".lock"), "{outcome}");
        assert!(!store.valid().contains(&path) && !store.dirs().real(&path).exists());
        path_named(&store, "package-7");
        drop(held);
        fs::remove_file(lock).unwrap();
        assert_plain(&store);
    }
}

#[test]
fn a_lock_taken_while_layers_are_mounted_has_the_mount_taken_back() {
    for bench in benches() {
        let path = path_named(&bench.saved, "everything");
        let store = bench.machine.store("mounted");
        let lock = store.dirs().real_store().join(format!("{path}.lock"));
        let folder = bench.machine.path("bin");
        let pid = bench.machine.path("pid");
        let script = format!(
            "if ! test -e \"{pid}\"; then
                flock --no-fork \"{lock}\" sleep 600 >/dev/null 2>&1 </dev/null & echo $! >\"{pid}\"
                while flock --nonblock \"{lock}\" true; do sleep 0.01; done
            fi
            exec /usr/bin/env PATH=\"${{PATH#*:}}\" mount \"$@\"",
            lock = lock.display(),
            pid = pid.display()
        );
        let outcome = Run::of(with_mount_program(&folder, &script, store.verb("restore", &bench.cache, KEY, &MOUNT)));
        run(std::process::Command::new("kill").arg(fs::read_to_string(&pid).unwrap().trim()));
        let outcome = outcome.json();
        let expected = vec!["not-mounted", "paths-rejected"];
        assert_eq!((&outcome["mode"], notes(&outcome)), (&"unpack".into(), expected), "{outcome}");
        assert_eq!(mounts_of(&store).len(), 0);
        assert!(!store.valid().contains(&path));
        path_named(&store, "package-7");
        fs::remove_file(lock).unwrap();
        assert_plain(&store);
    }
}
