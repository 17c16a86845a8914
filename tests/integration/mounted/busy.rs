//! Detaching that is refused, killed, or cannot keep everything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::detach::Ended;
use super::leftovers::attach_mounted;
use super::{Bench, at_nix, benches, detach_cleanly, full, mounts_of, path_named, run, run_detach};
use crate::support::cache::entries;
use crate::support::machine::{TestStore, system};
use crate::support::program::KEY;
use crate::support::random::Random;
use crate::support::rows::rows;
use nix_cache::store::{NarHash, StorePath};

#[test]
fn a_refused_detach_changes_no_path() {
    for bench in benches() {
        let store = bench.mounted();
        store.build(&["onTop"]);
        run(store.command("nix-store").arg("--optimise"));
        let (before, mounts) = (rows(&store), mounts_of(&store));
        let user = Ended(Command::new("sleep").arg("600").current_dir(store.dirs().real_store()).spawn().unwrap());
        let refused = run_detach(&store);
        assert_eq!(refused.code, Some(1), "{}{}", refused.out, refused.log);
        let named = format!("process {} (sleep)", user.0.id());
        assert!(refused.log.contains(&named), "{} does not name {named}", refused.log);
        assert_eq!((rows(&store), mounts_of(&store)), (before, mounts));
        store.assert_sound();
        store.assert_verifies();
        drop(user);
        detach_cleanly(&store);
        assert_eq!(store.builds(&["onTop"]), 0);
    }
}

#[test]
fn a_store_that_another_namespace_sees_stays_mounted() {
    for bench in benches().take(1) {
        let store = bench.mounted();
        let (before, mounts) = (rows(&store), mounts_of(&store));
        // What other tests have mounted is theirs to unmount.
        let script = "grep -e ' - overlay nix-cache:' /proc/self/mountinfo | cut -d ' ' -f 5 | grep -v -e \"^$ROOT/\" |
            while read -r point; do umount -l \"$point\"; done; echo ready; exec sleep 600";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).env("ROOT", &store.root);
        let mut other = Ended(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut other.0.stdout.take().unwrap(), &mut ready).unwrap();
        let refused = run_detach(&store);
        assert_eq!(refused.code, Some(1), "{}{}", refused.out, refused.log);
        assert!(refused.log.contains("mount namespace") && refused.log.contains("process "), "{}", refused.log);
        assert_eq!((rows(&store), mounts_of(&store)), (before, mounts));
        store.assert_verifies();
        drop(other);
        detach_cleanly(&store);
    }
}

#[test]
fn a_detach_that_is_killed_is_finished_by_the_next() {
    let mut random = Random::new();
    for bench in benches().take(1) {
        for round in 0..6 {
            let store = bench.machine.store(&format!("killed-{round}"));
            bench.mount_on(&store);
            store.build(&["onTop"]);
            let mut command = store.machine.nix_cache(&["detach", "--threads", "1", "--store-root"]);
            command.arg(&store.root).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(random.below(120)));
            child.kill().unwrap();
            child.wait().unwrap();
            // A path that is valid is there, whenever it was.
            store.assert_sound();
            if round % 2 == 0 {
                run_detach(&store).json();
                super::assert_plain(&store);
            } else {
                store.restore(&bench.cache, KEY, &["--restore-mode", "unpack"]);
                run_detach(&store).json();
            }
            store.assert_sound();
            assert_eq!(store.builds(&["onTop"]), 0);
        }
    }
}

/// A store that mounts `another` with bytes of another hash than it is registered with, and has something built on top.
fn wedged(bench: &Bench, name: &str) -> (TestStore, StorePath) {
    bench.saved.build(&["another"]);
    let cache = bench.machine.path(&format!("cache-of-{name}"));
    bench.saved.save(&cache, KEY, &[]);
    let store = bench.machine.store(name);
    let mut infos = nix_cache::store::read_all(&bench.saved.dirs()).unwrap();
    let wanted = infos.closure([&path_named(&bench.saved, "another")]);
    infos.retain(|path, _| wanted.contains(path));
    let path = path_named(&bench.saved, "another");
    infos.get_mut(&path).unwrap().nar_hash = NarHash([7; 32]);
    attach_mounted(&store, &[(&cache, infos)]);
    (store, path)
}

fn on_top(bench: &Bench, store: &TestStore) {
    run(store.build_command(&["onTop"]).arg("--out-link").arg(bench.machine.path("root-of-on-top")));
}

#[test]
fn what_cannot_be_kept_is_left_out_and_named() {
    for bench in benches() {
        let (store, path) = wedged(&bench, "wedged");
        on_top(&bench, &store);
        store.build(&["one"]);
        let detached = run_detach(&store);
        assert_eq!(detached.json()["lost"], 2, "{}", detached.out);
        assert!(detached.log.contains(path.as_str()), "{}", detached.log);
        super::assert_plain(&store);
        path_named(&store, "one");
        assert_ne!(store.builds(&["onTop"]), 0);
    }
}

