//! Processes in other mount namespaces, which may not see our mounts.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// A process in another mount namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Elsewhere {
    pub pid: u32,
    /// The name of its program according to the kernel.
    pub program: String,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (process {})", self.program, self.pid)
    }
}

impl Elsewhere {
    /// A path to this process's view of the absolute `path`.
    pub(super) fn view(&self, path: &Path) -> PathBuf {
        self.folder().join("root").join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Its folder in `/proc`.
    pub(super) fn folder(&self) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string())
    }
}

/// Returns all accessible processes in other mount namespaces. Root can access all of them.
pub(crate) fn elsewhere() -> Vec<Elsewhere> {
    let Ok(here) = fs::read_link("/proc/self/ns/mnt") else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let look = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        fs::read_link(entry.path().join("ns/mnt")).ok().filter(|namespace| *namespace != here)?;
        let program = fs::read(entry.path().join("comm")).unwrap_or_default();
        let program = String::from_utf8_lossy(&program).trim().escape_debug().to_string();
        Some(Elsewhere { pid, program })
    };
    let mut found: Vec<Elsewhere> = processes.flatten().filter_map(look).collect();
    found.sort();
    found
}

/// Returns whether both are the same file or folder.
pub(crate) fn is_one(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}
