//! Tests of [`super`].

use super::*;
use crate::layer::digest::Digests;
use crate::snapshot::Stored;
use crate::store::{NarHash, Paths};

fn info(number: u64, size: u64, references: &[u64]) -> PathInfo {
    let path = |number: u64| format!("{number:032}-p").parse().unwrap();
    PathInfo {
        nar_hash: NarHash([number as u8; 32]),
        nar_size: size,
        references: references.iter().map(|number| path(*number)).collect(),
        ..PathInfo::sample(path(number))
    }
}

/// A snapshot of layers that hold one path each, of so many bytes, compressed to half.
fn snapshot(sizes: &[u64]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (number, size) in (0..).zip(sizes) {
        let digests = Digests { size: size / 2, chunks: vec![Sha([number as u8; 32])] };
        let stored = Stored { digests: digests.clone(), entry: format!("{number}") };
        snapshot.add_layer((digests, None), stored, [info(number, *size, &[])], number);
    }
    snapshot
}

const LATER: (Turn, &BTreeMap<Sha, Usage>) = (Turn::Later, &BTreeMap::new());

/// Two hundred saves of a store of 100 paths of 30 MB, each of which replaces `changed` of the first `pool` of them; what was replaced
/// stays for `keep` more saves. Returns the bytes sent for each new one, and the greatest download for what is needed, both in
/// percent.
fn replace_again_and_again((changed, pool): (usize, usize), keep: usize) -> (u64, u64) {
    const SIZE: u64 = 30_000_000;
    let mut snapshot = Snapshot::default();
    let mut current: Vec<u64> = (0..100).collect();
    let mut replaced: Vec<Vec<u64>> = Vec::new();
    let (mut new_bytes, mut sent, mut most, mut random) = (0, 0, 0, 1_u64);
    for step in 0..200_u64 {
        let mut new = if step == 0 { current.clone() } else { Vec::new() };
        let mut going = Vec::new();
        while step > 0 && new.len() < changed {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = (random >> 33) as usize % pool;
            if current[slot] < 100 * (step + 1) {
                going.push(current[slot]);
                current[slot] = 100 * (step + 1) + slot as u64;
                new.push(current[slot]);
            }
        }
        replaced.push(going);
        let kept: BTreeSet<u64> = replaced.iter().rev().take(keep).flatten().chain(&current).copied().collect();
        snapshot.retain(|(path, _)| kept.contains(&path.as_str()[..32].parse().unwrap()));
        let new: Vec<PathInfo> = new.into_iter().map(|number| info(number, SIZE, &[])).collect();
        let mut valid = here(&snapshot);
        valid.extend(new.iter().map(|info| (info.path.clone(), info.clone())));
        let bytes = new.len() as u64 * SIZE / 2;
        let again = layers_to_repack(&snapshot, (bytes, &BTreeSet::new()), &valid, &BTreeSet::new(), LATER);
        let paths = |ids: &BTreeSet<Sha>| -> Vec<PathInfo> {
            ids.iter().flat_map(|id| &snapshot.layers[id].paths).map(|(path, _)| valid[path].clone()).collect()
        };
        let parts = [[new, paths(&again.joined)].concat(), paths(&again.apart)];
        snapshot.drop_layers(&again.all());
        for (part, paths) in (0..).zip(parts).filter(|(_, paths)| !paths.is_empty()) {
            let chunks = vec![Sha([step as u8; 32]), Sha([part; 32])];
            let digests = Digests { size: paths.len() as u64 * SIZE / 2, chunks };
            sent += if step > 0 { digests.size } else { 0 };
            let stored = Stored { digests: digests.clone(), entry: format!("{step}-{part}") };
            snapshot.add_layer((digests, None), stored, paths, step);
        }
        new_bytes += if step > 0 { bytes } else { 0 };
        most = most.max(snapshot.stored_bytes() * 100 / (100 * SIZE / 2));
        assert!(snapshot.layers.len() <= MAX_LAYERS);
    }
    (sent * 100 / new_bytes, most)
}

