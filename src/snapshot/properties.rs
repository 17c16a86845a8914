//! Properties of snapshots: the union, the encoding, and what damage does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::base::digest::Sha;
use crate::layer::digest::CHUNK_SIZE;
use crate::layer::recipe::Segment;
use crate::series::sign::Keyring;
use crate::series::{HEAD, Record as _, RecordError, seal};

/// A store path out of a few, so that two snapshots have some in common.
fn path() -> impl Strategy<Value = StorePath> {
    (0..8u8).prop_map(|number| format!("{}-path-{number}", "0".repeat(32)).parse().expect("it is a store path"))
}

fn info() -> impl Strategy<Value = PathInfo> {
    let links = (btree_set(path(), 0..4), option::of(path()));
    let facts =
        (btree_set("[a-c]:[a-zA-Z0-9+/]{4}", 0..3), option::of("fixed:[rn]:[a-f]{4}"), any::<i64>(), any::<bool>());
    (path(), 0..3u8, 0..3u64, links, facts).prop_map(|(path, hash, nar_size, links, facts)| {
        let ((references, deriver), (signatures, ca, registration_time, ultimate)) = (links, facts);
        let nar_hash = NarHash([hash; 32]);
        let (references, signatures, outputs) = (references.into(), signatures.into(), SharedMap::new());
        PathInfo { path, nar_hash, nar_size, references, deriver, signatures, ca, registration_time, ultimate, outputs }
    })
}

/// A layer out of a few. Its digests tell it from others, all else may differ.
#[allow(clippy::needless_pass_by_value, reason = "the strategy that comes out of it outlives the caller's list")]
fn layer(keys: Vec<PathKey>) -> impl Strategy<Value = Layer> {
    let paths = proptest::sample::subsequence(keys.clone(), 0..=keys.len());
    (1..5u8, option::of(vec(5..9u8, 1..4)), paths, 0..9u64, 0..9u64, 0..9u64).prop_map(
        |(number, recipe, paths, nar_bytes, created, tables)| {
            let digests = digests(number);
            let recipe = recipe.map(|parts| recipe_of(&digests, &parts));
            Layer { digests, recipe, paths: paths.into_iter().collect(), nar_bytes, created, tables }
        },
    )
}

/// Digests that tell them from others by `number`.
fn digests(number: u8) -> Digests {
    Digests { size: CHUNK_SIZE + u64::from(number), chunks: vec![Sha([number; 32]); 2] }
}

/// A recipe of `parts` for a file with these digests.
fn recipe_of(digests: &Digests, parts: &[u8]) -> Recipe {
    let mut left = digests.size;
    let segment = |(index, number): (usize, &u8)| {
        let length = if index + 1 == parts.len() { left } else { 1 };
        left -= length;
        Segment { stored: self::digests(*number).id(), offset: 0, length }
    };
    Recipe(parts.iter().enumerate().map(segment).collect())
}

/// What `layers` are made of, each under its first or second name.
fn stored_of(layers: &BTreeMap<Sha, Layer>, second: u16) -> BTreeMap<Sha, Stored> {
    let needed: BTreeSet<Sha> = layers.values().flat_map(Layer::stored).collect();
    let stored = |number: u8| {
        let digests = digests(number);
        let id = digests.id();
        let entry = if second >> number & 1 == 0 { id.to_string() } else { format!("{id}-2") };
        (id, Stored { digests, entry })
    };
    (1..9).map(stored).filter(|(id, _)| needed.contains(id)).collect()
}

fn lane() -> impl Strategy<Value = Lane> {
    (5..9u64, btree_map(path(), 0..5u64, 0..5), btree_set(0..9u64, 1..5), btree_set(path(), 0..3))
        .prop_map(|(used, paths, saves, returned)| Lane { used, saves, paths, returned, ..Lane::default() })
}

fn facts() -> impl Strategy<Value = Facts> {
    (0..5u64, "[a-z#/ .]{0,6}", "[a-z]{0,2}", "[a-z]{0,2}", "[a-z]{0,2}")
        .prop_map(|(created, key, system, tool, lane)| Facts { created, key, system, tool, lane })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let records = vec((info(), 0..5u64), 0..8).prop_map(|all| {
        let record =
            |(info, last_used): (PathInfo, u64)| ((info.path.clone(), info.nar_hash), Record { info, last_used });
        all.into_iter().map(record).collect::<BTreeMap<PathKey, Record>>()
    });
    records
        .prop_flat_map(|paths| {
            let keys: Vec<PathKey> = paths.keys().cloned().collect();
            (
                facts(),
                Just(paths),
                (vec(layer(keys), 0..4), any::<u16>()),
                btree_map("[a-c]", lane(), 0..3),
                btree_set(path(), 0..4),
                btree_map(1..9u64, 0..5u64, 0..3),
            )
        })
        .prop_map(|(facts, paths, (layers, second), lanes, upstream, unread)| {
            let layers = layers.into_iter().map(|layer| (layer.digests.id(), layer)).collect();
            let stored = stored_of(&layers, second);
            Snapshot {
                facts,
                paths,
                layers,
                stored,
                upstream,
                lanes,
                unread,
                realisations: BTreeMap::new(),
                malformed: 0,
            }
        })
}

