//! Finds the processes that keep an overlay on a store directory in use, before anything is changed.
//!
//! 1. A process in another mount namespace may see a copy of the mount that stays when it is unmounted here. A copy that is
//!    unmounted along with ours, because the mounts propagate, does not count.
//! 2. A process here may have a file or folder of the store open.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// A process, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    process: u32,
    name: String,
}

impl Holder {
    fn new(process: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        Self { process, name: name.trim().to_owned() }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.process, self.name)
    }
}

/// The name of the overlay over the directory `lower` in the list of mounts, in every namespace.
pub(crate) fn overlay_name(lower: &Path) -> io::Result<String> {
    let metadata = fs::metadata(lower)?;
    Ok(format!("nix-cache:{}:{}", metadata.dev(), metadata.ino()))
}

/// One line of the kernel's list of mounts: see `proc_pid_mountinfo(5)`.
struct Line {
    id: String,
    parent: String,
    device: String,
    point: String,
    tags: Vec<String>,
    kind: String,
    source: String,
}

fn lines(process: &str) -> Vec<Line> {
    let bytes = fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Line> {
    let (before, after) = line.split_once(" - ")?;
    let (before, after): (Vec<&str>, Vec<&str>) = (before.split(' ').collect(), after.split(' ').collect());
    let word = |words: &[&str], index: usize| words.get(index).map(|word| (*word).to_owned());
    Some(Line {
        id: word(&before, 0)?,
        parent: word(&before, 1)?,
        device: word(&before, 2)?,
        point: word(&before, 4)?,
        tags: before.iter().skip(6).map(|word| (*word).to_owned()).collect(),
        kind: word(&after, 0)?,
        source: word(&after, 1)?,
    })
}

/// Returns the first process in another mount namespace in which the overlay `name` stays mounted when it is unmounted from
/// `store` here; also if it is mounted twice here.
pub(crate) fn elsewhere(store: &Path, name: &str) -> Option<Holder> {
    let own = lines("self");
    let is_at_store = |line: &&Line| line.kind == "overlay" && line.point.as_bytes() == escaped(store).as_bytes();
    let ours = own.iter().rev().find(is_at_store);
    let is_it = |line: &&Line| {
        line.kind == "overlay" && (line.source == name || ours.is_some_and(|ours| ours.device == line.device))
    };
    let tags_of_parent = |all: &[Line], line: &Line| -> Vec<String> {
        all.iter().find(|other| other.id == line.parent).map(|parent| parent.tags.clone()).unwrap_or_default()
    };
    // An unmount propagates like a mount: within the peer group of its parent.
    let group = ours.and_then(|ours| {
        tags_of_parent(&own, ours).iter().find_map(|tag| tag.strip_prefix("shared:").map(str::to_owned))
    });
    let stays = |all: &[Line], line: &Line| {
        let tags = tags_of_parent(all, line);
        group.as_ref().is_none_or(|group| {
            !tags
                .iter()
                .any(|tag| tag.split_once(':').is_some_and(|(kind, id)| id == group && kind != "propagate_from"))
        })
    };
    let twice = own.iter().filter(is_it).find(|line| ours.is_some_and(|ours| ours.id != line.id) && stays(&own, line));
    if twice.is_some() {
        return Some(Holder::new(std::process::id()));
    }
    let own_namespace = fs::read_link("/proc/self/ns/mnt").ok()?;
    let mut namespaces: BTreeMap<PathBuf, Vec<u32>> = BTreeMap::new();
    for process in processes() {
        if let Ok(namespace) = fs::read_link(format!("/proc/{process}/ns/mnt")) {
            namespaces.entry(namespace).or_default().push(process);
        }
    }
    namespaces.remove(&own_namespace);
    let database = store.parent().map(|nix| nix.join("var/nix/db/db.sqlite"));
    let database = database.and_then(|file| file.metadata().ok()).map(|found| (found.dev(), found.ino()));
    for members in namespaces.into_values() {
        let all = lines(&members[0].to_string());
        if all.iter().filter(is_it).any(|line| stays(&all, line))
            && let Some(process) = members.into_iter().find(|process| !is_nix(*process) || has_open(*process, database))
        {
            return Some(Holder::new(process));
        }
    }
    None
}

/// Returns whether a process is one of Nix's programs. As root, they all create a mount namespace, whichever store they use: one
/// that does not have this store's database open is irrelevant.
fn is_nix(process: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.starts_with("nix") && !name.starts_with("nix-daemon")
}

/// Returns whether a process has a file open.
fn has_open(process: u32, file: Option<(u64, u64)>) -> bool {
    let opened = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let mut files = opened.filter_map(|entry| fs::metadata(entry.path()).ok());
    files.any(|found| Some((found.dev(), found.ino())) == file)
}

/// Returns the first process here that has a file at or below `store` open, as its working directory, or as its program.
pub(crate) fn user_of(store: &Path) -> Option<Holder> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let is_below = |link: PathBuf| fs::read_link(link).is_ok_and(|path| path.starts_with(store));
    let uses = |process: u32| {
        let folder = PathBuf::from(format!("/proc/{process}"));
        if fs::read_link(folder.join("ns/mnt")).ok() != own {
            return false;
        }
        let opened = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        let mapped = || {
            let maps = fs::read(folder.join("maps")).unwrap_or_default();
            let mut prefix = b" ".to_vec();
            prefix.extend(store.as_os_str().as_bytes());
            maps.windows(prefix.len()).any(|window| window == prefix)
        };
        ["cwd", "root", "exe"].map(|name| folder.join(name)).into_iter().chain(opened).any(is_below) || mapped()
    };
    processes().into_iter().find(|process| uses(*process)).map(Holder::new)
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Escapes a path as the kernel does in the list.
fn escaped(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
        .replace('\n', "\\012")
        .replace('#', "\\043")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_the_kernel_writes_it() {
        let line = "36 35 0:45 / /nix/store rw,noatime shared:1 master:2 - overlay nix-cache:1:2 rw,lowerdir=/a";
        let line = parse(line).unwrap();
        assert_eq!((&*line.id, &*line.parent, &*line.device, &*line.point), ("36", "35", "0:45", "/nix/store"));
        assert_eq!((&*line.kind, &*line.source), ("overlay", "nix-cache:1:2"));
        assert_eq!(line.tags, ["shared:1", "master:2"]);
        assert!(parse("").is_none() && parse("1 2 - a").is_none());
    }

    #[test]
    fn who_has_a_folder_open_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(user_of(folder.path()), None);
        let _open = fs::File::open(folder.path()).unwrap();
        assert_eq!(user_of(folder.path()), Some(Holder::new(std::process::id())));
    }
}
