//! Metadata that is changed before it is compressed: whatever is accepted is what the packer would have written, and the kernel
//! sees in it what we see.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use nix_cache::layer::squashfs::{Image, Inode, Kind, Listed, Member, Tree as ImageTree, check, write_tables};

use super::Stored;
use super::changed::{Parts, SUPERBLOCK};
use super::hostile::small_trees;
use super::image::{mounted, odd_trees};
use crate::support::folder::Folder;
use crate::support::random::mix;

/// Images that are tried; `NIX_CACHE_TEST_FUZZ` asks for more.
const INPUTS: u64 = 400;

fn checked(file: &Path) -> Result<Vec<Member>, String> {
    check(&File::open(file).unwrap(), &AtomicUsize::new(10_000)).map_err(|error| error.to_string())
}

/// The tree of an image as the packer would have numbered it.
fn tree_of(image: &Image) -> ImageTree {
    let mut tree = ImageTree::new();
    let mut roots = image.root().unwrap();
    roots.sort_by(|a, b| a.name[33..].cmp(&b.name[33..]).then_with(|| a.name.cmp(&b.name)));
    let mut numbers: Vec<u32> = roots.iter().map(|root| node(image, root, &mut tree)).collect();
    numbers.sort_by(|a, b| tree.nodes[*a as usize].name.cmp(&tree.nodes[*b as usize].name));
    tree.nodes[0].kind = Kind::Directory(numbers);
    tree
}

fn node(image: &Image, listed: &Listed, tree: &mut ImageTree) -> u32 {
    let kind = match image.inode(listed.inode).unwrap() {
        Inode::Directory(entries) => Kind::Directory(entries.iter().map(|entry| node(image, entry, tree)).collect()),
        Inode::File(file) => {
            let content = tree.add_content(file.content().unwrap());
            Kind::File { content, executable: file.executable }
        }
        Inode::Symlink(target) => Kind::Symlink(target.into()),
    };
    tree.add(&listed.name, kind)
}

/// Asserts that the packer's own functions write the same image.
fn assert_ours(file: &Path, what: &str) {
    let bytes = fs::read(file).unwrap();
    let image = Image::open(File::open(file).unwrap()).unwrap();
    let end = u64::from_le_bytes(bytes[64..72].try_into().unwrap());
    let tables = write_tables(&tree_of(&image), image.fragments(), end).unwrap();
    assert!(bytes[..SUPERBLOCK] == tables.superblock, "{what}: the superblock");
    let used = image.bytes_used() as usize;
    assert!(bytes[end as usize..used] == tables.tail, "{what}: the tables");
}

/// Asserts that the kernel shows in `place` what our reader finds.
fn assert_same_view(image: &Image, listed: &[Listed], place: &Path) {
    let mut names: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.iter().map(|name| name.as_bytes()).eq(listed.iter().map(|entry| &*entry.name)));
    for (name, entry) in names.iter().zip(listed) {
        let path = place.join(name);
        let seen = fs::symlink_metadata(&path).unwrap();
        assert_eq!((seen.uid(), seen.gid(), seen.mtime()), (0, 0, 1));
        let (mode, size) = match image.inode(entry.inode).unwrap() {
            Inode::Directory(entries) => {
                assert_same_view(image, &entries, &path);
                (0o040_555, seen.size())
            }
            Inode::File(file) => (if file.executable { 0o100_555 } else { 0o100_444 }, file.size),
            Inode::Symlink(target) => {
                assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), target);
                (0o120_777, target.len() as u64)
            }
        };
        assert_eq!((seen.mode(), seen.size()), (mode, size), "{}", path.display());
    }
}

fn same_view(file: &Path) -> bool {
    let image = Image::open(File::open(file).unwrap()).unwrap();
    mounted(file, |point| assert_same_view(&image, &image.root().unwrap(), point))
}

