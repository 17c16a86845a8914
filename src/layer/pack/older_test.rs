use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::base::digest::Sha;
use crate::layer::hash_of;
use crate::layer::pack::{Item, Options, Outcome, Packed, pack_with};
use crate::layer::recipe::split;
use crate::layer::squashfs::{FRAGMENT_SIZE, Piece, check};
use crate::store::StorePath;

/// Files by name: a seed, and a size.
type Files = BTreeMap<String, (u64, usize)>;

fn bytes_of(seed: u64, size: usize) -> Vec<u8> {
    let mut out = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    // Every second one can be compressed.
    out.iter_mut().filter(|_| seed.is_multiple_of(2)).for_each(|byte| *byte &= 7);
    out
}

fn path(hash: &str, name: &str) -> StorePath {
    format!("{}-{name}", hash.repeat(32)).parse().unwrap()
}

fn write(store: &Path, path: &StorePath, files: &Files) {
    let folder = store.join(path.as_str()).join("share");
    fs::create_dir_all(&folder).unwrap();
    for (name, (seed, size)) in files {
        fs::write(folder.join(name), bytes_of(*seed, *size)).unwrap();
    }
}

fn packed(store: &Path, paths: &[&StorePath], older: &Older) -> (File, Packed) {
    packed_in_blocks(BLOCK_SIZE, store, paths, older)
}

fn packed_in_blocks(block_size: usize, store: &Path, paths: &[&StorePath], older: &Older) -> (File, Packed) {
    let item =
        |path: &&StorePath| Item { path: (*path).clone(), nar_hash: hash_of(&store.join(path.as_str())).unwrap() };
    let items: Vec<Item> = paths.iter().map(item).collect();
    let file = tempfile::tempfile().unwrap();
    let options = Options { threads: 2, block_size, ..Options::new() };
    let outcome = pack_with(store, &items, (&|_| None, older), &file, options, &AtomicU64::new(0)).unwrap();
    let Outcome::Packed(packed) = outcome else { panic!("{outcome:?}") };
    (file, packed)
}

/// What the only path in a layer has in its only folder.
fn content(layer: &File) -> BTreeMap<String, Vec<u8>> {
    let image = Image::open(layer.try_clone().unwrap()).unwrap();
    let mut reader = BlockReader::new(&image).unwrap();
    let listed = |inode| match image.inode(inode).unwrap() {
        Inode::Directory(entries) => entries,
        _ => panic!("a folder"),
    };
    let top = image.root().unwrap();
    let folder = listed(listed(top[0].inode)[0].inode);
    let mut read = |inode| {
        let Inode::File(file) = image.inode(inode).unwrap() else { panic!("a file") };
        let mut bytes = Vec::new();
        let sink = |piece: Piece<'_>| {
            match piece {
                Piece::Bytes(more) => bytes.extend_from_slice(more),
                Piece::Hole(size) => bytes.resize(bytes.len() + size, 0),
            }
            Ok(())
        };
        reader.file(&file, sink).unwrap();
        bytes
    };
    folder.iter().map(|entry| (String::from_utf8(entry.name.to_vec()).unwrap(), read(entry.inode))).collect()
}

fn known(packed: &Packed) -> KnownBlocks {
    let mut known = KnownBlocks::default();
    known.add(Sha([1; 32]), &packed.blocks, None);
    known
}

fn older(layer: &File, known: &KnownBlocks) -> Older {
    Older::of(vec![layer.try_clone().unwrap()], &BTreeSet::from(["tool"]), known, (1 << 30, 2))
}

/// Asserts that a layer is one of ours and has these files. Returns how many bytes a save sends for it.
fn sent(layer: &File, packed: &Packed, files: &Files, known: &KnownBlocks) -> u64 {
    let expected: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(name, (seed, size))| (name.clone(), bytes_of(*seed, *size))).collect();
    assert!(content(layer) == expected, "the files are others");
    check(layer, &AtomicUsize::new(10)).unwrap();
    let new = tempfile::tempfile().unwrap();
    let split = split(layer, &packed.blocks, known, &new).unwrap();
    split.map_or(packed.digests.size, |(_, digests)| digests.size)
}

