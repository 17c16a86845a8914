//! Lock files.

use std::fs;

use nix_cache::flake::{KeyRequest, key};
use serde_json::Value;

use super::{fuzz, names};

const REAL: [&str; 3] = [
    include_str!("../../../src/flake/testdata/git-and-follows.json"),
    include_str!("../../../src/flake/testdata/many-inputs.json"),
    include_str!("../../../src/flake/testdata/v7.json"),
];

#[test]
fn mutated() {
    let folder = tempfile::tempdir().unwrap();
    fuzz("fuzz::locks::mutated", |mutator| {
        let text = REAL[mutator.below(REAL.len())];
        let bytes = if mutator.below(3) == 0 {
            let mut bytes = text.as_bytes().to_vec();
            mutator.bytes(&mut bytes);
            bytes
        } else {
            let mut value: Value = serde_json::from_str(text).unwrap();
            mutator.json(&mut value);
            serde_json::to_vec(&value).unwrap()
        };
        fs::write(folder.path().join("flake.lock"), bytes).unwrap();
        match key(&KeyRequest { system: "x86_64-linux".into(), ..KeyRequest::new(folder.path()) }) {
            Ok(_) => Ok(()),
            Err(error) => names(&error.to_string(), &["flake.lock"]),
        }
    });
}