#[test]
fn replacing_paths_again_and_again_sends_little_and_keeps_the_download_small() {
    let cases = [
        ((1, 1), 5, 100, 106),
        ((5, 5), 1, 100, 110),
        ((20, 20), 0, 110, 105),
        ((60, 60), 0, 170, 105),
        ((1, 10), 5, 330, 120),
        ((1, 100), 5, 800, 120),
        ((5, 100), 1, 640, 120),
        ((20, 100), 0, 480, 115),
    ];
    let mut exceeded = Vec::new();
    for (changes, keep, most_sent, most_down) in cases {
        let (sent, down) = replace_again_and_again(changes, keep);
        println!("{changes:?} paths replaced, {keep} kept: {sent} % sent, {down} % downloaded");
        if sent > most_sent || down > most_down {
            exceeded.push((changes, keep, sent, down));
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:?}");
}

fn here(snapshot: &Snapshot) -> Paths {
    snapshot.paths.values().map(|record| (record.info.path.clone(), record.info.clone())).collect()
}

#[test]
fn after_any_number_of_small_saves_layers_stay_few_and_the_work_stays_in_proportion() {
    let mut sizes = vec![3_000_000_000];
    let (mut saved, mut packed) = (0, 0);
    for step in 0..200_u64 {
        let new = 40_000_000 + step * 7_000_000 % 60_000_000;
        let snapshot = snapshot(&sizes);
        let again =
            layers_to_repack(&snapshot, (new, &BTreeSet::new()), &here(&snapshot), &BTreeSet::new(), LATER).all();
        let rolled: u64 = again.iter().map(|id| snapshot.layers[id].nar_bytes).sum();
        sizes = snapshot.layers.iter().filter(|(id, _)| !again.contains(id)).map(|(_, l)| l.nar_bytes).collect();
        sizes.push(new + rolled);
        (saved, packed) = (saved + new, packed + new + rolled);
        assert!(sizes.len() <= MAX_LAYERS, "{} layers after {step} saves", sizes.len());
    }
    assert!(packed < 4 * saved, "{packed} bytes packed for {saved} bytes saved");
}

#[test]
fn layers_of_a_job_that_runs_leave_room_for_its_last_one() {
    let mut sizes = Vec::new();
    for step in 0..20_u64 {
        let new = 100_000_000 + step;
        let snapshot = snapshot(&sizes);
        let again = |turn| {
            let (valid, usage) = (here(&snapshot), BTreeMap::new());
            layers_to_repack(&snapshot, (new, &BTreeSet::new()), &valid, &BTreeSet::new(), (turn, &usage))
        };
        assert!(again(Turn::First).all().is_empty(), "the last save would join some of {} layers", sizes.len());
        let again = again(Turn::Running).all();
        let rolled: u64 = again.iter().map(|id| snapshot.layers[id].nar_bytes).sum();
        sizes = snapshot.layers.iter().filter(|(id, _)| !again.contains(id)).map(|(_, l)| l.nar_bytes).collect();
        sizes.push(new + rolled);
    }
}

#[test]
fn a_layer_that_is_not_in_the_store_here_is_left_alone() {
    let snapshot = snapshot(&[500, 500]);
    let mut valid = here(&snapshot);
    valid.remove(&info(0, 500, &[]).path);
    let again = layers_to_repack(&snapshot, (1000, &BTreeSet::new()), &valid, &BTreeSet::new(), LATER);
    assert_eq!(again.all().len(), 1);
}

#[test]
fn shrinking_drops_what_was_used_longest_ago_and_what_refers_to_it_but_nothing_in_use() {
    let mut snapshot = Snapshot::default();
    let digests = Digests { size: 400, chunks: vec![Sha([1; 32])] };
    let infos = [info(0, 100, &[]), info(1, 100, &[0]), info(2, 100, &[]), info(3, 100, &[2])];
    let stored = Stored { digests: digests.clone(), entry: "l".into() };
    snapshot.add_layer((digests, None), stored, infos, 5);
    for (number, record) in (0..).zip(snapshot.paths.values_mut()) {
        record.last_used = [1, 4, 2, 9][number];
    }
    let smaller = shrink(&mut snapshot, 250, &BTreeSet::new(), 9);
    let left: Vec<String> = snapshot.paths.keys().map(|key| key.0.to_string()).collect();
    assert_eq!(left, [info(2, 1, &[]).path.to_string(), info(3, 1, &[]).path.to_string()]);
    assert_eq!(smaller.len(), 1);
    assert!(live_bytes(&snapshot) <= 250);
    assert!(shrink(&mut snapshot, 250, &BTreeSet::new(), 9).is_empty());
}

#[test]
fn what_an_upstream_cache_offers_goes_first() {
    let mut snapshot = snapshot(&[100, 100]);
    let upstream = BTreeSet::from([info(1, 1, &[]).path]);
    shrink(&mut snapshot, 60, &upstream, 9);
    assert_eq!(snapshot.paths.keys().next().unwrap().0, info(0, 1, &[]).path);
}