fn files() -> Files {
    let small = (0..40_u64).map(|number| (format!("small-{number}"), (number, 2000 + 700 * number as usize)));
    let large = (50..54_u64).map(|number| (format!("large-{number}"), (number, 150_000 * (number as usize - 48))));
    small.chain(large).collect()
}

#[test]
fn only_files_that_changed_are_sent() {
    let store = tempfile::tempdir().unwrap();
    let (old, new) = (path("0", "tool-1.0"), path("1", "tool-1.1"));
    let before = files();
    let mut after = before.clone();
    // One small file in four, one byte more each, and one of the large ones.
    for number in (0..40).step_by(4) {
        let file = after.get_mut(&format!("small-{number}")).unwrap();
        *file = (file.0 + 1000, file.1 + 1);
    }
    after.insert("large-51".to_owned(), (777, 400_000));
    write(store.path(), &old, &before);
    write(store.path(), &new, &after);
    let (base, base_packed) = packed(store.path(), &[&old], &Older::default());
    let known = known(&base_packed);
    let older = older(&base, &known);
    let (layer, packed_new) = packed(store.path(), &[&new], &older);
    let changed: usize = after.iter().filter(|(name, file)| before[*name] != **file).map(|(_, file)| file.1).sum();
    let bytes = sent(&layer, &packed_new, &after, &known);
    assert!(bytes < changed as u64 + 10_000, "{bytes} for {changed}");
    let (plain, packed_plain) = packed(store.path(), &[&new], &Older::default());
    let without = sent(&plain, &packed_plain, &after, &known);
    assert!(without > bytes + 200_000, "{without} without, {bytes} with them");
}

/// Layers of many small files have smaller blocks, and in those of earlier commits they have 128 KiB.
#[test]
fn a_layer_with_smaller_blocks_is_read_and_its_small_files_are_used_again() {
    for block_size in [128 << 10, FRAGMENT_SIZE] {
        let store = tempfile::tempdir().unwrap();
        let (old, new) = (path("0", "tool-1.0"), path("1", "tool-1.1"));
        write(store.path(), &old, &files());
        write(store.path(), &new, &files());
        let (base, base_packed) = packed_in_blocks(block_size, store.path(), &[&old], &Older::default());
        let known = known(&base_packed);
        assert_eq!(sent(&base, &base_packed, &files(), &KnownBlocks::default()), base_packed.digests.size);
        let (layer, packed_new) = packed(store.path(), &[&new], &older(&base, &known));
        let bytes = sent(&layer, &packed_new, &files(), &known);
        let large: usize = files().iter().filter(|(name, _)| name.starts_with("large")).map(|(_, file)| file.1).sum();
        assert!(bytes < large as u64 + 10_000, "{bytes} for {large}, blocks of {block_size}");
    }
}

#[test]
fn of_a_large_file_that_changed_at_its_end_only_the_end_is_sent() {
    let store = tempfile::tempdir().unwrap();
    let (old, new) = (path("0", "tool-1.0"), path("1", "tool-1.1"));
    let file = |size| Files::from([("large".to_owned(), (2, size))]);
    let (before, after) = (file(900_000), file(900_100));
    write(store.path(), &old, &before);
    write(store.path(), &new, &after);
    let (_, base) = packed(store.path(), &[&old], &Older::default());
    let (layer, packed_new) = packed(store.path(), &[&new], &Older::default());
    let bytes = sent(&layer, &packed_new, &after, &known(&base));
    assert!(bytes < base.digests.size / 5, "{bytes} of {}", base.digests.size);
}

