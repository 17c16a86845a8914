//! How large a snapshot of a large store is.

use std::collections::BTreeSet;
use std::io::Read;

use super::properties::json;
use super::*;
use crate::layer::digest::CHUNK_SIZE;
use crate::store::{SharedMap, SharedSet};

/// As many paths as a large NixOS configuration has, with what cannot be compressed: hashes and signatures.
fn large() -> Snapshot {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let words =
        ["python3", "perl5", "lib", "rust", "gcc-wrapper", "source", "hook", "stdenv", "go", "font", "node", "patch"];
    let letters: Vec<char> = "0123456789abcdfghijklmnpqrsvwxyz".chars().collect();
    let base64: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let mut names: Vec<StorePath> = Vec::new();
    let mut infos = Vec::new();
    for number in 0..30_000usize {
        let hash: String = (0..32).map(|_| letters[random() as usize % 32]).collect();
        let (a, b) = (words[random() as usize % 12], words[random() as usize % 12]);
        let end = if number % 3 == 0 { ".drv" } else { "" };
        let path: StorePath = format!("{hash}-{a}-{b}-{}.{}{end}", random() % 9, random() % 40).parse().unwrap();
        let mut nar_hash = [0; 32];
        nar_hash.fill_with(|| random() as u8);
        let near = |far: usize| names.len().saturating_sub(1 + far);
        let references = if names.is_empty() {
            SharedSet::new()
        } else {
            (0..number % 9).map(|_| names[near(random() as usize % 400)].clone()).collect()
        };
        let signature: String = (0..86).map(|_| base64[random() as usize % 64]).collect();
        let deriver = names.last().filter(|_| number % 3 != 0).cloned();
        infos.push(PathInfo {
            path: path.clone(),
            nar_hash: NarHash(nar_hash),
            nar_size: random() % 90_000_000,
            references,
            deriver,
            signatures: (number % 3 != 0).then(|| format!("cache.example.org-1:{signature}==")).into_iter().collect(),
            ca: None,
            registration_time: 1_700_000_000 + (number / 100) as i64,
            ultimate: number % 3 == 0,
            outputs: SharedMap::new(),
        });
        names.push(path);
    }
    let mut snapshot = Snapshot::default();
    let digests = Digests { size: 900 * CHUNK_SIZE, chunks: vec![Sha([9; 32]); 900] };
    let entry = digests.id().to_string();
    snapshot.add_layer((digests.clone(), None), Stored { digests, entry }, infos, 1_700_000_000);
    snapshot.lanes.insert(
        "build".into(),
        Lane {
            used: 1_700_000_000,
            saves: BTreeSet::from([1_700_000_000]),
            paths: names.into_iter().map(|name| (name, 1_700_000_000)).collect(),
            ..Lane::default()
        },
    );
    snapshot
}

#[test]
fn thirty_thousand_paths_stay_small() {
    let snapshot = large();
    let bytes = encode(&snapshot).unwrap();
    let json = json(&snapshot);
    println!("{} bytes, {} of JSON", bytes.len(), json.len());
    // 20 bytes of name, 32 of hash and for two of three 64 of signature are random: 2.8 MB that nothing makes smaller.
    assert!(bytes.len() < 6_000_000, "{}", bytes.len());
    let mut read = Vec::new();
    zstd::Decoder::new(&bytes[crate::series::HEAD..]).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, json);
    assert_eq!(decode(&bytes).unwrap(), snapshot);
}
