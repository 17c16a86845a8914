//! A user who may use `sudo` without a password, as on a hosted runner.

use std::path::Path;
use std::process::Command;

use super::{Bench, KEY, at_nix, benches, full, path_named, run};
use crate::support::machine::TestStore;
use crate::support::skip_refused;

/// In front of the real `sudo`: writes down what it is given.
const WITNESS: &str = "#!/bin/sh
env >>/nix/home/sudo-environment
printf '%s\\n' \"$@\" >>/nix/home/sudo-arguments
exec \"$SUDO\" \"$@\"
";

/// Runs a script as a user who may use `sudo`, at `/nix`. The rules of `sudo` are others in this mount namespace only. None
/// where there is no `sudo`, or where it does not do it.
fn with_sudo(store: &TestStore) -> Option<impl Fn(&str) -> Command + use<>> {
    let sudo = ["/usr/bin/sudo", "/bin/sudo"].into_iter().find(|file| Path::new(file).is_file());
    let Some(sudo) = sudo else {
        skip_refused("there is no `sudo`: the way through it is not tested.");
        return None;
    };
    let start = format!(
        "mkdir -p /nix/home/bin
        chown 65534:65534 /nix/home
        test -e /nix/home/bin/nix-cache || ln \"$NIX_CACHE\" /nix/home/bin/nix-cache || cp \"$NIX_CACHE\" /nix/home/bin/nix-cache
        printf '%s\\n' 'ALL ALL=(ALL:ALL) NOPASSWD: ALL' >/nix/home/rules; chmod 440 /nix/home/rules
        mount --bind /nix/home/rules /etc/sudoers
        cat >/nix/home/bin/sudo <<'END'
{}END
        chmod 755 /nix/home/bin/sudo
        as_nobody() {{ setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nix/home PATH=/nix/home/bin:$PATH \"$@\"; }}",
        WITNESS.replace("$SUDO", sudo)
    );
    let command = {
        let store = store.clone();
        move |script: &str| at_nix(&store, &format!("{start}\n{script}"))
    };
    let works = command("as_nobody sudo -n -- true").output().expect("unshare runs");
    if !works.status.success() {
        let said = super::both(&works);
        skip_refused(&format!("`sudo` does not work in a mount namespace here: {said}"));
        return None;
    }
    Some(command)
}

/// A restore and a detach of an unprivileged user's, in a store of root's.
fn restore_and_detach(bench: &Bench, mode: &str) -> Option<(TestStore, String)> {
    let store = bench.machine.store("mounted");
    let command = with_sudo(&store)?;
    let script = format!(
        "mkdir -p /nix/home/cache; cp -r \"$2\"/. /nix/home/cache; chown -R 65534:65534 /nix/home/cache
        rm -f /nix/home/sudo-*
        export ACTIONS_RUNTIME_TOKEN=very-secret ACTIONS_RESULTS_URL=http://localhost/ GITHUB_TOKEN=also-secret
        as_nobody env {mode} --format json --primary-key \"$1\" --remote dir:/nix/home/cache
        unset ACTIONS_RUNTIME_TOKEN GITHUB_TOKEN
        nix-store --verify --check-contents
        stat -c 'owned by %u' \"$3\"
        as_nobody nix-cache detach"
    );
    let all = full(&path_named(&bench.saved, "everything"));
    let said = run(command(&script).arg("sh").arg(KEY).arg(&bench.cache).arg(all));
    Some((store, said))
}

fn assert_through_sudo(bench: &Bench, mode: &str, word: &str) {
    let Some((store, said)) = restore_and_detach(bench, mode) else { return };
    assert!(said.contains(&format!("\"mode\": \"{word}\"")) && said.contains("owned by 0"), "{said}");
    assert!(said.contains("Unmounted."), "{said}");
    super::assert_plain(&store);
    assert!(store.valid().is_empty());
}

#[test]
fn an_unprivileged_user_mounts_through_sudo() {
    for bench in benches() {
        assert_through_sudo(&bench, "nix-cache restore --restore-mode mount", "mount");
        assert_through_sudo(&bench, "nix-cache restore --restore-mode stream", "stream");
    }
}

#[test]
fn on_a_hosted_runner_mounting_is_what_happens() {
    // Docker's file of that kind is not there at the root of the script.
    let file = "/run/.containerenv";
    if Path::new(file).exists() {
        skip_refused(&format!("{file} says that this is a container, where a restore does not try to mount."));
        return;
    }
    for bench in benches() {
        assert_through_sudo(&bench, "RUNNER_ENVIRONMENT=github-hosted nix-cache restore --restore-mode auto", "mount");
    }
}

#[test]
fn after_a_restart_of_the_machine_another_users_restore_puts_it_right() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let Some(command) = with_sudo(&store) else { return };
        let restore = "restore --restore-mode mount --format json --primary-key \"$1\" --remote";
        // The mounts end with the first script, and the database does not.
        run(command(&format!("nix_cache {restore} \"dir:$2\"")).arg("sh").arg(KEY).arg(&bench.cache));
        assert!(!store.valid().is_empty() && super::mounts_of(&store).is_empty());
        let script = format!(
            "mkdir -p /nix/home/cache; cp -r \"$2\"/. /nix/home/cache; chown -R 65534:65534 /nix/home/cache
            as_nobody nix-cache {restore} dir:/nix/home/cache
            nix-store --verify --check-contents
            as_nobody nix-cache detach"
        );
        let said = run(command(&script).arg("sh").arg(KEY).arg(&bench.cache));
        assert!(said.contains("\"mode\": \"mount\"") && said.contains("\"hit\": \"exact\""), "{said}");
        assert!(said.contains("Unmounted."), "{said}");
        super::assert_plain(&store);
    }
}

#[test]
fn a_store_that_is_in_use_is_named_as_such_through_sudo() {
    for bench in benches().take(1) {
        let store = bench.machine.store("mounted");
        let Some(command) = with_sudo(&store) else { return };
        let script = "mkdir -p /nix/home/cache; cp -r \"$2\"/. /nix/home/cache; chown -R 65534:65534 /nix/home/cache
            as_nobody nix-cache restore --restore-mode mount --primary-key \"$1\" --remote dir:/nix/home/cache
            (cd /nix/store && exec sleep 600) &
            user=$!
            sleep 0.2
            as_nobody nix-cache detach || echo \"refused with $?\"
            kill $user
            wait $user || true
            as_nobody nix-cache detach";
        let said = run(command(script).arg("sh").arg(KEY).arg(&bench.cache));
        assert!(said.contains("refused with 1") && said.contains("(sleep)"), "{said}");
        assert!(said.contains("The layers stay mounted") && !said.contains("Root's rights"), "{said}");
        assert!(said.contains("Unmounted."), "{said}");
    }
}

#[test]
fn sudo_sees_no_secrets() {
    for bench in benches().take(1) {
        let Some((store, _)) = restore_and_detach(&bench, "nix-cache restore --restore-mode mount") else { return };
        let seen = |name: &str| std::fs::read_to_string(store.root.join("nix/home").join(name)).unwrap();
        let (environment, arguments) = (seen("sudo-environment"), seen("sudo-arguments"));
        assert!(environment.contains("PATH="), "{environment}");
        for secret in ["secret", "TOKEN", "ACTIONS_", "GITHUB_"] {
            assert!(!environment.contains(secret) && !arguments.contains(secret), "{environment}{arguments}");
        }
        let expected = "-n\n--\n/nix/home/bin/nix-cache\nprivileged\n";
        assert!(arguments.lines().count() >= 8 && arguments.starts_with(expected), "{arguments}");
    }
}