#[test]
fn a_block_is_not_taken_for_a_small_part_of_it() {
    let store = tempfile::tempdir().unwrap();
    let (old, new) = (path("0", "tool"), path("1", "tool"));
    let before = files();
    let after: Files = before.iter().take(1).map(|(name, file)| (name.clone(), *file)).collect();
    write(store.path(), &old, &before);
    write(store.path(), &new, &after);
    let (base, base_packed) = packed(store.path(), &[&old], &Older::default());
    let known = known(&base_packed);
    let (layer, packed_new) = packed(store.path(), &[&new], &older(&base, &known));
    sent(&layer, &packed_new, &after, &known);
    let (_, plain) = packed(store.path(), &[&new], &Older::default());
    assert_eq!(packed_new.blocks, plain.blocks);
}

#[test]
fn only_paths_of_the_same_name_and_blocks_that_a_recipe_can_name_are_used() {
    let store = tempfile::tempdir().unwrap();
    let old = path("0", "other");
    write(store.path(), &old, &files());
    let (base, packed) = packed(store.path(), &[&old], &Older::default());
    assert!(older(&base, &known(&packed)).is_empty());
    let of = |known: &KnownBlocks, most| {
        Older::of(vec![base.try_clone().unwrap()], &BTreeSet::from(["other"]), known, (most, 1)).is_empty()
    };
    assert!(of(&KnownBlocks::default(), 1 << 30) && of(&known(&packed), 10) && !of(&known(&packed), 1 << 30));
}

#[test]
fn a_layer_that_changes_while_it_is_used_again_is_an_error() {
    let store = tempfile::tempdir().unwrap();
    let (old, new) = (path("0", "tool"), path("1", "tool"));
    write(store.path(), &old, &files());
    write(store.path(), &new, &files());
    let (base, base_packed) = packed(store.path(), &[&old], &Older::default());
    let older = older(&base, &known(&base_packed));
    let block = &older.blocks[0];
    base.write_all_at(&[0x55; 64], block.start + 10).unwrap();
    assert!(block.stored().is_err());
    let item = Item { path: new.clone(), nar_hash: hash_of(&store.path().join(new.as_str())).unwrap() };
    let file = tempfile::tempfile().unwrap();
    let packed = pack_with(store.path(), &[item], (&|_| None, &older), &file, Options::new(), &AtomicU64::new(0));
    assert!(packed.is_err(), "{packed:?}");
}

#[test]
fn a_name_is_compared_without_its_version() {
    let stems = ["hello-2.12.1", "hello", "python3.11-numpy-1.24", "g++-12-doc", "a-b", "-1", "x-"].map(stem);
    assert_eq!(stems, ["hello", "hello", "python3.11-numpy", "g++", "a-b", "", "x-"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever changed, and whatever bytes of the older layer are wrong, the new layer has the right files.
    #[test]
    fn a_layer_has_its_files_whatever_the_older_one_has(
        before in prop::collection::btree_map("[a-z]{1,2}", (0_u64..30, 0_usize..60_000), 1..30),
        changes in prop::collection::btree_map("[a-z]{1,2}", (0_u64..30, 0_usize..300_000), 0..10),
        removed in prop::collection::btree_set("[a-m]", 0..4),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let store = tempfile::tempdir().unwrap();
        let (old, new) = (path("0", "tool-1"), path("1", "tool-2"));
        let mut after = before.clone();
        after.retain(|name, _| !removed.contains(&name[..1]));
        after.extend(changes);
        write(store.path(), &old, &before);
        write(store.path(), &new, &after);
        let (base, base_packed) = packed(store.path(), &[&old], &Older::default());
        let known = known(&base_packed);
        let size = base_packed.digests.size;
        for (at, byte) in wrong {
            base.write_all_at(&[byte], at.index(size as usize) as u64).unwrap();
        }
        let (layer, packed_new) = packed(store.path(), &[&new], &older(&base, &known));
        sent(&layer, &packed_new, &after, &known);
        // Its own blocks may be used again as well.
        let again = older(&layer, &self::known(&packed_new));
        let (layer, packed_new) = packed(store.path(), &[&new], &again);
        sent(&layer, &packed_new, &after, &known);
    }
}
