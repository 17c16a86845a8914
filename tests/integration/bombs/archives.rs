//! Archives of the user's files of some kilobytes that would become gigabytes, each read in a process of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::MOST;
use crate::support::envelope;
use crate::support::folder::Folder;
use nix_cache::files::{FilesLevel, PATHS, Roots, restore};
use nix_cache::remote::DirectoryRemote;
use nix_cache::series::sign::Keyring;

/// Not a test: restores what is in a folder.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn restores_an_archive() {
    let folder = PathBuf::from(std::env::var_os("NIX_CACHE_TEST_ARCHIVE").expect("it is told which"));
    let home = folder.join("home");
    fs::create_dir_all(home.join("work")).unwrap();
    let roots = Roots::user(&home.join("work"), Some(&home), &["~/c".to_owned()]).unwrap();
    let level =
        FilesLevel { name: PATHS, key: "k".into(), prefixes: Vec::new(), roots, level: 1, keys: Keyring::default() };
    let remote = DirectoryRemote::open(&folder.join("cache")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let restored = runtime.block_on(restore(&remote, &level, &folder.join("scratch")));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak:{peak}");
    println!("notes: {:?}", restored.notes);
}

/// The head of a member of this size.
fn member(kind: tar::EntryType, name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Stores an archive that is `start`, and then `piece` so many times.
fn store(folder: &Path, (files, bytes): (u64, u64), start: &[u8], piece: &[u8], times: usize, window: Option<u32>) {
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    if let Some(window) = window {
        zstd.long_distance_matching(true).unwrap();
        zstd.window_log(window).unwrap();
    }
    zstd.write_all(start).unwrap();
    (0..times).for_each(|_| zstd.write_all(piece).unwrap());
    let facts = json!({ "digest": "1".repeat(64), "files": files, "bytes": bytes, "created": 0 });
    let entry = envelope::sealed("files", json!({ "format": 2, "facts": facts }), &zstd.finish().unwrap());
    println!("{} bytes", entry.len());
    fs::create_dir_all(folder.join("cache/files")).unwrap();
    fs::write(folder.join("cache/files/files%2Fpaths%2Fk#g1"), entry).unwrap();
}

#[test]
fn small_archives_that_would_become_large_take_little_memory() {
    let (file, long) = (tar::EntryType::Regular, tar::EntryType::GNULongName);
    let zeros = vec![0; 1 << 20];
    let folders: Vec<u8> =
        (0..8).flat_map(|number| member(tar::EntryType::Directory, &format!("home/c/{number}"), 0)).collect();
    let gibibyte = 1 << 30;
    for (what, facts, start, piece, times, window) in [
        ("a file that its header does not declare", (1, 1), member(file, "home/c/a", gibibyte), &zeros, 1024, None),
        (
            "a file that it declares, in a large window",
            (1, 150 << 20),
            member(file, "home/c/a", 150 << 20),
            &zeros,
            151,
            Some(27),
        ),
        ("a window that is too large", (1, 1 << 20), member(file, "home/c/a", 1 << 20), &zeros, 2, Some(28)),
        ("a long name", (1, gibibyte), member(long, "", gibibyte), &zeros, 1024, None),
        ("folders", (1, 1), Vec::new(), &folders, 500_000, None),
    ] {
        let folder = Folder::new();
        store(folder.path(), facts, &start, piece, times, window);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "bombs::archives::restores_an_archive"]);
        let output = command.env("NIX_CACHE_TEST_ARCHIVE", folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let memory = said.lines().find_map(|line| line.split_once("peak:")?.1.trim().strip_suffix("kB"));
        let memory: u64 = memory.unwrap_or_else(|| panic!("{what}: {said}")).trim().parse().unwrap();
        println!("{what}: {memory} KiB, {said}");
        assert!(memory < MOST, "{what}: {memory} KiB");
    }
}
