//! A restore whose time ends while it unpacks: complete paths are used, and the next restore adds the rest.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::kill::assert_part_of;
use crate::support::cache::entries;
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::KEY;
use crate::support::rows::rows;
use nix_cache::attach;
use nix_cache::attach::{Answer, AttachLayer, AttachRequest, Attached, Mode, Request};
use nix_cache::base::digest::Sha;
use nix_cache::store::tree::remove_tree;

fn unpack(store: &TestStore, cache: &Path, infos: &nix_cache::store::Paths, time: Option<Duration>) -> Attached {
    let [stored] = <[_; 1]>::try_from(entries(cache, "layer")).expect("the cache has one layer");
    let place = store.dirs().own_dir().join("layers");
    fs::create_dir_all(&place).unwrap();
    let file = place.join("layer-0");
    fs::copy(stored, &file).unwrap();
    let layer = AttachLayer { id: Sha([0; 32]), file, infos: infos.values().cloned().map(Arc::new).collect() };
    let request = AttachRequest {
        store_root: Some(store.root.clone()),
        mode: Mode::Unpack,
        layers: vec![layer],
        threads: 2,
        milliseconds: time.map(|time| time.as_millis() as u64),
        realisations: Vec::new(),
        daemon_sockets: Vec::new(),
        admit: attach::Admit::Sound,
        first: Vec::new(),
    };
    // As it goes to the process that works as root, and back.
    let request: Request = serde_json::from_str(&serde_json::to_string(&Request::Attach(request)).unwrap()).unwrap();
    let Answer::Attached(attached) = attach::perform(&request, &AtomicU64::new(0)).unwrap() else { panic!() };
    attached
}

#[test]
fn what_is_whole_when_the_time_is_over_is_used() {
    let Some(nix) = nix::all().last() else { return };
    let machine = Machine::new(nix);
    let (cache, first) = (machine.path("cache"), machine.store("first"));
    first.build(&["everything", "count=40"]);
    first.save(&cache, KEY, &[]);
    let all = rows(&first).restored();
    let infos: nix_cache::store::Paths = nix_cache::store::read_all(&first.dirs()).unwrap();
    let measured = machine.store("measured");
    let start = Instant::now();
    assert_eq!(unpack(&measured, &cache, &infos, None).registered.len(), infos.len());
    let usual = start.elapsed();
    let mut counts = Vec::new();
    for quarter in 0..4 {
        let store = machine.store(&format!("store-{quarter}"));
        let attached = unpack(&store, &cache, &infos, Some(usual * quarter / 4));
        assert_eq!(attached.registered, store.valid());
        // What is whole but refers to something that is not is left out too, without a reason of its own.
        let is_late = attached.rejected.iter().any(|path| path.why.contains("restore-timeout"));
        assert_eq!(is_late, attached.registered.len() < infos.len(), "{:?}", attached.rejected);
        assert_part_of(&store, &all);
        store.assert_sound();
        counts.push(store.valid().len());
        store.restore(&cache, KEY, &[]);
        assert_eq!(rows(&store), all);
        store.assert_tidy();
        remove_tree(&store.root).unwrap();
    }
    println!("after so many quarters of the time that it takes, so many paths of {}: {counts:?}", infos.len());
    assert_eq!(counts[0], 0);
}
