//! Machines that lack something: memory, room in temporary folders, devices.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use super::faults::Service;
use super::*;

/// A control group with a limit of memory, which goes when nothing is in it.
struct Group(PathBuf);

impl Group {
    fn new(bytes: u64) -> Option<Self> {
        let unified = Path::new("/sys/fs/cgroup");
        let has_memory =
            fs::read_to_string(unified.join("cgroup.subtree_control")).is_ok_and(|all| all.contains("memory"));
        let (parent, limit) = if has_memory {
            (unified.to_owned(), "memory.max")
        } else {
            (unified.join("memory"), "memory.limit_in_bytes")
        };
        let group = parent.join(format!("nix-cache-test-{}", std::process::id()));
        let made = fs::create_dir(&group).and_then(|()| fs::write(group.join(limit), bytes.to_string()));
        if let Err(error) = made {
            let _ = fs::remove_dir(&group); // it may not be there
            skip_refused(&format!("no control group with a limit of memory can be made here: {error}"));
            return None;
        }
        Some(Self(group))
    }

    fn add(&self, process: &str) {
        fs::write(self.0.join("cgroup.procs"), process).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Those who are still in it go back to where everybody is.
        let parent = self.0.parent().unwrap().join("cgroup.procs");
        for process in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(&parent, process); // it may have ended
        }
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// The worker of a store, and its guard.
pub(super) fn worker_and_guard(store: &TestStore) -> [String; 2] {
    let worker = status(store)["pid"].to_string();
    let stat = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let guard = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    [worker, guard]
}

/// Where memory is short, the kernel takes it from others: without the server, nobody could read any more.
#[test]
fn a_lack_of_memory_costs_no_read() {
    let Some(service) = Service::new() else { return };
    let Some(group) = Group::new(80 << 20) else { return };
    let streamed = service.streamed();
    let store = &streamed.0;
    let processes = worker_and_guard(store);
    let protect =
        Command::new("sh").args(["-c", "echo -1000 >/proc/self/oom_score_adj"]).stderr(Stdio::null()).status();
    let may_protect = protect.unwrap().success();
    for process in &processes {
        if may_protect {
            assert_eq!(fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap().trim(), "-1000");
        }
        group.add(process);
    }
    let mut verify = store.command("nix-store");
    let verify = verify.args(["--verify", "--check-contents"]).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..3 {
        // It reads a line without an end into its memory.
        let script = format!("echo $$ >{}/cgroup.procs && exec tail /dev/zero", group.0.display());
        let greedy = Command::new("sh").args(["-ec", &script]).status().unwrap();
        assert_eq!(greedy.signal(), Some(9), "the memory was not short: {greedy}");
    }
    let output = verify.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    store.assert_verifies();
    // Without that right, the worker may be chosen. Another one has taken over then.
    let after = worker_and_guard(store);
    assert!(after[1] == processes[1] && (after == processes || !may_protect), "the server was killed");
    assert_eq!(status(store)["lost"], serde_json::json!({}));
    detach_cleanly(store);
    assert_no_stream(store);
}

/// The job is the same on each of them, and only slower.
#[test]
fn a_machine_without_a_device_or_without_temporary_room_gets_the_whole_store() {
    let Some(nix) = nixes().last() else { return };
    let bench = Bench::new(nix);
    let store = bench.machine.store("with a space");
    let script = r#"mkdir -p /nix/home/tmp
        restore() { nix_cache restore --restore-mode stream --primary-key "$KEY" --remote "dir:$CACHE" 2>&1; }
        part() {
            restore; nix_cache stream status; nix-store --verify --check-contents 2>&1
            test $(nix path-info --all 2>/dev/null | wc -l) = $COUNT
            nix_cache detach; nix-store --gc >/dev/null 2>&1; echo =
        }
        mount -t tmpfs -o size=16k,mode=1777 none /nix/home/tmp
        head -c 100k /dev/zero >/nix/home/tmp/all 2>/dev/null || true
        export TMPDIR=/nix/home/tmp; part; unset TMPDIR
        mount --bind /dev/null /dev/fuse; part; umount /dev/fuse
        mount -t tmpfs -o mode=755 none /nix/home/tmp
        for name in null zero full random urandom fuse; do touch /nix/home/tmp/$name; mount --bind /dev/$name /nix/home/tmp/$name; done
        mount --rbind /nix/home/tmp /dev; part"#;
    let mut command = at_nix(&store, script);
    command.env("KEY", KEY).env("CACHE", &bench.cache).env("COUNT", bench.saved.valid().len().to_string());
    let said = run(&mut command);
    let parts: Vec<&str> = said.split("\n=\n").collect();
    let [full, no_fuse, no_loop] = [parts[0], parts[1], parts[2]];
    assert!(full.contains("INFO stream: ") && full.contains("1 layer streamed"), "{full}");
    assert!(no_fuse.contains("INFO mount: ") && no_fuse.contains("instead of streamed"), "{no_fuse}");
    assert!(no_loop.contains("INFO unpack: "), "{no_loop}");
    for part in [no_fuse, no_loop] {
        assert!(part.contains("No layers are streamed"), "{part}");
    }
    assert_no_stream(&store);
}
