//! `nix-cache stream`: the state of a stream, its end before everything is here, and processes that wait for bytes.

use std::process::{Child, Stdio};

use super::faults::Service;
use super::*;
use crate::support::fake::{Fault, FaultName, Operation};

/// Runs `nix-cache stream` with a word.
pub(super) fn stream(store: &TestStore, word: &str) -> Run {
    let mut command = store.machine.nix_cache(&["stream", word]);
    command.arg("--store-root").arg(&store.root);
    Run::of(command)
}

/// Kills the worker of a store, and waits for the next one.
pub(super) fn kill_worker(store: &TestStore) {
    let killed = worker(store);
    kill_process(killed, Signal::KILL).unwrap();
    wait_for("another worker", || worker(store) != killed);
}

/// Asserts that the worker of a store never needed more memory than a server may.
pub(super) fn assert_small(store: &TestStore) {
    let said = fs::read_to_string(format!("/proc/{}/status", status(store)["pid"])).unwrap();
    let peak = said.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("the worker needed {peak} KiB");
    assert!(peak < 64 << 10, "the worker needed {peak} KiB");
}

fn reader(file: &Path) -> Child {
    Command::new("cat").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Asserts that `child` ends, and returns whether it did what it should.
fn ends(mut child: Child) -> bool {
    for _ in 0..1500 {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("a process that waits for bytes does not end");
}

/// Nothing ends a process that waits for a page in the kernel, so there is a command that lets its read fail.
#[test]
fn an_abort_ends_the_reads_that_wait_and_what_is_here_stays_readable() {
    let Some(service) = Service::new() else { return };
    let streamed = service.streamed();
    let store = &streamed.0;
    let one = store.dirs().real(&path_named(store, "one"));
    let before = fs::read(one.join("file-3")).unwrap();
    service.fake.fault(Fault::new(FaultName::Hang).on(Operation::Download).times(1000));
    let (mut killed, waits) = (reader(&one.join("file-12")), reader(&one.join("file-15")));
    wait_for("reads that wait", || status(store)["waiting"].as_u64() > Some(0));
    killed.kill().unwrap();
    let said = stream(store, "status");
    assert!(said.code == Some(0) && said.out.contains("1 layer streamed"), "{said:?}");
    let said = stream(store, "abort");
    assert!(said.code == Some(0) && said.out.contains("streaming was aborted"), "{said:?}");
    assert!(!ends(killed) && !ends(waits));
    service.fake.clear_faults();
    // A worker that follows does not begin again.
    kill_worker(store);
    assert_eq!(fs::read(one.join("file-3")).unwrap(), before);
    fs::read(one.join("file-18")).unwrap_err();
    let outcome = Run::of(service.verb(store, "save", &[])).json();
    let note = outcome["notes"].as_array().unwrap().iter().find(|note| note["code"] == "layer-lost").unwrap();
    let message = note["message"].as_str().unwrap();
    assert!(
        message.contains("aborted") && message.contains("-one") && message.contains("Nothing is damaged"),
        "{note}"
    );
    run_detach(store);
    assert_no_stream(store);
}

#[test]
fn what_a_worker_knew_survives_it() {
    let Some(service) = Service::new() else { return };
    let streamed = service.streamed();
    let store = &streamed.0;
    fs::read(store.dirs().real(&path_named(store, "one")).join("file-7")).unwrap();
    assert_eq!(stream(store, "finish").code, Some(0));
    let before = status(store);
    assert!(before["read"].as_array().is_some_and(|read| !read.is_empty()), "{before}");
    kill_worker(store);
    let after = status(store);
    for field in ["bytes-here", "touched", "read", "is-finished"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    // What is missing still comes when it is read, and nothing else.
    let file = |folder: &Path| fs::read(folder.join("file-15")).unwrap();
    let one = store.dirs().real(&path_named(store, "one"));
    assert_eq!(file(&one), file(&store.machine.path("one-source/one")));
    let (here, all) = arrived(store);
    assert!(before["bytes-here"].as_u64() < Some(here) && here + (4 << 20) < all, "{here} of {all} bytes");
    detach_cleanly(store);
    let said = stream(store, "status");
    assert!(said.code == Some(0) && said.out.contains("No layers are streamed"), "{said:?}");
}

/// On a machine that GitHub discards, layers that are worth it are streamed, if loop devices and squashfs work on a FUSE file.
#[test]
fn a_hosted_machine_streams_what_pays_where_the_self_test_passes() {
    // Docker's file of that kind is not there at the root of the script.
    let file = "/run/.containerenv";
    if Path::new(file).exists() {
        skip_refused(&format!("{file} says that this is a container, where a restore does not try to mount."));
        return;
    }
    let Some(nix) = nixes().last() else { return };
    let bench = Bench::new(nix);
    let store = bench.machine.store("streamed");
    // The last one: a kernel that mounts no image on a FUSE file.
    let script = r#"mkdir -p /nix/home/refusing
        restore() { RUNNER_ENVIRONMENT=github-hosted nix_cache restore --restore-mode auto --primary-key "$1" --remote "dir:$2" 2>&1; }
        printf '#!/bin/sh\ncase "$*" in *nix-cache-stream-*) echo refused >&2; exit 32;; esac\nexec /bin/mount "$@"\n' \
            >/nix/home/refusing/mount
        chmod 755 /nix/home/refusing/mount
        echo; restore "$@"; nix_cache detach
        export NIX_CACHE_TUNING=stream_from=1
        echo =; restore "$@"; nix_cache stream status; nix-store --verify --check-contents; nix_cache detach
        echo =; PATH=/nix/home/refusing:$PATH; restore "$@"; nix_cache stream status; nix_cache detach"#;
    let said = run(at_nix(&store, script).arg("sh").arg(KEY).arg(&bench.cache));
    let [small, large, refusing] = <[&str; 3]>::try_from(said.split("\n=\n").collect::<Vec<_>>()).unwrap();
    assert!(small.contains("attached by stream") && small.contains("from which streaming pays"), "{small}");
    assert!(small.contains("INFO mount: ") && !small.contains("WARN"), "{small}");
    assert!(large.contains("INFO stream: ") && large.contains("1 layer streamed"), "{large}");
    assert!(refusing.contains("INFO mount: ") && refusing.contains("No layers are streamed"), "{refusing}");
    assert!(refusing.contains("instead of streamed") && refusing.contains("self-test failed: "), "{refusing}");
    assert_no_stream(&store);
}
