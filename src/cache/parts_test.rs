//! Tests of [`super::parts`].

use super::*;
use crate::cache::coarse::Files;
use crate::layer::squashfs::{BLOCK_SIZE, FRAGMENT_SIZE};
use crate::store::PathInfo;

const MIB: u64 = 1 << 20;

/// Paths of so many MiB; those of the first list in large files, those of the second one in many small ones.
fn store(large: &[u64], small: &[u64]) -> (Paths, Kinds) {
    let files = large.iter().map(|mib| (mib, Files { small: 1, large: mib * MIB }));
    let files = files.chain(small.iter().map(|mib| (mib, Files { small: mib * 500, large: MIB })));
    let infos = files.enumerate().map(|(number, (mib, files))| {
        let path: StorePath = format!("{number:032}-p").parse().unwrap();
        let info = PathInfo { nar_size: mib * MIB, ..PathInfo::sample(path.clone()) };
        (path, info, files)
    });
    let (mut valid, mut kinds) = (Paths::default(), Kinds::default());
    for (path, info, files) in infos {
        valid.insert(path.clone(), info);
        kinds.0.insert(path, files);
    }
    (valid, kinds)
}

/// The layers of a first save of them: numbers of paths with sizes of blocks.
fn made(large: &[u64], small: &[u64], room: usize) -> Vec<(usize, usize)> {
    let (valid, kinds) = store(large, small);
    let (paths, none) = (valid.keys().cloned().collect(), BTreeSet::new());
    let parts = parts((&paths, &none), &Snapshot::default(), ("lane", &paths), (&valid, &kinds), room);
    let all: BTreeSet<_> = parts.iter().flat_map(|part| part.paths.clone()).collect();
    assert_eq!(all, paths);
    parts.iter().map(|part| (part.paths.len(), part.block_size)).collect()
}

#[test]
fn large_files_and_many_small_ones_are_in_layers_of_their_own() {
    assert_eq!(made(&[30, 70], &[20, 30, 40], 8), [(2, BLOCK_SIZE), (3, FRAGMENT_SIZE)]);
    // The smallest one comes last.
    assert_eq!(made(&[30, 40], &[20, 30, 40], 8), [(3, FRAGMENT_SIZE), (2, BLOCK_SIZE)]);
    // Large layers are split further, as far as there is room.
    assert_eq!(
        made(&[1000, 1000], &[800, 700], 8),
        [(1, BLOCK_SIZE), (1, BLOCK_SIZE), (1, FRAGMENT_SIZE), (1, FRAGMENT_SIZE)]
    );
    assert_eq!(made(&[1000, 1000], &[800, 700], 2), [(2, BLOCK_SIZE), (2, FRAGMENT_SIZE)]);
}

#[test]
fn a_few_of_a_kind_are_with_the_others() {
    assert_eq!(made(&[30, 40], &[1], 8), [(3, BLOCK_SIZE)]);
    assert_eq!(made(&[10], &[20, 30], 8), [(3, FRAGMENT_SIZE)]);
    assert_eq!(made(&[30, 40], &[20, 30, 40], 1).len(), 1);
    assert_eq!(made(&[], &[20, 300], 8), [(2, FRAGMENT_SIZE)]);
}
