//! Many paths: memory does not grow with them beyond its bound.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix_cache::layer::hash_of;
use nix_cache::store::{PathInfo, SharedMap, SharedSet, StorePath, register};

use super::{MOST, measured};
use crate::support::machine::{Machine, TestStore};
use crate::support::nix;
use crate::support::program::KEY;

/// So many paths by default; more by `NIX_CACHE_TEST_PATHS`.
const PATHS: usize = 4_000;

/// A store of `count` paths of a few bytes, each with up to eight references, a deriver and a signature, as a large closure has.
fn store_of(machine: &Machine, count: usize) -> TestStore {
    let store = machine.store("many");
    let folder = store.dirs().real_store();
    fs::create_dir_all(&folder).unwrap();
    let mut names: Vec<StorePath> = Vec::with_capacity(count);
    let mut infos = Vec::with_capacity(count);
    for number in 0..count {
        let digits = number.wrapping_mul(2_654_435_761) % (1 << 32);
        let path: StorePath =
            format!("{digits:012}{number:020}-package-with-a-name-{number}.{}", number % 7).parse().unwrap();
        let file = folder.join(path.as_str());
        fs::write(&file, format!("content {number}")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
        let near = (0..number % 9).filter_map(|far| number.checked_sub(1 + far * far * 7));
        infos.push(PathInfo {
            path: path.clone(),
            nar_hash: hash_of(&file).unwrap(),
            nar_size: 112 + 8 * (format!("content {number}").len() as u64).div_ceil(8),
            references: near.map(|near| names[near].clone()).collect(),
            deriver: Some(format!("{number:020}{digits:012}-package-with-a-name-{number}.drv").parse().unwrap()),
            signatures: SharedSet::from([format!("cache.example.org-1:{number:086}==")]),
            ca: None,
            registration_time: 1_700_000_000,
            ultimate: false,
            outputs: SharedMap::new(),
        });
        names.push(path);
    }
    register(&store.dirs(), &infos).unwrap();
    store
}

#[test]
fn many_paths_fit_into_memory() {
    let count = std::env::var("NIX_CACHE_TEST_PATHS").ok().and_then(|text| text.parse().ok()).unwrap_or(PATHS);
    let most = if count == PATHS { 64 << 10 } else { MOST };
    let machine = Machine::new(&nix::all()[0]);
    let cache = machine.path("cache");
    let first = store_of(&machine, count);
    let (run, memory) = measured(first.verb("save", &cache, KEY, &[]));
    assert_eq!(run.json()["paths-new"], count);
    println!("save of {count} paths: {memory} KiB");
    assert!(memory < most, "save of {count} paths: {memory} KiB");
    for mode in ["unpack", "mount"] {
        let second = machine.store(mode);
        let (run, memory) = measured(second.verb("restore", &cache, KEY, &["--restore-mode", mode]));
        let outcome = run.json();
        assert_eq!(outcome["paths-restored"], count, "{outcome}");
        println!("restore of {count} paths, {}: {memory} KiB", outcome["mode"]);
        assert!(memory < most, "restore of {count} paths, {}: {memory} KiB", outcome["mode"]);
        if outcome["mode"] == "mount" {
            let (run, memory) = measured({
                let mut command = machine.nix_cache(&["detach", "--format", "json"]);
                command.arg("--store-root").arg(&second.root);
                command
            });
            assert_eq!(run.json()["unregistered"], count, "{run:?}");
            println!("detach of {count} paths: {memory} KiB");
            assert!(memory < most, "detach of {count} paths: {memory} KiB");
        }
    }
}
