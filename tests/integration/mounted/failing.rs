//! Failures after layers were mounted: no mount without valid paths stays.

use rusqlite::Connection;

use super::{KEY, MOUNT, assert_plain, benches, mounts_of};
use crate::support::program::{Run, notes};

#[test]
fn a_database_that_takes_no_path_has_the_mount_taken_back() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        let database = Connection::open(store.dirs().db_path()).unwrap();
        let sql = "create trigger full before insert on ValidPaths begin select raise(abort, 'disk is full'); end";
        database.execute_batch(sql).unwrap();
        let failed = Run::of(store.verb("restore", &bench.cache, KEY, &MOUNT));
        assert_eq!((failed.code, mounts_of(&store).len()), (Some(1), 0), "{failed:?}");
        assert!(failed.log.contains("disk is full"), "{}", failed.log);
        assert!(store.valid().is_empty());
        assert_plain(&store);
        database.execute_batch("drop trigger full").unwrap();
        drop(database);
        bench.mount_on(&store);
        super::detach_cleanly(&store);
    }
}

#[test]
fn a_database_that_takes_some_paths_has_them_and_the_mount_taken_back() {
    for bench in benches().take(1) {
        // More than are registered at a time.
        bench.saved.build(&["everything", "count=40"]);
        bench.save();
        let store = bench.machine.store("mounted");
        let database = Connection::open(store.dirs().db_path()).unwrap();
        let sql = "create trigger full before insert on ValidPaths when (select count(*) from ValidPaths) >= 64
            begin select raise(abort, 'disk is full'); end";
        database.execute_batch(sql).unwrap();
        let failed = Run::of(store.verb("restore", &bench.cache, KEY, &MOUNT));
        assert_eq!((failed.code, mounts_of(&store).len()), (Some(1), 0), "{failed:?}");
        assert!(store.valid().is_empty());
        assert_plain(&store);
    }
}

#[test]
fn where_nothing_is_left_to_attach_nothing_is_mounted_and_nothing_said() {
    for bench in benches() {
        let store = bench.machine.store("mounted");
        for mode in ["unpack", "mount"] {
            let outcome = store.restore(&bench.cache, KEY, &["--restore-mode", mode]);
            assert_eq!((&outcome["hit"], notes(&outcome)), (&"exact".into(), vec![]), "{outcome}");
            assert_eq!(mounts_of(&store).len(), 0);
        }
    }
}
