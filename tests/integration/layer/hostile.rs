//! Forged and damaged images: the reader trusts nothing in them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix_cache::layer::hash_of;
use nix_cache::layer::squashfs::{Content, Image, Kind, SUPERBLOCK_SIZE, Tree as ImageTree, write_tables};
use nix_cache::store::NarHash;

use super::{Stored, info, store_path, unpack_from};
use crate::support::folder::Folder;
use crate::support::random::Random;
use crate::support::tree::{Tree, noise};

pub(super) fn small_trees() -> Vec<Tree> {
    let file = |size, seed| Tree::File(noise(size, seed), false);
    let names = (0..40u8).map(|n| (vec![b'n', n + 1], file(usize::from(n) * 30, u64::from(n))));
    let mut folder: BTreeMap<Vec<u8>, Tree> = names.collect();
    folder.insert(b"large".to_vec(), file(140_000, 77));
    folder.insert(b"link".to_vec(), Tree::Link(b"../somewhere/else".to_vec()));
    folder.insert(b"folder".to_vec(), Tree::Directory(BTreeMap::from([(b"inside".to_vec(), file(10, 3))])));
    vec![Tree::Directory(folder), file(1000, 5), Tree::Link(b"target".to_vec())]
}

/// Unpacks from `layer` into a folder inside of another. Whatever the image holds, only paths with the right hash are placed,
/// and nothing is written anywhere else.
fn unpack_and_check(stored: &Stored, layer: &Path) -> usize {
    let outer = Folder::new();
    let store = outer.path().join("store");
    fs::create_dir(&store).unwrap();
    let placed = match unpack_from(layer, &stored.infos, &store) {
        Ok(unpacked) => {
            assert_eq!(unpacked.placed.len() + unpacked.rejected.len(), stored.infos.len());
            unpacked.placed
        }
        Err(_) => Vec::new(),
    };
    for (path, _) in &placed {
        let expected = stored.infos.iter().find(|info| info.path == *path).unwrap().nar_hash;
        assert_eq!(hash_of(&store.join(path.as_str())).unwrap(), expected, "{path}");
    }
    assert_eq!(fs::read_dir(&store).unwrap().count(), placed.len(), "nothing else is left in the store");
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1, "nothing is written outside of the store");
    placed.len()
}

#[test]
fn an_image_with_wrong_bytes_harms_nothing() {
    let stored = Stored::new(small_trees());
    let (layer, _) = stored.pack(&stored.items(), 2, "layer");
    let sound = fs::read(&layer).unwrap();
    let tables = Image::open(File::open(&layer).unwrap()).unwrap().bytes_used();
    assert_eq!(unpack_and_check(&stored, &layer), 3);
    let mut random = Random::new();
    let mut rejected = 0;
    for turn in 0..1500u64 {
        let mut bytes = sound.clone();
        for _ in 0..=random.below(3) {
            // The superblock, the tables behind the data, or anywhere.
            let at = match turn % 3 {
                0 => random.below(SUPERBLOCK_SIZE as u64),
                1 => tables - 1 - random.below(3000),
                _ => random.below(bytes.len() as u64),
            };
            bytes[at as usize] = match random.below(3) {
                0 => 0xff,
                1 => 0,
                _ => random.number() as u8,
            };
        }
        fs::write(&layer, &bytes).unwrap();
        rejected += usize::from(unpack_and_check(&stored, &layer) < 3);
    }
    println!("{rejected} of 1500 changed images gave less than all");
    assert!(rejected > 100);
}

#[test]
fn an_image_that_is_cut_off_harms_nothing() {
    let stored = Stored::new(small_trees());
    let (layer, _) = stored.pack(&stored.items(), 2, "layer");
    let used = Image::open(File::open(&layer).unwrap()).unwrap().bytes_used();
    let file = File::options().write(true).open(&layer).unwrap();
    let mut random = Random::new();
    let mut lengths: Vec<u64> = (0..60).map(|_| random.below(used)).chain([0, 1, 95, 96, 97, used - 1]).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    for length in lengths {
        file.set_len(length).unwrap();
        assert_eq!(unpack_and_check(&stored, &layer), 0, "{length} bytes of {used}");
    }
}

#[test]
fn numbers_at_their_limits_harm_nothing() {
    let stored = Stored::new(small_trees());
    let (layer, _) = stored.pack(&stored.items(), 2, "layer");
    let sound = fs::read(&layer).unwrap();
    // Every field of the superblock at every limit.
    for at in (0..SUPERBLOCK_SIZE).step_by(4) {
        for width in [4, 8] {
            for value in [0, 0x7fff_ffff, i64::MAX as u64, u64::MAX, u64::MAX - 4096] {
                let mut bytes = sound.clone();
                let end = (at + width).min(SUPERBLOCK_SIZE);
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
                fs::write(&layer, &bytes).unwrap();
                unpack_and_check(&stored, &layer);
            }
        }
    }
}

