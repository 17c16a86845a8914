//! A second implementation of the envelope of entries, for entries by an attacker with write access to the cache.

use serde_json::Value;

use nix_cache::base::digest::Sha;

/// Bytes of a head.
pub(crate) const HEAD: usize = 1024;
/// Bytes of its last line.
const CHECK: usize = 65;

fn hex(bytes: &[u8]) -> String {
    Sha::of(bytes).to_string()
}

/// The entry of this kind with this JSON in its head and this body, whose size and digests are made to fit.
pub(crate) fn sealed(kind: &str, mut json: Value, body: &[u8]) -> Vec<u8> {
    if let Some(json) = json.as_object_mut() {
        json.insert("size".into(), body.len().into());
        json.insert("digest".into(), hex(body).into());
    }
    let mut text = format!("nix-cache {kind}\n{json}").into_bytes();
    text.resize(HEAD - CHECK - 1, b' ');
    text.push(b'\n');
    text.extend((hex(&text) + "\n").into_bytes());
    text.extend(body);
    text
}

/// The JSON in the head of an entry.
pub(crate) fn json(entry: &[u8]) -> Value {
    let start = entry.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    serde_json::from_slice(&entry[start..HEAD - CHECK]).unwrap()
}

/// A snapshot with this body.
pub(crate) fn snapshot(body: &[u8]) -> Vec<u8> {
    sealed("snapshot", serde_json::json!({ "format": 3, "facts": null }), body)
}
