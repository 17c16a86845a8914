//! The roots that we find are those of Nix.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix_cache::store::{StorePath, read_all, roots};

use super::nix::{Nix, TestStore, store_path};

/// What Nix says, less what running programs hold.
fn roots_of_nix(store: &TestStore) -> BTreeSet<StorePath> {
    let said = store.run_in(&["nix-store", "--gc", "--print-roots"]);
    let root = |line: &str| {
        let (from, path) = line.split_once(" -> ")?;
        // Nix 2.34 puts it in quotes.
        let from = from.trim_matches('"');
        let counts = from.starts_with('/') && !from.starts_with("/proc/") || from.starts_with("{temp");
        counts.then(|| store_path(path))
    };
    said.lines().filter_map(root).collect()
}

#[test]
fn every_kind_of_link_is_found() {
    for nix in Nix::versions() {
        let store = TestStore::new(&nix);
        if !store.can_build() {
            return;
        }
        let built = store.build_sample();
        let [one, two, fixed, top] = &built[..] else { panic!("the sample has four derivations: {built:?}") };
        assert_eq!((roots(&store.dirs()), roots_of_nix(&store)), (BTreeSet::new(), BTreeSet::new()));

        let full = |path: &StorePath| path.full("/nix/store");
        let gcroots = store.dirs().state_dir().join("gcroots");
        let check = |expected: &[&StorePath]| {
            let expected: BTreeSet<StorePath> = expected.iter().copied().cloned().collect();
            assert_eq!((roots(&store.dirs()), roots_of_nix(&store)), (expected.clone(), expected));
        };
        // Into a path, from a folder in a folder.
        fs::create_dir_all(gcroots.join("a/b")).unwrap();
        symlink(format!("{}/bin/x", full(top)), gcroots.join("a/b/link")).unwrap();
        check(&[top]);
        // A result link, which is a link in `auto` to a link elsewhere.
        store.run_in(&["nix-store", "--add-root", "result", "--indirect", "--realise", &full(one)]);
        check(&[top, one]);
        // A profile: a link to a generation beside it.
        store.run_in(&["nix-env", "--profile", "/nix/var/nix/profiles/mine", "--set", &full(two)]);
        check(&[top, one, two]);
        // A file with the name of a path.
        fs::write(gcroots.join("a").join(fixed.as_str()), "").unwrap();
        check(&[top, one, two, fixed]);
        // Links that lead nowhere, to a link to a link, or to a folder are none.
        fs::remove_file(store.home().join("result")).unwrap();
        symlink("link", gcroots.join("a/b/second")).unwrap();
        symlink("second", gcroots.join("a/b/third")).unwrap();
        symlink("/nix/store", gcroots.join("a/b/all")).unwrap();
        symlink("..", gcroots.join("a/b/up")).unwrap();
        check(&[top, two, fixed]);
        fs::remove_file(gcroots.join("a/b/link")).unwrap();
        check(&[two, fixed]);
    }
}

#[test]
fn what_a_running_build_uses_is_a_root() {
    for nix in Nix::versions() {
        let store = TestStore::new(&nix);
        if !store.can_build() {
            return;
        }
        let stop = store.home().join("stop");
        let build = format!(
            r#"derivation {{
                name = "waits";
                system = builtins.currentSystem;
                builder = "/bin/busybox";
                args = [ "sh" "-c" "while ! test -e {stop}; do /bin/busybox sleep 0.1; done; echo > $out" ];
            }}"#,
            stop = stop.display()
        );
        fs::write(store.home().join("waits.nix"), build).unwrap();
        let mut command = store.command_in(&["nix-build", "--no-out-link", "waits.nix"]);
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Nix counts only what is valid: the derivation at once, its output not yet.
        let valid_roots = |roots: BTreeSet<StorePath>| -> BTreeSet<StorePath> {
            let valid = read_all(&store.dirs()).unwrap();
            roots.into_iter().filter(|path| valid.contains_key(path)).collect()
        };
        let waits = |found: &BTreeSet<StorePath>| found.iter().any(|path| path.name() == "waits.drv");
        let start = Instant::now();
        let mut ours = valid_roots(roots(&store.dirs()));
        while !waits(&ours) && start.elapsed() < Duration::from_mins(1) {
            std::thread::sleep(Duration::from_millis(20));
            ours = valid_roots(roots(&store.dirs()));
        }
        let theirs = valid_roots(roots_of_nix(&store));
        fs::write(stop, "").unwrap();
        assert!(running.wait().unwrap().success());
        assert!(waits(&ours), "{ours:?}");
        assert_eq!(ours, theirs);
        assert_eq!(roots(&store.dirs()), BTreeSet::new());
    }
}
