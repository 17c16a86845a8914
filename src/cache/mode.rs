//! How layers get into the store: by mounting where the machine is made for one job, by unpacking everywhere else.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// How layers get into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Mounted below the store directory.
    Mount,
    /// Written into the store directory.
    Unpack,
}

impl Mode {
    /// The word for it in logs and reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Unpack => "unpack",
        }
    }
}

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeRequest {
    /// Whatever suits the machine, which is one of GitHub's or not.
    Auto {
        /// Whether the machine is made for this job and thrown away after it.
        is_hosted: bool,
    },
    /// Mount, if the kernel does it.
    Mount,
    /// Unpack.
    Unpack,
}

/// The mode to try, and in a few words why.
#[must_use]
pub fn choose(request: ModeRequest) -> (Mode, &'static str) {
    match request {
        ModeRequest::Mount => (Mode::Mount, "asked for"),
        ModeRequest::Unpack => (Mode::Unpack, "asked for"),
        ModeRequest::Auto { is_hosted: false } => (Mode::Unpack, "the store here outlives the job"),
        ModeRequest::Auto { is_hosted: true } => match lacking() {
            Some(why) => (Mode::Unpack, why),
            None => (Mode::Mount, "a GitHub-hosted machine"),
        },
    }
}

/// What the machine lacks for mounting, as far as can be told without trying.
fn lacking() -> Option<&'static str> {
    let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists());
    if in_container {
        return Some("inside of a container nothing can be mounted");
    }
    if !cfg!(target_os = "linux") {
        return Some("only Linux mounts layers");
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices");
    }
    // A file system that is a module is not listed before its first use; then the attempt to mount decides.
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has_modules = Path::new("/proc/modules").exists();
    let lacks = |name: &str| !known.lines().any(|line| line.trim_start_matches("nodev").trim() == name);
    if !has_modules && (lacks("squashfs") || lacks("overlay")) {
        return Some("the kernel has no squashfs or no overlay");
    }
    None
}
