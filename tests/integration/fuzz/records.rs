//! What stands in our folder beside the store, where others may write, too.

use std::fs;

use serde_json::{Value, json};

use super::{fuzz, names};
use nix_cache::attach::Request;
use nix_cache::cache::load_record;
use nix_cache::layer::index::{decode_index, decode_kept};
use nix_cache::store::StoreDirs;

fn path(number: u8) -> String {
    format!("{number:032}-path-{number}")
}

#[test]
fn mutated() {
    let folder = tempfile::tempdir().unwrap();
    let dirs = StoreDirs::new(Some(folder.path()));
    fs::create_dir_all(dirs.own_dir()).unwrap();
    fuzz("fuzz::records::mutated", |mutator| {
        let mut record = json!({
            "format": 1, "run": "r", "baseline": [path(1), path(2)], "matched": "k#g1", "restored": [path(3)],
            "lost-layers": ["0".repeat(64)], "unverified": true
        });
        mutator.json(&mut record);
        let mut bytes = serde_json::to_vec(&record).unwrap();
        if mutator.below(3) == 0 {
            mutator.bytes(&mut bytes);
        }
        fs::write(dirs.own_dir().join("restore.json"), bytes).unwrap();
        // One that cannot be understood is as good as none.
        if let Err(error) = load_record(&dirs) {
            names(&error.to_string(), &["restore.json"])?;
        }
        let mut request: Value = json!({"attach": {"store-root": "/r", "mode": "mount", "threads": 2, "layers": [
            {"id": "0".repeat(64), "file": "/f", "infos": [{
                "path": path(1), "nar_hash": "0".repeat(64), "nar_size": 7, "references": [path(1), path(2)], "deriver": null,
                "signatures": ["a:b"], "ca": null, "registration_time": 5, "ultimate": false, "outputs": {"out": path(3)}
            }]}
        ]}});
        assert!(serde_json::from_value::<Request>(request.clone()).is_ok(), "the request has another form by now");
        mutator.json(&mut request);
        let _ = serde_json::from_value::<Request>(request);
        let mut index = [&b"NCINDEX1"[..], &3_u64.to_le_bytes(), &[7; 60]].concat();
        mutator.bytes(&mut index);
        let _ = decode_index(&index);
        let kept = [blake3::hash(&index).as_bytes(), &index[..]].concat();
        if decode_kept(&kept) == decode_index(&index) { Ok(()) } else { Err("a kept index is read otherwise".into()) }
    });
}
