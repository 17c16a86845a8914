//! File trees as values: made at random, written to disk, read back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix_cache::layer::squashfs::{BLOCK_SIZE, FRAGMENT_SIZE};
use proptest::collection::{btree_map, vec};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};

use super::random::mix;

/// What a store path can hold.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// Bytes, and whether they can be executed.
    File(Vec<u8>, bool),
    /// The target of a symlink.
    Link(Vec<u8>),
    /// What is in a directory, by name.
    Directory(BTreeMap<Vec<u8>, Tree>),
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(bytes, executable) => {
                write!(f, "File({} bytes, {:?}…, {executable})", bytes.len(), &bytes[..bytes.len().min(4)])
            }
            Self::Link(target) => write!(f, "Link({} bytes)", target.len()),
            Self::Directory(entries) => f.debug_map().entries(entries).finish(),
        }
    }
}

impl Tree {
    /// Writes the tree to `path`, which is not there, with modes that a store path never has.
    pub(crate) fn write(&self, path: &Path) {
        match self {
            Self::File(bytes, executable) => {
                let file = fs::File::create_new(path).unwrap();
                file.set_len(bytes.len() as u64).unwrap();
                // Zeros stay a hole.
                if bytes.iter().any(|byte| *byte != 0) {
                    file.write_all_at(bytes, 0).unwrap();
                }
                file.set_permissions(fs::Permissions::from_mode(if *executable { 0o700 } else { 0o600 })).unwrap();
            }
            Self::Link(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
            Self::Directory(entries) => {
                fs::create_dir(path).unwrap();
                for (name, tree) in entries {
                    tree.write(&path.join(OsStr::from_bytes(name)));
                }
            }
        }
    }

    /// Reads the tree at `path` and asserts of everything in it what holds in a store: modes 444 and 555, the second second of
    /// 1970, and this owner.
    pub(crate) fn read_canonical(path: &Path, owner: u32) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        let seen = path.display();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1, 0), "{seen}");
        assert_eq!((metadata.uid(), metadata.gid()), (owner, owner), "{seen}");
        if metadata.is_symlink() {
            return Self::Link(fs::read_link(path).unwrap().into_os_string().into_vec());
        }
        if metadata.is_file() {
            assert!(mode == 0o444 || mode == 0o555, "{seen} has mode {mode:o}");
            return Self::File(fs::read(path).unwrap(), mode == 0o555);
        }
        assert_eq!(mode, 0o555, "{seen}");
        let entries = fs::read_dir(path).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_vec(), Self::read_canonical(&entry.path(), owner))
        });
        Self::Directory(entries.collect())
    }

    /// The first place where another tree differs, in words.
    pub(crate) fn difference(&self, other: &Self) -> String {
        match (self, other) {
            (Self::Directory(here), Self::Directory(there)) => {
                let names = here.keys().chain(there.keys());
                let differ = |name: &&Vec<u8>| here.get(*name) != there.get(*name);
                let Some(name) = names.into_iter().find(differ) else { return "no difference".into() };
                let below = match (here.get(name), there.get(name)) {
                    (Some(here), Some(there)) => here.difference(there),
                    (here, _) => format!("only {}", if here.is_some() { "expected" } else { "found" }),
                };
                format!("{}/{below}", name.escape_ascii())
            }
            _ => format!("{self:?} expected, {other:?} found"),
        }
    }

    /// Files, symlinks and directories in it.
    pub(crate) fn nodes(&self) -> u64 {
        match self {
            Self::Directory(entries) => 1 + entries.values().map(Self::nodes).sum::<u64>(),
            _ => 1,
        }
    }
}

/// `size` bytes that do not compress, the same for the same `seed`.
pub(crate) fn noise(size: usize, seed: u64) -> Vec<u8> {
    let words = (0..size.div_ceil(8) as u64).flat_map(|at| mix(seed ^ at.wrapping_mul(0x9e37_79b9)).to_le_bytes());
    words.take(size).collect()
}

/// Sizes around those that the format treats differently.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => prop_oneof![Just(0), Just(1), Just(100), Just(4096), Just(60_000)],
        4 => prop_oneof![Just(FRAGMENT_SIZE - 1), Just(FRAGMENT_SIZE), Just(FRAGMENT_SIZE + 1), Just(3 * FRAGMENT_SIZE)],
        1 => prop_oneof![Just(BLOCK_SIZE - 1), Just(BLOCK_SIZE), Just(BLOCK_SIZE + 1), Just(3 * BLOCK_SIZE + 12345)],
        2 => 0..2 * FRAGMENT_SIZE,
    ]
}

/// Contents of which the same ones come up again and again.
fn content() -> impl Strategy<Value = Vec<u8>> {
    (size(), 0..6u64).prop_map(|(size, kind)| match kind {
        0 => vec![0; size],
        1 => vec![b'a'; size],
        2 => b"some text, over and over; ".iter().copied().cycle().take(size).collect(),
        3 => {
            // Zeros between other blocks, and at the end.
            let mut bytes = noise(size, kind);
            for (number, block) in bytes.chunks_mut(BLOCK_SIZE).enumerate() {
                if number % 2 == 1 {
                    block.fill(0);
                }
            }
            bytes
        }
        seed => noise(size, seed),
    })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no name has it", |byte| *byte != 0 && *byte != b'/');
    let bytes = prop_oneof![6 => vec(byte.clone(), 1..12), 1 => vec(byte, 200..=255)];
    let bytes = prop_oneof![4 => "[a-z. -]{1,8}".prop_map(String::into_bytes), 4 => bytes];
    bytes.prop_filter("it means a directory", |name| !matches!(&name[..], b"." | b".."))
}

fn link() -> impl Strategy<Value = Vec<u8>> {
    let target = any::<u8>().prop_filter("no target has it", |byte| *byte != 0);
    prop_oneof![6 => vec(target.clone(), 1..60), 1 => vec(target, 3000..4000)]
}

/// Any tree.
pub(crate) fn tree() -> BoxedStrategy<Tree> {
    let leaf = prop_oneof![
        5 => (content(), any::<bool>()).prop_map(|(bytes, executable)| Tree::File(bytes, executable)),
        2 => link().prop_map(Tree::Link),
        1 => Just(Tree::Directory(BTreeMap::new())),
    ];
    leaf.prop_recursive(6, 40, 10, |inner| btree_map(name(), inner, 0..10).prop_map(Tree::Directory)).boxed()
}
