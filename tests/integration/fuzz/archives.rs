//! Archives of the user's files and of Nix's caches.

use std::fs;
use std::path::Path;

use super::{fuzz, names};
use crate::support::cache::entries;
use crate::support::envelope;
use nix_cache::files::{FilesLevel, FilesRestored, PATHS, Roots, restore, save};
use nix_cache::remote::DirectoryRemote;
use nix_cache::series::sign::Keyring;

fn level(home: &Path) -> FilesLevel {
    let roots = Roots::user(&home.join("work"), Some(home), &["~/c".to_owned()]).unwrap();
    FilesLevel { name: PATHS, key: "k".into(), prefixes: Vec::new(), roots, level: 1, keys: Keyring::default() }
}

#[test]
fn mutated() {
    let folder = tempfile::tempdir().unwrap();
    let (home, cache) = (folder.path().join("home"), folder.path().join("cache"));
    fs::create_dir_all(home.join("work")).unwrap();
    fs::create_dir_all(home.join("c/folder")).unwrap();
    fs::write(home.join("c/folder/file"), "content ".repeat(500)).unwrap();
    fs::write(home.join(format!("c/{}", "long".repeat(40))), "x").unwrap();
    std::os::unix::fs::symlink("folder/file", home.join("c/link")).unwrap();
    let remote = DirectoryRemote::open(&cache).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scratch = folder.path().join("scratch");
    let saved = runtime.block_on(save(&remote, &level(&home), None, &scratch));
    assert_eq!(saved.files, 3, "{saved:?}");
    let [entry] = <[_; 1]>::try_from(entries(&cache, "files")).unwrap();
    let whole = fs::read(&entry).unwrap();
    let header = envelope::json(&whole);
    let tar = zstd::decode_all(&whole[envelope::HEAD..]).unwrap();
    fuzz("fuzz::archives::mutated", |mutator| {
        let (mut header, mut tar) = (header.clone(), tar.clone());
        let bytes = match mutator.below(4) {
            0 => {
                let mut bytes = whole.clone();
                mutator.bytes(&mut bytes);
                bytes
            }
            1 => {
                mutator.json(&mut header);
                envelope::sealed("files", header, &whole[envelope::HEAD..])
            }
            _ => {
                // A change in a header of tar that its sum does not show is passed over: the sum is made to fit.
                let block = mutator.below(tar.len() / 512) * 512;
                let mut part = tar[block..block + 512].to_vec();
                mutator.bytes(&mut part);
                part.resize(512, 0);
                let sum: u32 = part
                    .iter()
                    .enumerate()
                    .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
                    .sum();
                part[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                tar.splice(block..block + 512, part);
                envelope::sealed("files", header, &zstd::encode_all(&tar[..], 1).unwrap())
            }
        };
        fs::write(&entry, bytes).unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::create_dir_all(other.path().join("home/work")).unwrap();
        let level = level(&other.path().join("home"));
        let restored: FilesRestored = runtime.block_on(restore(&remote, &level, &scratch));
        let outside =
            fs::read_dir(other.path()).unwrap().count() + fs::read_dir(other.path().join("home")).unwrap().count();
        if outside > 3 {
            return Err(format!("something stands outside of its folder: {restored:?}"));
        }
        restored.notes.iter().try_for_each(|note| names(&note.message, &["paths", "Files", "files"]))
    });
}
