//! Processes in other mount namespaces, which need not see what is mounted here.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// A process in another mount namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Elsewhere {
    /// Its number.
    pub pid: u32,
    /// The name of its program, as the kernel has it.
    pub program: String,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (process {})", self.program, self.pid)
    }
}

impl Elsewhere {
    /// The path by which this process's view of `path`, an absolute path, can be reached from here.
    pub(super) fn view(&self, path: &Path) -> PathBuf {
        self.folder().join("root").join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Its folder in `/proc`.
    pub(super) fn folder(&self) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string())
    }
}

/// All processes in other mount namespaces than ours that may be looked at. Root may look at all.
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

/// Whether both are the same file or folder.
pub(crate) fn is_one(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}
