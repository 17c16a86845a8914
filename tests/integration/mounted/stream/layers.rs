//! Stores of one, three and eight layers.

use super::*;
use crate::support::cache::assert_whole;

/// Each is read by Nix while the background fetches all of them.
#[test]
fn one_three_and_eight_layers_are_verified_while_they_arrive() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    for number in 1..=8_u64 {
        // Smaller ones each time, which are not packed with those before.
        add(&saved, &format!("part-{number}"), 10 - number);
        saved.save(&cache, KEY, &[]);
        if ![1, 3, 8].contains(&number) {
            continue;
        }
        let (streamed, outcome) = streamed(machine.store("streamed"), &cache, &[], "");
        assert_streamed(&outcome);
        let newest = assert_whole(&cache).into_iter().map(|(_, snapshot)| snapshot);
        let newest = newest.max_by_key(|snapshot| snapshot.paths.len()).unwrap();
        assert_eq!((newest.layers.len() as u64, &status(&streamed.0)["layers"]), (number, &number.into()));
        streamed.0.assert_verifies();
        assert_eq!(streamed.0.valid(), saved.valid());
        detach_cleanly(&streamed.0);
        assert_no_stream(&streamed.0);
        // The next restore begins with an empty store.
        streamed.0.nix_store(&["--gc"]);
    }
}
