//! Small images that would expand to a lot: reading them needs little memory and time.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use super::changed::{Parts, memory_for, peak, stored};
use super::hostile::{image_of, small_trees, write_image};
use super::{Stored, info, store_path};
use crate::support::folder::Folder;
use nix_cache::attach::unpack::{Target, unpack};
use nix_cache::layer::squashfs::{Content, Image, Kind, Tree as ImageTree, check};
use nix_cache::store::{NarHash, PathInfo};

/// Memory in MiB that no image may exceed, with what the test itself takes.
const MOST: u64 = 256;

/// What checking and unpacking say of an image, in this process.
fn said(file: &Path, nar_size: u64, deadline: Option<Instant>) -> (String, String) {
    let checked = check(&File::open(file).unwrap(), &AtomicUsize::new(1000))
        .map_or_else(|error| error.to_string(), |_| String::new());
    let store = Folder::new();
    let wanted: PathInfo = info(store_path(0), NarHash([0; 32]), nar_size);
    let progress = AtomicU64::new(0);
    let target =
        Target { store: store.path(), owner: None, is_valid: &|_| false, threads: 2, progress: &progress, deadline };
    let unpacked = Image::open(File::open(file).unwrap()).and_then(|image| unpack(&image, &[&wanted], &target));
    let unpacked = match unpacked {
        Ok(unpacked) => unpacked.rejected.first().expect("nothing has a hash of zeros").why.clone(),
        Err(error) => error.to_string(),
    };
    assert_eq!(fs::read_dir(store.path()).unwrap().count(), 0, "{unpacked}");
    (checked, unpacked)
}

/// Not a test: what [`memory_for`] runs.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn looks_at_an_image() {
    let file = std::env::var_os("NIX_CACHE_TEST_IMAGE").expect("it is told which");
    let (checked, unpacked) = said(file.as_ref(), 10_000_000, None);
    assert!(!checked.is_empty(), "the image is refused");
    println!("{checked}; {unpacked}\npeak: {}", peak());
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Type 1 (directory), mode 555, owner and time, number; place of the listing, links, size, parent.
fn folder(number: u32, offset: u32, size: u32) -> Vec<u8> {
    words(&[1 | 0o555 << 16, 1 << 16, 1, number, 0, 3, size | offset << 16, 1])
}

fn listing(name_of_first: &[u8], second: Option<&[u8]>, inode: u32) -> Vec<u8> {
    let mut out = words(&[u32::from(second.is_some()), 0, 1]);
    for name in [Some(name_of_first), second].into_iter().flatten() {
        out.extend(words(&[inode, 1 | (name.len() as u32 - 1) << 16]));
        out.extend(name);
    }
    out
}

/// Directories of which each holds the next one twice: 2^40 in 4 KiB.
fn shared_directories(inodes: u32) -> Vec<u8> {
    let levels = 40;
    let (mut table, mut names) = (folder(2, 0, 3), Vec::new());
    for level in 1..=levels {
        let own = listing(b"a", Some(b"b"), 32 * (level - 1));
        table.extend(folder(level + 2, names.len() as u32, own.len() as u32 + 3));
        names.extend(own);
    }
    let top = listing(store_path(0).as_str().as_bytes(), None, 32 * levels);
    let root = table.len() as u32;
    table.extend(folder(1, names.len() as u32, top.len() as u32 + 3));
    names.extend(top);
    let mut parts = empty();
    parts.tables = [vec![table], vec![names], Vec::new()];
    parts.set(4, inodes);
    parts.set(32, root);
    parts.join()
}

fn empty() -> Parts {
    let folder = Folder::new();
    let file = folder.path().join("image");
    write_image(&file, &ImageTree::new(), b"", &[]);
    Parts::of(&fs::read(file).unwrap())
}

#[test]
fn directories_that_hold_each_other_twice_end_soon() {
    let folder = Folder::new();
    let file = folder.path().join("image");
    fs::write(&file, shared_directories(42)).unwrap();
    assert!(fs::metadata(&file).unwrap().len() <= 8192);
    let (checked, unpacked) = said(&file, u64::MAX / 4, None);
    assert!(!checked.is_empty());
    // Not the size that the snapshot promises, which may be anything.
    assert!(unpacked.contains("more directory entries than inodes") || unpacked.contains("MiB free"), "{unpacked}");
    let (_, unpacked) = said(&file, 1_000_000, None);
    assert!(unpacked.contains("more directory entries than inodes"), "{unpacked}");
    // More inodes than that are promised too: then what the path may take is the bound.
    fs::write(&file, shared_directories(1 << 21)).unwrap();
    let (checked, unpacked) = said(&file, 100_000, None);
    assert!(!checked.is_empty() && unpacked.contains("larger"), "{checked}; {unpacked}");
}

