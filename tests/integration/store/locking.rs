//! Our locks and Nix's are the same.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix_cache::store::{gc_lock, read_all};

use super::nix::{Nix, TestStore};

#[test]
fn a_garbage_collection_waits_for_us_and_nothing_else_does() {
    for nix in Nix::versions() {
        let store = TestStore::new(&nix);
        std::fs::write(store.home().join("file"), "a file").unwrap();
        store.nix_store(&["--add", "file"]);
        let lock = gc_lock(&store.dirs()).unwrap().unwrap();

        let mut collection =
            store.command("nix-store").arg("--gc").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(collection.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("waiting for the big garbage collector lock")));

        // Adding and verifying take the lock as we do.
        std::fs::write(store.home().join("other"), "another file").unwrap();
        store.nix_store(&["--add", "other"]);
        store.verify();
        assert_eq!(read_all(&store.dirs()).unwrap().len(), 2);

        drop(lock);
        said.for_each(drop);
        assert!(collection.wait().unwrap().success());
        assert!(read_all(&store.dirs()).unwrap().is_empty());
        assert!(gc_lock(&store.dirs()).unwrap().is_some());
    }
}
