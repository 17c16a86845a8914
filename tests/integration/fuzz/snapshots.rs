//! Snapshots, and the recipes in them.

use std::io::Read;

use nix_cache::base::digest::Sha;
use nix_cache::layer::digest::Digests;
use nix_cache::layer::recipe::{Recipe, Segment};
use nix_cache::snapshot::{Lane, Snapshot, Stored, decode, encode};
use nix_cache::store::{NarHash, PathInfo, SharedMap, SharedSet};
use serde_json::Value;

use super::{fuzz, names};
use crate::bombs::snapshots::sealed;
use crate::support::envelope::HEAD;

/// One with every part there is.
fn sample() -> Snapshot {
    let path = |number: u8| format!("{number:032}-path-{number}").parse().unwrap();
    let info = |number: u8| PathInfo {
        path: path(number),
        nar_hash: NarHash([number + 1; 32]),
        nar_size: 1000,
        references: (0..number).map(path).collect(),
        deriver: Some(format!("{number:032}-path.drv").parse().unwrap()),
        signatures: SharedSet::from(["cache.example.org-1:c2lnbmF0dXJl".to_owned()]),
        ca: (number == 1).then(|| "fixed:r:sha256:0000".to_owned()),
        registration_time: 1_700_000_000,
        ultimate: number == 2,
        outputs: SharedMap::from([("out".to_owned(), path(number))]),
    };
    let digests = |number: u8, size| Digests { size, chunks: vec![Sha([number; 32])] };
    let stored = |number: u8, size| Stored { digests: digests(number, size), entry: format!("entry-{number}") };
    let mut snapshot = Snapshot::default();
    snapshot.add_layer((digests(1, 4000), None), stored(1, 4000), (0..3).map(info), 5);
    let segment = |number: u8, offset, length| Segment {
        stored: digests(number, if number == 1 { 4000 } else { 300 }).id(),
        offset,
        length,
    };
    let recipe = Recipe(vec![segment(2, 0, 100), segment(1, 50, 800), segment(2, 100, 200)]);
    snapshot.add_layer((digests(3, 1100), Some(recipe)), stored(2, 300), (3..6).map(info), 6);
    snapshot.upstream.insert(path(9));
    snapshot.lanes.insert(
        "ci / build".into(),
        Lane { used: 6, paths: (0..4).map(|number| (path(number), 6)).collect(), ..Lane::default() },
    );
    snapshot
}

#[test]
fn mutated() {
    fuzz("fuzz::snapshots::mutated", |mutator| {
        let bytes = encode(&sample()).unwrap();
        let mut json = Vec::new();
        zstd::Decoder::new(&bytes[HEAD..]).unwrap().read_to_end(&mut json).unwrap();
        let bytes = match mutator.below(4) {
            0 => {
                let mut bytes = bytes;
                mutator.bytes(&mut bytes);
                bytes
            }
            1 => {
                mutator.bytes(&mut json);
                sealed(&[&json])
            }
            _ => {
                let mut value: Value = serde_json::from_slice(&json).unwrap();
                mutator.json(&mut value);
                sealed(&[&serde_json::to_vec(&value).unwrap()])
            }
        };
        match decode(&bytes) {
            Err(error) => names(&error.to_string(), &["it is damaged", "it has format"]),
            Ok(mut snapshot) => {
                let whole: u64 = snapshot.stored_bytes();
                if let Some(layer) = snapshot.layers.values().find(|layer| layer.digests.size > whole) {
                    return Err(format!("a layer of {} bytes is made of {whole}", layer.digests.size));
                }
                // What was left out is not written.
                snapshot.malformed = 0;
                let again = decode(&encode(&snapshot).map_err(|error| error.to_string())?);
                if again.is_ok_and(|again| again == snapshot) {
                    Ok(())
                } else {
                    Err("it is not written as it was read".into())
                }
            }
        }
    });
}
