//! A store directory that is mounted read-only, as on NixOS.

use super::{KEY, assert_plain, at_nix, benches, run};

const READ_ONLY: &str = "mount --bind /nix/store /nix/store; mount -o remount,bind,ro /nix/store
    assert_read_only() { ! mkdir /nix/store/probe 2>/dev/null; }
    assert_read_only
";

#[test]
fn root_restores_into_it_and_it_stays_read_only() {
    for bench in benches() {
        for mode in ["unpack", "mount"] {
            let store = bench.machine.store(mode);
            let script = format!(
                "{READ_ONLY}nix_cache restore --restore-mode {mode} --format json --primary-key \"$1\" --remote \"dir:$2\"
                assert_read_only
                nix-store --verify --check-contents"
            );
            let said = run(at_nix(&store, &script).arg("sh").arg(KEY).arg(&bench.cache));
            assert!(said.contains("\"mode\": \"unpack\"") && said.contains("\"hit\": \"exact\""), "{said}");
            assert_eq!(said.contains("the store directory is mounted read-only"), mode == "mount", "{said}");
            assert_eq!(store.valid(), bench.saved.valid());
            assert_plain(&store);
        }
    }
}

/// Asserts that a restore downloads no layer, says why, and is a miss.
fn assert_refused_early(start: &str, with: &str, expected: &str) {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        // What a download would need is not there.
        let script = format!(
            "cp -r \"$2\" /nix/cache; rm -r /nix/cache/*layer*
            mkdir -p /nix/var/nix-cache/users/65534; touch /nix/var/nix-cache/lock; chmod 666 /nix/var/nix-cache/lock
            chown -R 65534:65534 /nix/var/nix-cache/users/65534 /nix/cache
            {start}
            {with} \"$NIX_CACHE\" restore --format json --primary-key \"$1\" --remote dir:/nix/cache"
        );
        let said = run(at_nix(&store, &script).arg("sh").arg(KEY).arg(&bench.cache));
        assert!(said.contains("\"cannot-attach\"") && said.contains("\"hit\": \"miss\""), "{said}");
        assert!(said.contains(expected) && !said.contains("\"name\": \"fetch\""), "{said}");
        assert!(store.valid().is_empty());
    }
}

#[test]
fn a_user_without_rights_is_told_before_anything_is_downloaded() {
    let nobody = "mkdir /nix/bin; printf '#!/bin/sh\\nexit 1\\n' >/nix/bin/sudo; chmod 755 /nix/bin/sudo
        as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups env PATH=/nix/bin:$PATH HOME=/nix \"$@\"; }";
    assert_refused_early(&format!("{nobody}\n{READ_ONLY}"), "as_nobody", "Root's rights are needed");
}

#[test]
fn a_file_system_that_is_read_only_itself_is_told_before_anything_is_downloaded() {
    let start = "mount -t tmpfs none /nix/store; mount -o remount,ro /nix/store";
    assert_refused_early(start, "", "/nix/store is mounted read-only and cannot be made writable");
}
