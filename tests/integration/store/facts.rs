//! What Nix itself says of a store, in a form that can be compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nix_cache::store::{NarHash, PathInfo, SharedMap, SharedSet, StorePath};
use rusqlite::Connection;
use serde_json::Value;

use super::nix::TestStore;

/// Everything a store knows: the rows that `--dump-db` prints and the rest from `path-info --json`.
#[derive(Debug, PartialEq)]
pub(super) struct Facts {
    pub dump: String,
    pub trust: BTreeMap<StorePath, Trust>,
}

/// What a path is trusted for, and when it came.
#[derive(Debug, PartialEq)]
pub(super) struct Trust {
    pub signatures: SharedSet<String>,
    pub ca: Option<String>,
    pub ultimate: bool,
    pub registration_time: i64,
}

/// As Nix tells it.
pub(super) fn told_by_nix(store: &TestStore) -> Facts {
    let json: Value = serde_json::from_str(&store.nix_command(&["path-info", "--all", "--json"])).unwrap();
    // A list up to 2.18, then an object by full path.
    let trust = match json {
        Value::Array(list) => list.iter().map(|info| (named(info["path"].as_str().unwrap()), trust(info))).collect(),
        Value::Object(map) => map.iter().map(|(path, info)| (named(path), trust(info))).collect(),
        other => panic!("path-info printed {other}"),
    };
    Facts { dump: store.nix_store(&["--dump-db"]), trust }
}

fn named(path: &str) -> StorePath {
    StorePath::from_full(path, "/nix/store").unwrap()
}

fn trust(info: &Value) -> Trust {
    let signatures = info["signatures"].as_array().into_iter().flatten();
    Trust {
        signatures: signatures.map(|signature| signature.as_str().unwrap().to_owned()).collect(),
        ca: info["ca"].as_str().map(str::to_owned),
        ultimate: info["ultimate"].as_bool().unwrap_or(false),
        registration_time: info["registrationTime"].as_i64().unwrap(),
    }
}

/// The same from what we read.
pub(super) fn read_by_us(paths: &nix_cache::store::Paths) -> Facts {
    let mut dump = String::new();
    for info in paths.values() {
        let full = |path: &StorePath| path.full("/nix/store");
        let deriver = info.deriver.as_ref().map(full).unwrap_or_default();
        let (path, hash, size) = (full(&info.path), info.nar_hash, info.nar_size);
        writeln!(dump, "{path}\n{hash}\n{size}\n{deriver}\n{}", info.references.len()).unwrap();
        for reference in &info.references {
            writeln!(dump, "{}", full(reference)).unwrap();
        }
    }
    let trust = paths.values().map(|info| {
        let PathInfo { signatures, ca, ultimate, registration_time, .. } = info.clone();
        (info.path.clone(), Trust { signatures, ca, ultimate, registration_time })
    });
    Facts { dump, trust: trust.collect() }
}

/// Signs every path with two keys, as a build machine and a cache do.
pub(super) fn sign_all(store: &TestStore) {
    for name in ["builder-1", "cache.example.org-1"] {
        let key = store.nix_command(&["key", "generate-secret", "--key-name", name]);
        let file = store.home().join(name);
        std::fs::write(&file, key).unwrap();
        store.nix_command(&["store", "sign", "--all", "-k", file.to_str().unwrap()]);
    }
}

/// The database of `store`, to prepare what Nix would not write.
pub(super) fn database(store: &TestStore) -> Connection {
    Connection::open(store.dirs().db_path()).unwrap()
}

/// Path number `number` of many, which refers to itself and the few before it. It has no real content.
pub(super) fn one_of_many(number: usize) -> PathInfo {
    let path = |number: usize| -> StorePath { format!("{number:032}-many{number}").parse().unwrap() };
    PathInfo {
        path: path(number),
        nar_hash: NarHash([7; 32]),
        nar_size: 120,
        references: (number.saturating_sub(4)..=number).map(path).collect(),
        deriver: Some(path(number + 1)),
        signatures: SharedSet::from([format!("key-1:{number}AAAA")]),
        ca: None,
        registration_time: 1_700_000_000,
        ultimate: false,
        outputs: SharedMap::new(),
    }
}
