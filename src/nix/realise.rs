//! Lets Nix realise paths.

use std::collections::BTreeSet;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::base::child::without_secrets;
use crate::base::printing;
use crate::store::{StoreDirs, StorePath};

/// Number of paths per command line: each has some 60 bytes, and Linux accepts 128 KiB in one argument and 2 MiB in total.
pub(crate) const PATHS_AT_ONCE: usize = 2000;

/// Lets Nix fetch `paths` from its substituters, until `end`. Paths that cannot be fetched are not valid afterwards, and paths
/// that refer to them are not restored; there is no other failure.
pub(crate) fn fetch(dirs: &StoreDirs, paths: &BTreeSet<StorePath>, end: Option<Instant>) {
    let all: Vec<String> = paths.iter().map(|path| path.full(dirs.store_dir())).collect();
    for some in all.chunks(PATHS_AT_ONCE) {
        let mut command = Command::new("nix-store");
        if let Some(store) = dirs.argument() {
            command.arg("--store").arg(store);
        }
        command.args(["--realise", "--keep-going", "--ignore-unknown"]).args(some);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        match run_until(without_secrets(&mut command), end) {
            Ok(status) if status.success() => {}
            Ok(status) => {
                tracing::warn!(
                    "Nix could not fetch all {} from its substituters ({status}).",
                    crate::base::human::count(some.len() as u64, "path")
                );
            }
            Err(error) => tracing::warn!("Cannot run `nix-store` to fetch paths from substituters: {error}."),
        }
    }
}

/// Interval for polling whether a process has ended.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Runs `command` until it exits, or stops it at `end`.
pub(crate) fn run_until(command: &mut Command, end: Option<Instant>) -> std::io::Result<ExitStatus> {
    #[allow(clippy::disallowed_methods, reason = "what it says goes through a pipe")]
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    // The reader ends with the last process that holds the pipe, which may outlive Nix, so it is not joined.
    let _ = child.stderr.take().map(printing::relay);
    let Some(end) = end else { return child.wait() };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= end {
            tracing::warn!(
                "Stopped Nix, which was still fetching from its substituters, because `restore-timeout` is over."
            );
            child.kill()?;
            return child.wait();
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_stopped() {
        let soon = || Some(Instant::now() + Duration::from_millis(100));
        assert!(!run_until(Command::new("sleep").arg("1000"), soon()).unwrap().success());
        assert!(
            run_until(&mut Command::new("true"), Some(Instant::now() + Duration::from_hours(1))).unwrap().success()
        );
        assert!(run_until(&mut Command::new("true"), None).unwrap().success());
    }
}
