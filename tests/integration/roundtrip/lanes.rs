//! Lanes: jobs that share a key, and what each of them fetches.

use serde_json::Value;

use super::inspect;
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::KEY;

/// A cache that two jobs filled at the same time, neither with what the other made: one lane has the project, one what is built on
/// top of another package.
fn filled() -> (Machine, std::path::PathBuf) {
    let machine = Machine::new(&nix::all()[0]);
    let cache = machine.path("cache");
    let stores = ["first", "second"].map(|name| machine.store(name));
    for store in &stores {
        assert_eq!(store.restore(&cache, KEY, &[])["hit"], "miss");
    }
    stores[0].build(&["everything"]);
    stores[1].build(&["onTop"]);
    assert_eq!(save(&stores[0], &cache, "first")["reason"], "new-key");
    assert_eq!(save(&stores[1], &cache, "second")["reason"], "new-paths");
    (machine, cache)
}

fn save(store: &TestStore, cache: &std::path::Path, lane: &str) -> Value {
    store.save(cache, KEY, &["--lane", lane])
}

fn restored(machine: &Machine, cache: &std::path::Path, lane: &str, name: &str) -> (TestStore, Value) {
    let store = machine.store(name);
    let outcome = store.restore(cache, KEY, &["--lane", lane]);
    assert_eq!((&outcome["hit"], &outcome["paths-lost"]), (&"exact".into(), &0.into()), "{outcome}");
    store.assert_sound();
    store.assert_verifies();
    (store, outcome)
}

#[test]
fn a_lane_fetches_the_layers_that_it_used() {
    let (machine, cache) = filled();
    let (store, outcome) = restored(&machine, &cache, "first", "third");
    assert_ne!(outcome["paths-of-other-lanes"], 0, "{outcome}");
    assert_eq!(outcome["layers"].as_array().unwrap().len(), 1, "{outcome}");
    assert_eq!(store.builds(&["everything"]), 0);
    assert_ne!(store.builds(&["onTop"]), 0);
    let (store, outcome) = restored(&machine, &cache, "second", "fourth");
    assert_eq!(store.builds(&["onTop"]), 0, "{outcome}");
}

#[test]
fn a_lane_that_is_new_takes_all() {
    let (machine, cache) = filled();
    let (store, outcome) = restored(&machine, &cache, "never seen", "third");
    assert_eq!((&outcome["paths-of-other-lanes"], store.builds(&["onTop", "everything"])), (&0.into(), 0));
    // And nothing is written for it, since it needed nothing.
    assert_eq!(save(&store, &cache, "never seen")["reason"], "nothing-new");
}

#[test]
fn a_lane_that_uses_more_than_it_did_has_it_the_next_time() {
    let (machine, cache) = filled();
    let (store, _) = restored(&machine, &cache, "first", "third");
    assert_ne!(store.build(&["onTop"]).len(), 0);
    let outcome = save(&store, &cache, "first");
    assert_eq!(outcome["reason"], "lane-grew", "{outcome}");
    assert_eq!(outcome["entries-created"], 1, "a snapshot, and no layer: {outcome}");
    let (store, outcome) = restored(&machine, &cache, "first", "fourth");
    assert_eq!((&outcome["paths-of-other-lanes"], store.builds(&["onTop", "everything"])), (&0.into(), 0));
    assert_eq!(save(&store, &cache, "first")["reason"], "nothing-new");
    let lanes = inspect(&machine, &cache, KEY)["lanes"].clone();
    assert_eq!(lanes.as_object().unwrap().len(), 2, "{lanes}");
}
