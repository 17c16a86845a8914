//! Entries whose bytes are wrong or gone for good while a job reads.

use super::control::{assert_small, kill_worker};
use super::faults::QUICK;
use super::*;
use crate::support::cache::entries as cache_entries;

/// Changes a byte in the middle of each of these MiB of a file.
fn damage(file: &Path, parts: std::ops::Range<u64>) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    for part in parts {
        let (at, mut byte) = ((part << 20) + 1000, [0]);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
}

/// The path `one` of a store.
fn one(store: &TestStore) -> PathBuf {
    store.dirs().real(&path_named(store, "one"))
}

/// Which of the files of the path `one` can be read.
fn readable(one: &Path, original: &Path, count: u64) -> Vec<bool> {
    let is_readable = |number| match fs::read(one.join(format!("file-{number}"))) {
        Ok(bytes) => {
            assert_eq!(bytes, fs::read(original.join(format!("file-{number}"))).unwrap(), "wrong bytes were served");
            true
        }
        Err(_) => false,
    };
    (0..count).map(is_readable).collect()
}

fn note<'a>(outcome: &'a Value, code: &str) -> &'a str {
    let found = outcome["notes"].as_array().unwrap().iter().find(|note| note["code"] == code);
    found.unwrap_or_else(|| panic!("{outcome}"))["message"].as_str().unwrap()
}

#[test]
fn bytes_that_stay_wrong_are_never_served_and_the_next_save_replaces_them() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    add(&saved, "one", 20);
    saved.save(&cache, KEY, &[]);
    let [layer] = <[PathBuf; 1]>::try_from(cache_entries(&cache, "layer")).unwrap();
    damage(&layer, 9..10);
    let (streamed, outcome) = streamed(machine.store("streamed"), &cache, &[], QUICK);
    assert_streamed(&outcome);
    let store = &streamed.0;
    let read = readable(&one(store), &source(&machine, "one", 20), 20);
    assert!((1..=2).contains(&read.iter().filter(|is_read| !**is_read).count()), "{read:?}");
    // What is lost is not forgotten with the worker.
    kill_worker(store);
    add(store, "other", 1);
    let outcome = store.save(&cache, KEY, &[]);
    let said = note(&outcome, "layer-lost");
    assert!(said.contains("1 chunk of layer") && said.contains("-one)") && said.contains("1 path"), "{said}");
    detach_cleanly(store);
    // The damaged layer is not used any more; the next job that has the path saves it.
    let (next, outcome) = super::streamed(machine.store("next"), &cache, &[], QUICK);
    assert!(!notes(&outcome).contains(&"layer-damaged"), "{outcome}");
    assert!(next.0.valid().iter().all(|path| path.name() != "one"), "{outcome}");
    next.0.assert_verifies();
}

#[test]
fn blocks_that_an_entry_lost_are_read_from_another_that_has_them() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    add(&saved, "one", 12);
    saved.save(&cache, KEY, &[]);
    let [first] = <[PathBuf; 1]>::try_from(cache_entries(&cache, "layer")).unwrap();
    let second = machine.store("second");
    second.restore(&cache, KEY, &["--restore-mode", "unpack"]);
    // Without the index of the first layer, the second one is stored whole.
    fs::remove_dir_all(second.dirs().own_dir().join("indexes")).unwrap();
    let (original, same) = (source(&machine, "one", 12), source(&machine, "two", 0));
    for name in entries(&original) {
        fs::copy(original.join(&name), same.join(&name)).unwrap();
    }
    fs::write(same.join("more"), "of another path").unwrap();
    second.nix_store(&["--add", same.to_str().unwrap()]);
    second.save(&cache, KEY, &[]);
    assert_eq!(cache_entries(&cache, "layer").len(), 2);
    damage(&first, 2..10);
    let (streamed, outcome) = streamed(machine.store("streamed"), &cache, &[], QUICK);
    assert_streamed(&outcome);
    let store = &streamed.0;
    assert_eq!(readable(&one(store), &original, 12), [true; 12]);
    let lost = status(store)["lost"].clone();
    let lost: Vec<&Value> = lost.as_object().unwrap().values().collect();
    assert!(lost.len() == 1 && lost[0]["recovered"].as_array().unwrap().len() == 8, "{lost:?}");
    assert_eq!(lost[0]["chunks"], lost[0]["recovered"]);
    kill_worker(store);
    store.assert_verifies();
    // The next save stores again what the entry lost.
    let outcome = store.save(&cache, KEY, &[]);
    assert!(!notes(&outcome).contains(&"layer-lost") && outcome["saved"].is_object(), "{outcome}");
    detach_cleanly(store);
    let healed = machine.store("healed");
    assert_eq!(healed.restore(&cache, KEY, &["--restore-mode", "unpack"])["paths-lost"], 0);
    assert_eq!(healed.valid(), second.valid());
    healed.assert_verifies();
}

/// If the disk is full, bytes are used from memory, and fetched again the next time.
#[test]
fn a_full_disk_costs_no_read() {
    let Some(nix) = nixes().last() else { return };
    let machine = Machine::new(nix);
    let (cache, saved) = (machine.path("cache"), machine.store("saved"));
    add(&saved, "one", 40);
    saved.save(&cache, KEY, &[]);
    let root = machine.path("streamed");
    fs::create_dir(&root).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=96m,mode=755", "none"]).arg(&root).status();
    assert!(mounted.unwrap().success());
    {
        let (streamed, outcome) = streamed(machine.store("streamed"), &cache, &[], QUICK);
        assert_streamed(&outcome);
        let store = &streamed.0;
        let one = one(store);
        let filler = fs::File::create(store.root.join("filler")).unwrap();
        std::io::copy(&mut std::io::repeat(7), &mut &filler).unwrap_err();
        assert_eq!(readable(&one, &source(&machine, "one", 40), 40), [true; 40]);
        assert_eq!(status(store)["lost"], serde_json::json!({}));
        assert_small(store);
        drop(filler);
        fs::remove_file(store.root.join("filler")).unwrap();
        run_detach(store);
        assert_no_stream(store);
    }
    // The folder of the stream is gone a moment before its processes are.
    wait_for("the end of every use of the disk", || unmount(&root, UnmountFlags::empty()).is_ok());
}

/// What Nix does with a whole store, while the background fetches.
#[test]
fn a_store_is_verified_optimised_and_collected_while_it_arrives() {
    for bench in benches() {
        add(&bench.saved, "one", 60);
        bench.save();
        use_while_it_arrives(&bench);
    }
}

fn use_while_it_arrives(bench: &Bench) {
    let (streamed, outcome) = streamed(bench.machine.store("streamed"), &bench.cache, &[], "");
    assert_streamed(&outcome);
    let store = &streamed.0;
    let mut optimise = store.command("nix-store").arg("--optimise").spawn().unwrap();
    store.assert_verifies();
    assert!(optimise.wait().unwrap().success());
    wait_for("the end of the background", || status(store)["bytes-here"] == status(store)["bytes"]);
    assert_small(store);
    let everything = path_named(store, "everything");
    store.nix_store(&["--add-root", bench.machine.path("root").to_str().unwrap(), "--realise", &full(&everything)]);
    store.nix_store(&["--gc"]);
    assert!(store.valid().iter().all(|path| path.name() != "one"));
    store.assert_verifies();
    detach_cleanly(store);
    assert_no_stream(store);
}
