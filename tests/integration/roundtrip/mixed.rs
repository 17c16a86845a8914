//! Restoring into a store that is not empty.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{KEY, saved};
use crate::support::machine::Machine;
use crate::support::nix;
use crate::support::rows::rows;

#[test]
fn paths_that_are_valid_already_are_left_alone() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        let first = saved(&machine, &cache);
        let second = machine.store("second");
        second.build(&["another"]);
        let before = rows(&second);
        let outcome = second.restore(&cache, KEY, &[]);
        let both = second.valid().intersection(&first.valid()).count();
        assert_eq!(both, first.valid().len(), "all of the snapshot is there");
        let already = before.paths.keys().filter(|path| rows(&first).paths.contains_key(*path)).count();
        assert_eq!(outcome["paths-already-valid"], already);
        assert_eq!(outcome["paths-restored"], first.valid().len() - already);
        let after = rows(&second);
        for (path, row) in &before.paths {
            assert_eq!(after.paths.get(path), Some(row));
        }
        assert!(after.references.is_superset(&before.references) && after.outputs.is_superset(&before.outputs));
        second.assert_verifies();
        second.assert_tidy();
    }
}

#[test]
fn what_is_in_the_way_and_not_valid_is_replaced() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        let first = saved(&machine, &cache);
        let second = machine.store("second");
        let real = second.dirs().real_store();
        for (number, path) in first.valid().iter().enumerate() {
            let place = real.join(path.as_str());
            match number % 4 {
                0 => {
                    fs::create_dir_all(place.join("half/of/it")).unwrap();
                    fs::write(place.join("half/file"), "unfinished").unwrap();
                    fs::set_permissions(place.join("half"), fs::Permissions::from_mode(0o555)).unwrap();
                }
                1 => fs::write(&place, "unfinished").unwrap(),
                2 => symlink("/nix/store", &place).unwrap(),
                _ => {}
            }
        }
        let outcome = second.restore(&cache, KEY, &[]);
        assert_eq!(outcome["paths-restored"], first.valid().len());
        assert_eq!(rows(&second), rows(&first).restored());
        second.assert_sound();
        second.assert_verifies();
        let locks = fs::read_dir(&real).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".lock")
        });
        assert_eq!(locks.count(), 0, "locks are removed");
    }
}

#[test]
fn what_a_killed_restore_left_is_removed_by_the_next() {
    for nix in nix::all() {
        let machine = Machine::new(nix);
        let cache = machine.path("cache");
        saved(&machine, &cache);
        let second = machine.store("second");
        let leftover = second.dirs().real_store().join(".nix-cache-unpack.7");
        fs::create_dir_all(leftover.join("a/b")).unwrap();
        fs::set_permissions(leftover.join("a"), fs::Permissions::from_mode(0o555)).unwrap();
        let fetched = second.dirs().own_dir().join("layers");
        fs::create_dir_all(&fetched).unwrap();
        fs::write(fetched.join("0".repeat(64)), "half of a layer").unwrap();
        second.restore(&cache, KEY, &[]);
        second.assert_tidy();
        assert!(!fetched.exists() || fs::read_dir(fetched).unwrap().next().is_none());
        second.assert_verifies();
    }
}
