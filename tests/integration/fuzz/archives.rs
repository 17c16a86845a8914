//! Archives of the user's files and of Nix's caches.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{fuzz, names};
use crate::support::cache::entries;
use nix_cache::base::digest::Sha;
use nix_cache::files::{FilesLevel, FilesRestored, PATHS, Roots, restore, save};
use nix_cache::remote::DirectoryRemote;
use nix_cache::series::sign::Keyring;

/// Bytes of a header and of the digest at its end; see `files/header.rs`.
const HEADER: usize = 1024;
const CHECK: usize = 65;
const MAGIC: &[u8] = b"nix-cache files\n";

fn hex(bytes: &[u8]) -> String {
    Sha::of(bytes).to_string()
}

/// The entry with this header and body, whose digests fit.
fn sealed(mut header: Value, body: &[u8]) -> Vec<u8> {
    header["body-size"] = body.len().into();
    header["body-digest"] = hex(body).into();
    let json = serde_json::to_vec(&header).unwrap();
    let mut entry = vec![b' '; HEADER];
    entry[..MAGIC.len()].copy_from_slice(MAGIC);
    let fits = json.len().min(HEADER - CHECK - MAGIC.len() - 1);
    entry[MAGIC.len()..MAGIC.len() + fits].copy_from_slice(&json[..fits]);
    entry[HEADER - CHECK - 1] = b'\n';
    let check = hex(&entry[..HEADER - CHECK]) + "\n";
    entry[HEADER - CHECK..].copy_from_slice(check.as_bytes());
    entry.extend(body);
    entry
}

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
    let json = &whole[MAGIC.len()..HEADER - CHECK];
    let header: Value = serde_json::from_slice(json).unwrap();
    let tar = zstd::decode_all(&whole[HEADER..]).unwrap();
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
                let header = if header.is_object() { header } else { serde_json::json!({}) };
                sealed(header, &whole[HEADER..])
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
                sealed(header, &zstd::encode_all(&tar[..], 1).unwrap())
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
