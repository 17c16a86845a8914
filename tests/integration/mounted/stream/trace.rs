//! The order of reads, which the next job of the lane gets from the start.

use nix_cache::snapshot::Snapshot;

use super::*;
use crate::support::cache::assert_whole;

fn newest(cache: &Path) -> Snapshot {
    let snapshots = assert_whole(cache);
    let newest =
        snapshots.into_iter().max_by_key(|(_, snapshot)| snapshot.facts.created.max(snapshot.lanes["default"].used));
    newest.unwrap().1
}

#[test]
fn what_a_job_read_is_fetched_first_in_the_next_one() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    add(&saved, "one", 24);
    saved.save(&cache, KEY, &[]);
    let idle = "stream_fill=600000";
    let (first, outcome) = streamed(machine.store("first"), &cache, &[], idle);
    assert_streamed(&outcome);
    let tables = status(&first.0)["bytes-here"].as_u64().unwrap();
    let one = first.0.dirs().real(&path_named(&first.0, "one"));
    fs::read(one.join("file-12")).unwrap();
    let read = status(&first.0)["bytes-here"].as_u64().unwrap();
    assert!(read > tables);
    assert_eq!(first.0.save(&cache, KEY, &[])["reason"], "lane-grew");
    detach_cleanly(&first.0);
    let snapshot = newest(&cache);
    assert!(!snapshot.lanes["default"].trace.units.is_empty(), "{:?}", snapshot.lanes);
    let (second, outcome) = streamed(machine.store("second"), &cache, &[], idle);
    assert_streamed(&outcome);
    wait_for("the fetch of what was read", || status(&second.0)["bytes-here"].as_u64() == Some(read));
    // The same reads again are nothing to save.
    fs::read(second.0.dirs().real(&path_named(&second.0, "one")).join("file-12")).unwrap();
    assert_eq!(second.0.save(&cache, KEY, &[])["reason"], "nothing-new");
    detach_cleanly(&second.0);
}
