//! Every process that serves the store sees the mount, or nothing is mounted.

use super::daemon::{with_daemon, with_daemon_started};
use super::{Bench, assert_plain, benches, full, mounts_of, nixes, path_named};
use crate::support::realnix::Root;

/// Restores, and uses everything through the daemon. What the daemon took for damaged would be valid no more at the end.
const USE: &str = "restore \"$1\" \"$2\"
    as_nobody nix-store --verify-path \"$3\"
    as_nobody nix-store --dump \"$3\" >/dev/null
    before=$(as_nobody nix path-info --all | wc -l)
    NIX_REMOTE=daemon nix-store --verify
    test \"$before\" = \"$(as_nobody nix path-info --all | wc -l)\"
    nix_cache detach";

/// Starts the daemon as the words in `start` say and asserts how the layers got into the store.
fn assert_mode(root: Root, start: &str, mode: &str) {
    for bench in benches() {
        assert_mode_of(&bench, (root, start), "mount", mode);
    }
    // Streamed layers are seen by whom mounted ones are.
    if let Some(bench) = nixes().last().map(Bench::new) {
        assert_mode_of(&bench, (root, start), "stream", if mode == "mount" { "stream" } else { mode });
    }
}

/// As [`assert_mode`], after a restore for which a mode was asked.
fn assert_mode_of(bench: &Bench, (root, start): (Root, &str), asked: &str, mode: &str) {
    let Some(said) = with_daemon_started(bench, root, start, &format!("MODE={asked}\n{USE}")) else { return };
    assert!(said.contains(&format!("\"mode\": \"{mode}\"")), "{said}");
    assert_eq!(said.contains("\"not-mounted\""), mode == "unpack", "{said}");
    assert!(mode != "unpack" || said.contains("does not see what is mounted on /nix/store"), "{said}");
    let store = bench.machine.store("mounted");
    assert_plain(&store);
    assert_eq!(store.valid().is_empty(), mode != "unpack");
}

#[test]
fn a_daemon_where_mounts_do_not_spread_gets_unpacked_paths() {
    // Run as root, Nix leaves for a mount namespace of its own.
    assert_mode(Root::Private, "", "unpack");
}

#[test]
fn a_daemon_in_a_private_namespace_gets_unpacked_paths() {
    assert_mode(Root::Shared, "unshare --mount --propagation private", "unpack");
}

#[test]
fn a_daemon_that_follows_our_mounts_gets_mounted_ones() {
    assert_mode(Root::Shared, "unshare --mount --propagation slave", "mount");
}

#[test]
fn a_daemon_known_by_its_socket_alone_gets_unpacked_paths() {
    for bench in benches() {
        // As one in another container: its process is not to be seen from where the restore runs.
        let script = format!(
            "restore() {{
                unshare --pid --fork sh -ec 'mount -t proc proc /proc
                    \"$NIX_CACHE\" restore --restore-mode mount --format json --primary-key \"$1\" --remote \"dir:$2\"
                    umount -l /proc' sh \"$1\" \"$2\"
            }}
            {USE}"
        );
        let Some(said) = with_daemon(&bench, Root::Private, &script) else { continue };
        assert!(said.contains("\"mode\": \"unpack\""), "{said}");
        assert!(said.contains("the nix-daemon behind /nix/var/nix/daemon-socket/socket does not see"), "{said}");
        let store = bench.machine.store("mounted");
        assert_plain(&store);
        assert_eq!(store.valid(), bench.saved.valid());
    }
}

#[test]
fn a_socket_that_nobody_serves_is_in_nobodys_way() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let folder = store.dirs().state_dir().join("daemon-socket");
        std::fs::create_dir_all(&folder).unwrap();
        drop(std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap());
        bench.mount_on(&store);
        super::detach_cleanly(&store);
    }
}

#[test]
fn a_namespace_that_was_made_since_keeps_the_mount() {
    for bench in benches() {
        assert_kept_by_a_namespace(&bench, "mount");
    }
    if let Some(bench) = nixes().last().map(Bench::new) {
        assert_kept_by_a_namespace(&bench, "stream");
    }
}

fn assert_kept_by_a_namespace(bench: &Bench, mode: &str) {
    let store = bench.machine.store("mounted");
    let script = format!("MODE={mode}\n{WITH_ANOTHER_NAMESPACE}");
    let mut command = crate::support::realnix::at_nix(&store, Root::Private, &script);
    let said = super::run(command.arg("sh").arg(super::KEY).arg(&bench.cache));
    assert!(said.contains(&format!("\"mode\": \"{mode}\"")), "{said}");
    assert!(said.contains("(sleep)") && said.contains("mount namespace of its own"), "{said}");
    assert!(said.contains("Unmounted."), "{said}");
    assert_plain(&store);
}

/// Restores, and detaches while a process has a namespace that was made since, and after that.
const WITH_ANOTHER_NAMESPACE: &str = "
    nix_cache restore --restore-mode $MODE --format json --primary-key \"$1\" --remote \"dir:$2\"
    unshare --mount --propagation private sh -c 'cd /nix/store; exec sleep 600' & other=$!
    trap 'kill $other || true' EXIT
    for step in $(seq 200); do
        test \"$(readlink /proc/$other/cwd)\" = /nix/store && break; sleep 0.05
    done
    before=$(nix-store --verify --check-contents 2>&1; nix path-info --all)
    ! nix_cache detach
    test \"$before\" = \"$(nix-store --verify --check-contents 2>&1; nix path-info --all)\"
    kill $other; wait $other || true
    nix_cache detach";

#[test]
fn mount_points_may_have_any_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for bench in benches() {
        let odd = bench.machine.path("").join(OsStr::from_bytes(b"odd \xff\n\\name#"));
        std::fs::create_dir(&odd).unwrap();
        rustix::mount::mount("none", &odd, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        let mut store = bench.machine.store("mounted");
        bench.mount_on(&store);
        super::detach_cleanly(&store);
        // A root that is not UTF-8 itself.
        let root = bench.machine.path("").join(OsStr::from_bytes(b"root-\xe9"));
        std::fs::rename(&store.root, &root).unwrap();
        store.root = root;
        bench.mount_on(&store);
        assert!(store.dirs().real(&path_named(&store, "everything")).exists());
        assert_ne!(mounts_of(&store), Vec::<std::path::PathBuf>::new());
        super::detach_cleanly(&store);
        assert!(full(&path_named(&bench.saved, "everything")).ends_with("-everything"));
    }
}
