//! Layers that are stored as recipes: they are served without being assembled.

use super::*;
use crate::support::cache::assert_whole;
use crate::support::rows::rows;

#[test]
fn a_recipe_is_served_from_the_entries_that_it_refers_to() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    add(&saved, "first", 12);
    saved.save(&cache, KEY, &[]);
    let (changed, original) = (source(&machine, "second", 0), source(&machine, "first", 12));
    for name in entries(&original) {
        fs::copy(original.join(&name), changed.join(&name)).unwrap();
    }
    fs::write(changed.join("file-3"), "another").unwrap();
    let second = machine.store("second");
    second.restore(&cache, KEY, &["--restore-mode", "unpack"]);
    second.nix_store(&["--add", changed.to_str().unwrap()]);
    second.save(&cache, KEY, &[]);
    let (_, snapshot) = assert_whole(&cache).pop().unwrap();
    assert!(snapshot.layers.values().any(|layer| layer.recipe.is_some()), "{:?}", snapshot.layers);
    let (streamed, outcome) = streamed(machine.store("streamed"), &cache, &[], "stream_fill=60000");
    assert_streamed(&outcome);
    let before = status(&streamed.0);
    assert!(before["bytes-here"].as_u64() < before["bytes"].as_u64(), "{before}");
    streamed.0.assert_verifies();
    assert_eq!(rows(&streamed.0).restored(), rows(&second).restored());
    detach_cleanly(&streamed.0);
}
