//! Paths of large files and paths of many small ones are in layers with blocks of different sizes.

use std::fs;
use std::path::Path;

use super::inspect;
use crate::support::cache::{assert_whole, entries};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::KEY;
use crate::support::random::mix;
use crate::support::rows::rows;

/// A folder with so many files of so many bytes, which do not compress and begin with `first`.
fn add(store: &TestStore, name: &str, (count, size): (u64, usize), first: u8) {
    let folder = store.machine.path(&format!("{first}/{name}"));
    fs::create_dir_all(&folder).unwrap();
    for number in 0..count {
        let words = (0..size.div_ceil(8) as u64).flat_map(|at| mix(mix(number) + at).to_le_bytes());
        let mut bytes: Vec<u8> = words.take(size).collect();
        bytes[0] = first;
        fs::write(folder.join(format!("file-{number}")), bytes).unwrap();
    }
    store.nix_store(&["--add", folder.to_str().unwrap()]);
}

/// Sizes of blocks according to the superblocks of the layers, smallest first.
fn block_sizes(cache: &Path) -> Vec<u32> {
    let sizes = entries(cache, "layer").into_iter().map(|file| {
        let image = fs::read(file).unwrap();
        u32::from_le_bytes(image[12..16].try_into().unwrap())
    });
    let mut sizes: Vec<u32> = sizes.collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn blocks_are_large_where_files_are_and_later_saves_take_them_over() {
    let nix = &nix::all()[0];
    let machine = Machine::new(nix);
    let (cache, first) = (machine.path("cache"), machine.store("first"));
    let (large, small) = ((5, 5_000_000), (3000, 8_000));
    add(&first, "large", large, 1);
    add(&first, "small", small, 1);
    first.save(&cache, KEY, &[]);
    assert_eq!(block_sizes(&cache), [256 << 10, 1 << 20]);

    let second = machine.store("second");
    assert_eq!(second.restore(&cache, KEY, &[])["hit"], "exact");
    assert_eq!(rows(&second), rows(&first).restored());
    // The first block of each large file is another one.
    add(&second, "large", large, 2);
    let outcome = second.save(&cache, KEY, &["--keep-saves", "0"]);
    let sent = outcome["bytes-uploaded"].as_u64().unwrap();
    assert!(
        sent < 6_000_000,
        "{sent} bytes were sent for five blocks of 1 MiB: {}",
        inspect(&machine, &cache, KEY)["layers"]
    );
    let third = machine.store("third");
    assert_eq!(third.restore(&cache, KEY, &[])["paths-lost"], 0);
    assert_eq!(rows(&third), rows(&second).restored());
    third.assert_verifies();
    assert_whole(&cache);
}