fn union(mut a: Snapshot, b: &Snapshot) -> Snapshot {
    a.merge(b.clone());
    a
}

proptest! {
    #[test]
    fn a_union_is_the_same_whichever_comes_first(a in snapshot(), b in snapshot()) {
        prop_assert_eq!(union(a.clone(), &b), union(b, &a));
    }

    #[test]
    fn a_union_of_three_is_the_same_in_whatever_groups(a in snapshot(), b in snapshot(), c in snapshot()) {
        prop_assert_eq!(union(union(a.clone(), &b), &c), union(a, &union(b, &c)));
    }

    #[test]
    fn a_union_with_a_part_of_itself_changes_nothing(a in snapshot(), b in snapshot()) {
        prop_assert_eq!(union(a.clone(), &a), a.clone());
        prop_assert_eq!(union(union(a.clone(), &b), &b), union(a, &b));
    }

    #[test]
    fn a_union_has_all_that_its_parts_have(a in snapshot(), b in snapshot()) {
        let both = union(a.clone(), &b);
        for part in [&a, &b] {
            prop_assert!(part.unread.keys().all(|generation| both.unread.contains_key(generation)));
            prop_assert!(part.paths.keys().all(|key| both.paths.contains_key(key)));
            prop_assert!(part.lanes.keys().all(|lane| both.lanes.contains_key(lane)));
            for (id, layer) in &part.layers {
                prop_assert!(both.layers[id].paths.is_superset(&layer.paths));
            }
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_the_same(snapshot in snapshot()) {
        let bytes = encode(&snapshot).unwrap();
        prop_assert_eq!(&encode(&decode(&bytes).unwrap()).unwrap(), &bytes, "the same snapshot is the same bytes");
        prop_assert_eq!(decode(&bytes).unwrap(), snapshot);
    }

    #[test]
    fn what_is_kept_is_consistent(snapshot in snapshot(), keep in any::<u8>()) {
        let mut kept = snapshot.clone();
        let is_kept = |key: &PathKey| usize::from(keep) >> (key.1.0[0] % 8) & 1 == 1;
        kept.retain(is_kept);
        let expected: BTreeSet<&PathKey> = snapshot.paths.keys().filter(|key| is_kept(key)).collect();
        prop_assert_eq!(kept.paths.keys().collect::<BTreeSet<_>>(), expected);
        for layer in kept.layers.values() {
            prop_assert!(!layer.paths.is_empty() && layer.paths.iter().all(|key| kept.paths.contains_key(key)));
        }
        let needed: BTreeSet<Sha> = kept.layers.values().flat_map(Layer::stored).collect();
        prop_assert_eq!(kept.stored.keys().copied().collect::<BTreeSet<_>>(), needed);
        prop_assert_eq!(decode(&encode(&kept).unwrap()).unwrap(), kept);
    }

    #[test]
    fn what_is_lost_takes_the_layers_made_of_it_along(snapshot in snapshot(), lost in any::<u16>()) {
        let gone: BTreeSet<Sha> = (1..9).filter(|n| lost >> n & 1 == 1).map(|n| digests(n).id()).collect();
        let mut left = snapshot.clone();
        left.lose(&gone);
        for (id, layer) in &snapshot.layers {
            prop_assert_eq!(left.layers.contains_key(id), layer.stored().is_disjoint(&gone));
        }
        prop_assert!(left.stored.keys().all(|id| !gone.contains(id)));
        prop_assert_eq!(decode(&encode(&left).unwrap()).unwrap(), left);
    }

    #[test]
    fn each_path_is_chosen_in_the_version_used_last(snapshot in snapshot()) {
        let held: BTreeSet<&PathKey> = snapshot.layers.values().flat_map(|layer| &layer.paths).collect();
        let chosen = snapshot.chosen();
        for (path, record) in &chosen {
            prop_assert_eq!(path, &record.info.path);
            let versions = snapshot.paths.values().filter(|other| other.info.path == *path);
            let rank = |record: &Record| (record.last_used, record.info.nar_hash);
            let best = versions.filter(|other| held.contains(&(other.info.path.clone(), other.info.nar_hash)));
            prop_assert_eq!(best.map(rank).max(), Some(rank(record)));
        }
        prop_assert!(held.iter().all(|key| chosen.contains_key(&key.0)));
    }
}

/// A snapshot with something of everything.
fn sample() -> Snapshot {
    let mut runner = TestRunner::deterministic();
    let mut all = Snapshot::default();
    for _ in 0..5 {
        all.merge(snapshot().new_tree(&mut runner).unwrap().current());
    }
    assert!(!all.paths.is_empty() && !all.layers.is_empty() && !all.lanes.is_empty());
    all
}

pub(super) fn json(snapshot: &Snapshot) -> Vec<u8> {
    zstd::decode_all(&encode(snapshot).unwrap()[HEAD..]).unwrap()
}

/// An entry with this JSON.
pub(super) fn with_json(json: &[u8]) -> Vec<u8> {
    let body = zstd::encode_all(json, 3).unwrap();
    seal(Snapshot::FORMAT, "", [vec![0; HEAD], body].concat(), &Keyring::default())
}

#[test]
fn every_change_of_a_byte_and_every_cut_is_noticed() {
    let bytes = encode(&sample()).unwrap();
    for at in 0..bytes.len() {
        for change in [0x01, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            assert!(matches!(decode(&changed), Err(RecordError::Damaged(_))), "byte {at}");
        }
        assert!(matches!(decode(&bytes[..at]), Err(RecordError::Damaged(_))), "the first {at} bytes");
    }
    assert!(decode(&[&bytes[..], b"x"].concat()).is_err());
}

#[test]
fn a_part_of_the_future_is_passed_over() {
    let mut value: serde_json::Value = serde_json::from_slice(&json(&sample())).unwrap();
    value.as_object_mut().unwrap().insert("unheard-of".into(), serde_json::json!({ "a": [1] }));
    assert_eq!(decode(&with_json(&serde_json::to_vec(&value).unwrap())).unwrap(), sample());
}

#[test]
fn a_snapshot_that_points_at_nothing_is_damaged() {
    let good: serde_json::Value = serde_json::from_slice(&json(&sample())).unwrap();
    let decoded = |value: &serde_json::Value| decode(&with_json(&serde_json::to_vec(value).unwrap()));
    assert_eq!(decoded(&good).unwrap(), sample());
    for pointer in ["/layers/0/paths", "/stored"] {
        let mut bad = good.clone();
        let far = serde_json::json!(4_000_000_000_u64 >> 1);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[name] = serde_json::json!([far]);
        assert!(matches!(decoded(&bad), Err(RecordError::Damaged(_))), "{pointer}");
    }
    let mut bad = good.clone();
    *bad.pointer_mut("/layers/0/size").unwrap() = 1.into();
    assert!(matches!(decoded(&bad), Err(RecordError::Damaged(_))));
}

#[test]
fn the_outputs_of_a_derivation_are_neither_written_nor_read() {
    let mut snapshot = Snapshot::default();
    let digests = digests(1);
    let stored = Stored { digests: digests.clone(), entry: digests.id().to_string() };
    let all = sample();
    let mut info = all.paths.values().next().unwrap().info.clone();
    info.outputs = SharedMap::from([("out".to_owned(), info.path.clone())]);
    snapshot.add_layer((digests, None), stored, [info], 1);
    assert_eq!(decode(&encode(&snapshot).unwrap()).unwrap(), snapshot);
    let mut forged: serde_json::Value = serde_json::from_slice(&json(&snapshot)).unwrap();
    assert_eq!(forged["paths"][0].get("outputs"), None);
    forged["paths"][0]["outputs"] = serde_json::json!({ "out": 0 });
    assert_eq!(decode(&with_json(&serde_json::to_vec(&forged).unwrap())).unwrap(), snapshot);
}

#[test]
fn a_malformed_record_is_left_out_alone() {
    let good: serde_json::Value = serde_json::from_slice(&json(&sample())).unwrap();
    let decoded = |value: &serde_json::Value| decode(&with_json(&serde_json::to_vec(value).unwrap())).unwrap();
    let all = sample();
    let lost = all.paths.keys().next().unwrap();
    let far = serde_json::json!(2_000_000_000);
    let changes = [
        ("path", far.clone()),
        ("deriver", far.clone()),
        ("refs", serde_json::json!([far])),
        ("hash", "ab".into()),
        ("hash", serde_json::Value::Null),
        ("size", serde_json::json!(-1)),
        ("size", serde_json::json!(1.5)),
        ("size", serde_json::json!(1e300)),
        ("sigs", serde_json::json!("key-1:AAAA")),
        ("sigs", serde_json::json!([1])),
        ("ca", serde_json::json!({})),
        ("time", serde_json::json!("yesterday")),
    ];
    for (name, value) in changes {
        let mut bad = good.clone();
        bad["paths"][0][name] = value;
        let read = decoded(&bad);
        let mut expected = all.clone();
        expected.paths.remove(lost);
        for layer in expected.layers.values_mut() {
            layer.paths.remove(lost);
        }
        expected.malformed = 1;
        assert_eq!(read, expected, "{name}");
    }
    for value in [serde_json::json!(null), serde_json::json!([]), serde_json::json!("x")] {
        let mut bad = good.clone();
        bad["paths"][0] = value;
        assert_eq!((decoded(&bad).malformed, decoded(&bad).paths.len()), (1, all.paths.len() - 1));
    }
    // A name that is none takes out what it names and what refers to it.
    let mut bad = good.clone();
    bad["names"][0] = "../etc/passwd".into();
    let read = decoded(&bad);
    assert!(read.paths.len() < all.paths.len() && read.malformed > 0);
    assert!(read.paths.iter().all(|(key, record)| all.paths.get(key) == Some(record)));
}