/// Changes `parts` in one to three places. Returns what was done.
fn change(parts: &mut Parts, next: &mut impl FnMut(u64) -> u64) -> String {
    let mut what = String::new();
    for _ in 0..=next(3) {
        let table = next(8) as usize;
        let Some(bytes) = (match table {
            0..4 => parts.tables[0].last_mut(),
            4 | 5 => parts.tables[1].last_mut(),
            6 => parts.tables[2].last_mut(),
            _ => Some(&mut parts.superblock),
        }) else {
            continue;
        };
        let at = next(bytes.len() as u64) as usize;
        let kind = next(7);
        match kind {
            0 => bytes[at] ^= 1 << next(8),
            1 => bytes[at] = next(256) as u8,
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes[at] = bytes[at].wrapping_sub(1),
            4 => bytes[at] = if next(2) == 0 { 0xff } else { 0 },
            // One part in the place of another: an inode, a name, a size.
            5 => {
                let length = [2, 4, 8, 16, 32, 56][next(6) as usize].min(bytes.len() - at);
                let from = next((bytes.len() - length) as u64 + 1) as usize;
                bytes.copy_within(from..from + length, at);
            }
            _ if table < 7 => drop(bytes.drain(at..(at + 1 + next(60) as usize).min(bytes.len()))),
            _ => bytes[at] = b'x',
        }
        write!(what, " table {table} byte {at} change {kind};").expect("a string takes everything");
    }
    what
}

#[test]
fn what_is_accepted_is_what_the_packer_writes() {
    let stored = Stored::new(small_trees());
    let (layer, packed) = stored.pack(&stored.items(), 2, "layer");
    let bytes = fs::read(&layer).unwrap();
    let sound = Parts::of(&bytes);
    assert!(sound.join() == bytes, "nothing is lost on the way");
    let members = checked(&layer).unwrap();
    let sizes: Vec<_> = stored.infos.iter().map(|info| (&info.path, info.nar_size)).collect();
    assert_eq!(members.iter().map(|member| (&member.path, member.nar_size)).collect::<Vec<_>>(), sizes);
    assert_eq!(packed.digests.size, bytes.len() as u64);
    let inputs = std::env::var("NIX_CACHE_TEST_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(INPUTS);
    let folder = Folder::new();
    let file = folder.path().join("image");
    let (mut number, mut accepted, mut seen) = (0, 0, 0);
    let mut next = |end: u64| {
        number += 1;
        mix(number) % end
    };
    for input in 0..inputs {
        let mut parts = sound.clone();
        let what = format!("input {input}:{}", change(&mut parts, &mut next));
        if parts == sound {
            continue;
        }
        fs::write(&file, parts.join()).unwrap();
        if checked(&file).is_ok() {
            accepted += 1;
            assert_ours(&file, &what);
            if seen < 12 && same_view(&file) {
                seen += 1;
            }
        }
    }
    println!("{accepted} of {inputs} changed images are ones that the packer could have written, {seen} were mounted");
    assert!(accepted > 0, "names, targets and modes can be others");
    assert!(accepted * 3 < inputs);
}

#[test]
fn whatever_was_packed_is_accepted() {
    let many: Vec<_> = (0..3).flat_map(|_| odd_trees()).collect();
    let stored = Stored::new(many);
    let (layer, _) = stored.pack(&stored.items(), 2, "layer");
    let members = checked(&layer).unwrap();
    let mut sizes: Vec<_> = stored.infos.iter().map(|info| (info.path.clone(), info.nar_size)).collect();
    sizes.sort();
    assert!(members.into_iter().map(|member| (member.path, member.nar_size)).eq(sizes));
    assert_ours(&layer, "sound");
    same_view(&layer);
}

#[test]
fn every_byte_outside_of_data_and_hashes_matters() {
    let stored = Stored::new(small_trees());
    let (layer, packed) = stored.pack(&stored.items(), 2, "layer");
    let sound = fs::read(&layer).unwrap();
    let long = |at: usize| u64::from_le_bytes(sound[at..at + 8].try_into().unwrap()) as usize;
    let index = long(40).next_multiple_of(4096);
    let is_hash =
        |at: usize| at >= index + 16 && at < index + 16 + packed.blocks.len() * 20 && (at - index - 16) % 20 < 16;
    let file = stored.folder.path().join("changed");
    for at in (0..SUPERBLOCK).chain((long(64)..sound.len()).step_by(7)).filter(|at| !is_hash(*at)) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x11;
        fs::write(&file, &bytes).unwrap();
        let accepted = checked(&file);
        // A changed frame may decompress to another tree that the packer could have written.
        assert!(accepted.is_err() || (long(64)..long(80)).contains(&at), "byte {at}");
    }
    for length in [sound.len() - 1, sound.len() + 1, sound.len() - 4096, sound.len() + 4096] {
        let mut bytes = sound.clone();
        bytes.resize(length, 0);
        fs::write(&file, &bytes).unwrap();
        assert!(checked(&file).is_err(), "{length} bytes");
    }
}
