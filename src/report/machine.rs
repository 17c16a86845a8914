//! The machine that the job runs on, for the report.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::base::memory::Memory;
use crate::flake::current_system;
use crate::github::env::{Environment, without_secrets};
use crate::report::Machine;
use crate::store::StoreDirs;

/// Longest wait for `nix --version`.
const PATIENCE: Duration = Duration::from_secs(10);

/// Describes this machine, on which [`free_space`] was `free` at the start of the job.
pub(crate) async fn describe(dirs: &StoreDirs, environment: Environment, free: u64) -> Machine {
    Machine {
        system: current_system(),
        environment,
        installation: installation(dirs).to_owned(),
        store_dir: dirs.store_dir().to_owned(),
        cpus: std::thread::available_parallelism().map_or(0, |count| count.get() as u64),
        memory_bytes: Memory::now().map_or(0, |memory| memory.total),
        disk_free_bytes: free,
        nix_version: nix_version("nix").await,
    }
}

/// With a daemon, many users share the store; without one, only its owner uses it. Empty without a store.
fn installation(dirs: &StoreDirs) -> &'static str {
    if dirs.state_dir().join("daemon-socket/socket").exists() {
        "multi-user"
    } else if dirs.db_path().exists() {
        "single-user"
    } else {
        ""
    }
}

/// Bytes that an ordinary user may still write at the store's location; 0 if unknown.
pub(crate) fn free_space(dirs: &StoreDirs) -> u64 {
    let store = dirs.real_store();
    let Some(there) = store.ancestors().find(|path| path.exists()) else { return 0 };
    rustix::fs::statvfs(there).map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize))
}

/// The output of `program --version`; empty if it cannot be run or takes too long.
async fn nix_version(program: &str) -> String {
    let mut command = Command::new(program);
    without_secrets(command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()));
    let mut command = tokio::process::Command::from(command);
    match tokio::time::timeout(PATIENCE, crate::base::child::output_of(command.kill_on_drop(true))).await {
        Ok(Ok(output)) if output.status.success() => version(&String::from_utf8_lossy(&output.stdout)),
        _ => String::new(),
    }
}

/// `2.34.8` for Nix itself; for an alternative also its name, such as `(Lix, like Nix) 2.93.0`.
fn version(line: &str) -> String {
    let line = line.lines().next().unwrap_or_default().trim();
    let rest = line.strip_prefix("nix ").unwrap_or(line);
    rest.strip_prefix("(Nix) ").unwrap_or(rest).to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn versions_name_what_is_not_nix_itself() {
        for (line, expected) in [
            ("nix (Nix) 2.8.1\n", "2.8.1"),
            ("nix (Lix, like Nix) 2.93.0\n", "(Lix, like Nix) 2.93.0"),
            ("nix (Determinate Nix 3.6.2) 2.29.0\n", "(Determinate Nix 3.6.2) 2.29.0"),
            ("", ""),
        ] {
            assert_eq!(version(line), expected);
        }
    }

    #[test]
    fn the_daemon_makes_the_difference() {
        let root = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(root.path()));
        assert_eq!(installation(&dirs), "");
        fs::create_dir_all(dirs.state_dir().join("db")).unwrap();
        fs::write(dirs.db_path(), "").unwrap();
        assert_eq!(installation(&dirs), "single-user");
        fs::create_dir_all(dirs.state_dir().join("daemon-socket")).unwrap();
        fs::write(dirs.state_dir().join("daemon-socket/socket"), "").unwrap();
        assert_eq!(installation(&dirs), "multi-user");
    }

    #[test]
    fn space_is_that_of_the_next_folder_that_exists() {
        let root = tempfile::tempdir().unwrap();
        let free = free_space(&StoreDirs::new(Some(&root.path().join("not/there/yet"))));
        // Others write to the same disk meanwhile.
        assert!(free > 0 && free.abs_diff(free_space(&StoreDirs::new(Some(root.path())))) < free / 2);
    }

    #[tokio::test]
    async fn a_nix_that_is_not_there_has_no_version() {
        assert_eq!(nix_version("/no/such/nix").await, "");
        assert_eq!(nix_version("false").await, "");
    }

    #[tokio::test]
    async fn nix_sees_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nix");
        fs::write(&program, "#!/bin/sh\necho \"nix (Nix) [$NIX_CACHE_INPUTS$ACTIONS_RUNTIME_TOKEN]\"\n").unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(nix_version(program.to_str().unwrap()).await, "[]");
    }
}