#[test]
fn zeros_that_are_not_stored_count_as_bytes_of_the_disk() {
    let folder = Folder::new();
    let file = folder.path().join("image");
    let size = 244 << 30;
    image_of(&file, |tree| {
        let content =
            tree.add_content(Content { size, start: 96, blocks: vec![0; (size >> 17) as usize], fragment: None });
        vec![tree.add(b"zeros", Kind::File { content, executable: false })]
    });
    assert!(fs::metadata(&file).unwrap().len() < 64 * 1024);
    let (_, unpacked) = said(&file, 1 << 50, None);
    assert!(unpacked.contains("MiB free"), "{unpacked}");
    let (_, unpacked) = said(&file, 1 << 20, None);
    assert!(unpacked.contains("larger"), "{unpacked}");
    // A disk that has the room, or a path that may take it: then time is the bound.
    let (_, unpacked) = said(&file, 1 << 20, Some(Instant::now()));
    assert!(unpacked.contains("time"), "{unpacked}");
    assert!(memory_for(&file) <= MOST);
}

#[test]
fn metadata_that_decompresses_to_much_takes_little_memory() {
    let stored_trees = Stored::new(small_trees());
    let (layer, _) = stored_trees.pack(&stored_trees.items(), 2, "layer");
    let sound = Parts::of(&fs::read(layer).unwrap());
    let folder_ = Folder::new();
    let file = folder_.path().join("image");
    let many = |block: &[u8], count: usize| vec![stored(block); count];
    let tables = sound.tables.each_ref().map(|table| table.iter().map(|block| stored(block)).collect::<Vec<_>>());
    for table in 0..3 {
        // What is there, and behind it a gigabyte.
        let mut tables = tables.clone();
        tables[table].extend(many(&[0; 8192], 130_000));
        fs::write(&file, sound.join_stored(&tables)).unwrap();
        assert!(fs::metadata(&file).unwrap().len() < 8 << 20);
        let memory = memory_for(&file);
        assert!(memory <= MOST, "table {table}: {memory} MiB");
    }
    // Two million symlinks that belong to no directory, and as many files that do.
    let link = [words(&[3 | 0o777 << 16, 1 << 16, 1, 2, 2, 1]), vec![b'x']].concat();
    let mut links = link.repeat(8192);
    links.truncate(links.len() / 8192 * 8192);
    let mut parts = sound.clone();
    parts.set(4, 1 << 21);
    let blocks: Vec<Vec<u8>> = links.chunks(8192).map(stored).collect();
    let mut tables = tables.clone();
    tables[0] = (0..250).flat_map(|_| blocks.clone()).collect();
    fs::write(&file, parts.join_stored(&tables)).unwrap();
    let memory = memory_for(&file);
    assert!(memory <= MOST, "{memory} MiB");
}

#[test]
fn numbers_at_their_limits_take_little_memory() {
    let folder_ = Folder::new();
    let file = folder_.path().join("image");
    let long_link = words(&[3 | 0o777 << 16, 1 << 16, 1, 2, 2, u32::MAX]);
    // A long directory: links, size, block, parent, no index, offset, no attributes.
    let long_folder = words(&[8 | 0o555 << 16, 1 << 16, 1, 2, 2, u32::MAX, 0, 1, 0, u32::MAX]);
    let long_file = words(&[9 | 0o444 << 16, 1 << 16, 1, 2, 96, 0, u32::MAX, u32::MAX, 0, 0, 2, u32::MAX, 0, u32::MAX]);
    for inode in [long_link, long_folder, long_file] {
        let mut parts = empty();
        let names = listing(store_path(0).as_str().as_bytes(), None, 0);
        let root = folder(1, 0, names.len() as u32 + 3);
        let at = inode.len() as u32;
        parts.tables = [vec![[inode, root].concat()], vec![names], Vec::new()];
        parts.set(4, 2);
        parts.set(32, at);
        fs::write(&file, parts.join()).unwrap();
        assert!(memory_for(&file) <= MOST);
    }
}
