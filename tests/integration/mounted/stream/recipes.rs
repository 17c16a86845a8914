//! Layers that are stored as recipes: they are served without being assembled.

use super::*;
use crate::support::cache::{assert_whole, copy};
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

/// Two hundred small files that do not compress, a quarter of which changed.
fn add_small(store: &TestStore, changed: u64) {
    let folder = store.machine.path(&format!("small-{changed}/small"));
    fs::create_dir_all(&folder).unwrap();
    for number in 0..200 {
        let seed = number << 32 | if number % 4 == 1 { changed << 24 } else { 0 };
        let bytes: Vec<u8> = (0..10_000).map(|at| mix(seed + at) as u8).collect();
        fs::write(folder.join(format!("file-{number}")), bytes).unwrap();
    }
    store.nix_store(&["--add", folder.to_str().unwrap()]);
}

#[test]
fn a_path_that_was_made_again_travels_as_its_changed_files() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (saved, first) = (machine.path("saved"), machine.store("first"));
    add_small(&first, 0);
    first.save(&saved, KEY, &[]);
    for (changed, mode) in (1..).zip([MOUNT, STREAM]) {
        let cache = machine.path(&format!("cache-{changed}"));
        copy(&saved, &cache);
        let store = Streamed(machine.store(mode[1]));
        let outcome = Run::of(store.0.verb("restore", &cache, KEY, &mode)).json();
        assert_eq!((&outcome["mode"], &outcome["paths-lost"]), (&mode[1].into(), &0.into()), "{outcome}");
        if mode == STREAM {
            wait_for("the end of the stream", || status(&store.0)["bytes-here"] == status(&store.0)["bytes"]);
        }
        add_small(&store.0, changed);
        // Nothing that newer files replaced is dropped, or layers would be packed again.
        let saved = store.0.save(&cache, KEY, &["--keep-saves", "0"]);
        let sent = saved["bytes-uploaded"].as_u64().unwrap();
        assert!(sent < 550_000, "{}: {sent} bytes were sent for fifty files of 10,000 bytes", mode[1]);
        assert_whole(&cache);
        let whole = machine.store(&format!("after-{}", mode[1]));
        whole.restore(&cache, KEY, &["--restore-mode", "unpack"]);
        assert_eq!(rows(&whole).restored(), rows(&store.0).restored());
        whole.assert_verifies();
        detach_cleanly(&store.0);
    }
}