/// Writes an image with the format's own writer, which trusts its caller.
pub(super) fn write_image(file: &Path, tree: &ImageTree, data: &[u8], fragments: &[(u64, u32)]) {
    let mut out = File::create(file).unwrap();
    out.write_all(&[0; SUPERBLOCK_SIZE]).unwrap();
    out.write_all(data).unwrap();
    let tables = write_tables(tree, fragments, (SUPERBLOCK_SIZE + data.len()) as u64).unwrap();
    out.write_all(&tables.tail).unwrap();
    out.write_all(&[0; 4096]).unwrap();
    out.write_all_at(&tables.superblock, 0).unwrap();
}

/// An image with one store path, a directory that `contents` makes from the numbers of its nodes.
pub(super) fn image_of(file: &Path, contents: impl FnOnce(&mut ImageTree) -> Vec<u32>) {
    let mut tree = ImageTree::new();
    let inside = contents(&mut tree);
    let path = tree.add(store_path(0).as_str().as_bytes(), Kind::Directory(inside));
    tree.nodes[0].kind = Kind::Directory(vec![path]);
    write_image(file, &tree, b"", &[]);
}

/// What unpacking says of the one path of an image.
fn refusal(file: &Path) -> String {
    let outer = Folder::new();
    let store = outer.path().join("a/b/store");
    fs::create_dir_all(&store).unwrap();
    let wanted = [info(store_path(0), NarHash([0; 32]), 1_000_000)];
    let said = match unpack_from(file, &wanted, &store) {
        Ok(unpacked) => {
            assert!(unpacked.placed.is_empty());
            unpacked.rejected[0].why.clone()
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(fs::read_dir(&store).unwrap().count(), 0, "{said}");
    assert_eq!(fs::read_dir(outer.path().join("a/b")).unwrap().count(), 1, "{said}");
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1, "{said}");
    said
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let folder = Folder::new();
    let file = folder.path().join("image");
    let names: [&[u8]; 8] = [b"..", b".", b"../../x", b"/etc/x", b"a/b", b"a/../../x", b"nul\0", b"/"];
    for name in names {
        image_of(&file, |tree| {
            let content = tree.add_content(Content::default());
            vec![tree.add(name, Kind::File { content, executable: false })]
        });
        let said = refusal(&file);
        assert!(said.contains("invalid name"), "{}: {said}", name.escape_ascii());
    }
}

#[test]
fn names_that_come_twice_are_refused() {
    let folder = Folder::new();
    let file = folder.path().join("image");
    // A link first, and then a file of the same name, which would be written to where the link leads.
    image_of(&file, |tree| {
        let link = tree.add(b"same", Kind::Symlink((*b"/tmp").into()));
        let inner = tree.add(b"inner", Kind::Symlink((*b"x").into()));
        vec![link, tree.add(b"same", Kind::Directory(vec![inner]))]
    });
    assert!(refusal(&file).contains("out of order"));
}

#[test]
fn a_wrong_path_is_refused_and_removed() {
    let folder = Folder::new();
    let file = folder.path().join("image");
    image_of(&file, |tree| vec![tree.add(b"link", Kind::Symlink((*b"/etc/passwd").into()))]);
    assert!(refusal(&file).contains("wrong bytes"));
}

#[test]
fn a_file_at_the_end_of_all_numbers_is_refused() {
    let folder = Folder::new();
    let file = folder.path().join("image");
    for (start, size, words) in [
        (u64::MAX - 10, 300_000, 3),
        (i64::MAX as u64, 300_000, 3),
        (96, u64::MAX, 3),
        (u64::MAX, u64::MAX, 1),
        (0, 131_072, 1),
    ] {
        image_of(&file, |tree| {
            let content = Content { size, start, blocks: vec![(1 << 24) | 131_072; words], fragment: None };
            let content = tree.add_content(content);
            vec![tree.add(b"file", Kind::File { content, executable: false })]
        });
        refusal(&file);
    }
}

#[test]
fn what_would_grow_without_end_is_refused() {
    let folder = Folder::new();
    let file = folder.path().join("image");
    // A terabyte of zeros takes no room in the image, and would in the store.
    image_of(&file, |tree| {
        let content = Content { size: 1 << 40, start: 0, blocks: vec![0; 1 << 23], fragment: None };
        let content = tree.add_content(content);
        vec![tree.add(b"zeros", Kind::File { content, executable: false })]
    });
    assert!(refusal(&file).contains("too large"));
}