#[test]
fn after_a_restart_what_cannot_be_kept_stands_in_nobodys_way() {
    for bench in benches().take(1) {
        // Layers that are gone or cut, with something on top of what they held.
        for cut in [None, Some(0), Some(5000)] {
            let store = bench.machine.store(&format!("restarted-{cut:?}"));
            let script = "nix_cache restore --restore-mode mount --primary-key \"$1\" --remote \"dir:$2\"
                nix-build --argstr system \"$4\" \"$3\" -A onTop --no-out-link";
            let mut command = at_nix(&store, script);
            run(command.arg("sh").arg(KEY).arg(&bench.cache).arg(bench.machine.path("project")).arg(system()));
            let layers = store.dirs().own_dir().join("mounts/layers");
            for file in fs::read_dir(&layers).unwrap().map(|entry| entry.unwrap().path()) {
                match cut {
                    None => fs::remove_file(file).unwrap(),
                    Some(size) => fs::File::options().write(true).open(file).unwrap().set_len(size).unwrap(),
                }
            }
            let outcome = store.restore(&bench.cache, KEY, &["--restore-mode", "unpack"]);
            assert_eq!(outcome["hit"], "exact", "{outcome}");
            store.assert_sound();
            assert_eq!(store.builds(&["everything"]), 0);
            detach_is_done(&store);
        }
    }
}

fn detach_is_done(store: &TestStore) {
    assert_eq!(run_detach(store).json()["was-mounted"], false);
    super::assert_plain(store);
}

/// Puts something else in the place of what says what is mounted.
fn spoil(bench: &Bench, file: &PathBuf, how: &str) {
    fs::remove_file(file).unwrap();
    match how {
        "gone" => {}
        "text" => fs::write(file, "not JSON").unwrap(),
        "folder" => fs::create_dir_all(file.join("in/it")).unwrap(),
        "link" => std::os::unix::fs::symlink(bench.machine.path("nowhere"), file).unwrap(),
        other => panic!("{other}"),
    }
}

#[test]
fn without_what_was_written_down_a_detach_finds_out() {
    for bench in benches().take(1) {
        for how in ["gone", "text", "folder", "link"] {
            let store = bench.machine.store(how);
            bench.mount_on(&store);
            store.build(&["onTop"]);
            run(store.command("nix-store").arg("--optimise"));
            spoil(&bench, &store.dirs().own_dir().join("mounted.json"), how);
            assert_eq!(store.restore(&bench.cache, KEY, &[])["hit"], "exact");
            detach_cleanly(&store);
            path_named(&store, "on-top");
            // What was linked as a whole lies on the store's own side, and stays.
            assert_eq!(store.restore(&bench.cache, KEY, &[])["hit"], "exact");
            super::assert_plain(&store);
        }
    }
}

#[test]
fn no_set_uid_program_of_the_store_gives_rights() {
    for bench in benches().take(1) {
        let store = bench.mounted();
        fs::set_permissions(bench.machine.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let program = store.dirs().real_store().join("who");
        fs::copy("/usr/bin/id", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        let upper = super::own_side(&store).join("who");
        for program in [&program, &upper] {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).arg("-u");
            // Where the folder is out of that user's reach, the flags alone are looked at.
            if let Ok(output) = command.output()
                && output.status.success()
            {
                assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "65534");
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = mounts.lines().filter(|line| line.contains(store.root.to_str().unwrap()));
        let flags: Vec<&str> = ours.map(|line| line.split(' ').nth(5).unwrap()).collect();
        assert!(flags.len() >= 3, "{mounts}");
        assert!(flags.iter().all(|flags| flags.contains("nosuid") && flags.contains("nodev")), "{flags:?}");
        fs::remove_file(&program).unwrap();
        detach_cleanly(&store);
    }
}

#[test]
fn a_root_of_any_name_is_that_root() {
    use std::os::unix::ffi::OsStrExt;
    for bench in benches() {
        let names: [&[u8]; 8] = [b"q?x", b"q%41x", b"c,d:e", b"a b", b"q&x#y", b"n\xffm", b"-l", "ü".as_bytes()];
        let parent = bench.machine.path("roots");
        for (number, name) in names.into_iter().enumerate() {
            let root = parent.join(std::ffi::OsStr::from_bytes(name));
            fs::create_dir_all(&root).unwrap();
            let store = TestStore { root: root.clone(), ..bench.saved.clone() };
            let mode = if number % 2 == 0 { "mount" } else { "unpack" };
            let outcome = store.restore(&bench.cache, KEY, &["--restore-mode", mode]);
            assert_eq!(outcome["hit"], "exact", "{outcome}");
            assert_eq!(rows(&store), rows(&bench.saved).restored());
            let argument = nix_cache::store::store_argument(&root);
            run(bench.machine.command("nix-store").arg("--store").arg(argument).args(["--verify", "--check-contents"]));
            run_detach(&store).json();
            assert_eq!(fs::read_dir(&parent).unwrap().count(), 1, "something was made beside {}", root.display());
            nix_cache::store::tree::remove_tree(&root).unwrap();
        }
    }
}

#[test]
fn the_layer_of_a_killed_save_is_removed_by_the_next_restore() {
    for bench in benches().take(1) {
        let store = bench.machine.store("left");
        store.restore(&bench.cache, KEY, &[]);
        let own = store.dirs().own_dir();
        fs::write(own.join("layer-4194305-x"), "left").unwrap();
        fs::write(own.join("layer-4194306-y"), "still packed").unwrap();
        let packed = fs::File::open(own.join("layer-4194306-y")).unwrap();
        rustix::fs::flock(&packed, rustix::fs::FlockOperation::LockShared).unwrap();
        store.restore(&bench.cache, KEY, &[]);
        assert!(!own.join("layer-4194305-x").exists() && own.join("layer-4194306-y").exists());
        assert_eq!(entries(&own, "layers"), Vec::<PathBuf>::new());
        let everything = full(&path_named(&store, "everything"));
        store.nix_store(&["--verify-path", &everything]);
    }
}
