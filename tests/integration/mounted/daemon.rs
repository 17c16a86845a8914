//! A store of a daemon, as multi-user installations have it: root's, used by others through a socket.

use super::{Bench, KEY, assert_plain, benches, full, path_named, run};
use crate::support::realnix::{Root, at_nix};
use crate::support::skip_refused;

/// Starts the daemon and ends it with the script; `as_nobody` runs a client of another user's.
const DAEMON: &str = "mkdir -m 777 -p /nix/home
    ln -sf \"$(command -v nix)\" /nix/home/nix-daemon
    rm -f /nix/var/nix/daemon-socket/socket
    $START /nix/home/nix-daemon >/nix/home/log 2>&1 & daemon=$!
    trap 'kill $daemon; wait $daemon || true' EXIT
    for step in $(seq 200); do test -S /nix/var/nix/daemon-socket/socket && break; sleep 0.05; done
    as_nobody() {
        setpriv --reuid=65534 --regid=65534 --clear-groups env NIX_REMOTE=daemon HOME=/nix/home \\
            XDG_CACHE_HOME=/nix/home XDG_STATE_HOME=/nix/home XDG_CONFIG_HOME=/nix/home NIX_CONF_DIR=/nix/home \"$@\"
    }
    restore() { nix_cache restore --restore-mode ${MODE:-mount} --format json --primary-key \"$1\" --remote \"dir:$2\"; }
";

/// A script with a daemon at `/nix`, on an empty store of the bench; None where another user cannot run Nix.
pub(super) fn with_daemon(bench: &Bench, root: Root, script: &str) -> Option<String> {
    with_daemon_started(bench, root, "", script)
}

/// As [`with_daemon`], with the command that `start` begins.
pub(super) fn with_daemon_started(bench: &Bench, root: Root, start: &str, script: &str) -> Option<String> {
    let store = bench.machine.store("mounted");
    let can_run = "setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nix nix --version";
    if !at_nix(&store, root, can_run).output().is_ok_and(|output| output.status.success()) {
        skip_refused(&format!("a user other than root cannot run Nix {} here.", bench.machine.nix.version));
        return None;
    }
    let mut command = at_nix(&store, root, &format!("{}{script}", DAEMON.replace("$START", start)));
    let said = run(command.arg("sh").arg(KEY).arg(&bench.cache).arg(full(&path_named(&bench.saved, "everything"))));
    Some(said)
}

/// A bench whose cache holds a derivation that is not built.
fn with_derivation(bench: &Bench) -> String {
    let mut command = bench.saved.command("nix-instantiate");
    let project = bench.machine.path("project");
    run(command.arg(project).args(["--argstr", "system", &crate::support::machine::system(), "-A", "onTop"]));
    bench.save();
    full(&path_named(&bench.saved, "on-top.drv"))
}

#[test]
fn another_users_clients_build_and_collect_garbage() {
    for (number, bench) in benches().enumerate() {
        let derivation = with_derivation(&bench);
        // The last one is streamed.
        let mode = if number + 1 == super::nixes().len() { "stream" } else { "mount" };
        let script = format!(
            "MODE={mode}
            restore \"$1\" \"$2\"
            as_nobody nix path-info --all | sort >/nix/home/known
            test $(wc -l </nix/home/known) = $(ls /nix/store | grep -v -e '\\.lock$' -e '^trash$' | wc -l)
            built=$(as_nobody nix-store -r {derivation} --add-root /nix/home/root)
            grep -q another $(cat /nix/store/*-on-top)
            as_nobody nix-store --verify-path $built \"$3\"
            as_nobody nix-store --gc
            test ! -e \"$3\"
            as_nobody nix-store --verify-path $built
            rm /nix/home/root
            as_nobody nix-store --gc
            test $(as_nobody nix path-info --all | wc -l) = 0
            ls /nix/store
            trap - EXIT; kill $daemon; wait $daemon || true
            # The server of a stream would outlive the script.
            nix_cache detach"
        );
        let Some(said) = with_daemon(&bench, Root::Shared, &script) else { continue };
        assert!(said.contains(&format!("\"mode\": \"{mode}\"")), "{said}");
    }
}

#[test]
fn a_daemon_that_runs_sees_a_restore_and_a_detach() {
    for (number, bench) in benches().enumerate() {
        // The first one is streamed.
        let mode = if number == 0 { "stream" } else { "mount" };
        let script = format!(
            "MODE={mode}
            as_nobody nix path-info --all
            restore \"$1\" \"$2\"
            as_nobody nix-store --verify-path \"$3\"
            as_nobody nix-store -q --references \"$3\" | grep -q package-7
            # So does one that starts after it.
            kill $daemon; wait $daemon || true; rm -f /nix/var/nix/daemon-socket/socket
            /nix/home/nix-daemon >>/nix/home/log 2>&1 & daemon=$!
            for step in $(seq 200); do test -S /nix/var/nix/daemon-socket/socket && break; sleep 0.05; done
            as_nobody nix-store --verify-path \"$3\"
            nix_cache detach
            ! as_nobody nix-store --verify-path \"$3\" 2>/dev/null"
        );
        if with_daemon(&bench, Root::Shared, &script).is_some() {
            let store = bench.machine.store("mounted");
            assert_plain(&store);
            assert!(store.valid().is_empty());
        }
    }
}
