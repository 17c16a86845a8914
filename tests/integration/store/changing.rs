//! Nix accepts the paths that we register, and nothing is ever partly registered.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix_cache::store::{
    PathInfo, Registered, SharedSet, StoreDirs, StoreError, StorePath, read_all, register, unregister,
};

use super::facts::{database, one_of_many, sign_all, told_by_nix};
use super::nix::{Nix, TestStore};

fn sample(nix: &Nix) -> Option<(TestStore, nix_cache::store::Paths)> {
    let store = TestStore::new(nix);
    if !store.can_build() {
        return None;
    }
    store.build_sample();
    sign_all(&store);
    let paths = read_all(&store.dirs()).unwrap();
    Some((store, paths))
}

/// Every version's store is registered in a store of every version.
#[test]
fn a_copied_store_is_as_good_as_the_first() {
    for (from, to) in
        Nix::versions().iter().flat_map(|from| Nix::versions().into_iter().map(move |to| (from.clone(), to)))
    {
        let Some((first, paths)) = sample(&from) else { return };
        let second = TestStore::new(&to);
        second.copy_files(&first, paths.keys());
        let infos: Vec<PathInfo> = paths.values().rev().cloned().collect();
        let registered = register(&second.dirs(), &infos).unwrap();
        assert_eq!(registered, Registered { new: paths.keys().cloned().collect(), already: Vec::new() });

        assert_eq!(read_all(&second.dirs()).unwrap(), paths);
        assert_eq!(told_by_nix(&second).dump, told_by_nix(&first).dump);
        assert_eq!(told_by_nix(&second).trust, told_by_nix(&first).trust);
        second.verify();

        // A derivation that is built from it finds everything there.
        assert_eq!(second.build_sample_as(&first.tag()), first.build_sample());
        assert_eq!(read_all(&second.dirs()).unwrap(), paths);

        second.nix_store(&["--gc"]);
        assert_eq!(told_by_nix(&second).dump, "");
        let left: Vec<_> =
            fs::read_dir(second.dirs().real_store()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == ".links"), "{left:?}");
    }
}

#[test]
fn what_is_valid_already_stays_as_it_is() {
    let Some(nix) = Nix::of_path() else { return };
    let Some((store, paths)) = sample(&nix) else { return };
    let mut infos: Vec<PathInfo> = paths.values().cloned().collect();
    for info in &mut infos {
        info.signatures = SharedSet::from(["other-1:AAAA".to_owned()]);
        info.registration_time = 1;
    }
    let mut new = one_of_many(0);
    new.references.extend(paths.keys().cloned());
    fs::create_dir(store.dirs().real(&new.path)).unwrap();
    infos.push(new.clone());
    let registered = register(&store.dirs(), &infos).unwrap();
    assert_eq!(registered, Registered { new: vec![new.path.clone()], already: paths.keys().cloned().collect() });
    let mut expected = paths;
    expected.insert(new.path.clone(), new);
    assert_eq!(read_all(&store.dirs()).unwrap(), expected);
}

#[test]
fn a_bad_batch_changes_nothing() {
    let Some(nix) = Nix::of_path() else { return };
    let store = TestStore::new(&nix);
    let dirs = store.dirs();
    for number in 0..10 {
        fs::create_dir(dirs.real(&one_of_many(number).path)).unwrap();
    }
    let batch = |change: &dyn Fn(&mut PathInfo)| {
        let mut infos: Vec<_> = (0..10).map(one_of_many).collect();
        change(&mut infos[3]);
        register(&dirs, &infos).unwrap_err()
    };
    let missing = batch(&|info| assert!(info.references.insert(one_of_many(77).path)));
    assert!(matches!(&missing, StoreError::MissingReference { list, .. } if list.contains("many77")), "{missing}");
    let circle = batch(&|info| assert!(info.references.insert(one_of_many(5).path)));
    assert!(matches!(circle, StoreError::Cycle { .. }), "{circle}");
    let signature = batch(&|info| assert!(info.signatures.insert("two words:AAAA".to_owned())));
    assert!(matches!(signature, StoreError::Unstorable { .. }), "{signature}");
    let size = batch(&|info| info.nar_size = u64::MAX);
    assert!(matches!(size, StoreError::Unstorable { .. }), "{size}");
    fs::remove_dir(dirs.real(&one_of_many(3).path)).unwrap();
    let files = batch(&|_| ());
    assert!(matches!(&files, StoreError::MissingFiles { list, .. } if list.contains("many3")), "{files}");

    assert!(read_all(&dirs).unwrap().is_empty());
    assert_eq!(store.nix_store(&["--dump-db"]), "");
    fs::create_dir(dirs.real(&one_of_many(3).path)).unwrap();
    register(&dirs, &(0..10).map(one_of_many).collect::<Vec<_>>()).unwrap();
    assert_eq!(read_all(&dirs).unwrap().len(), 10);
}

#[test]
fn what_others_need_cannot_be_taken_out() {
    for nix in Nix::versions() {
        let Some((store, paths)) = sample(&nix) else { return };
        let dirs = store.dirs();
        let one = paths.keys().find(|path| path.name() == "one").unwrap();
        let needing: Vec<StorePath> = paths.referrers_closure([one]).into_iter().collect();
        assert!(needing.len() > 2);
        let error = unregister(&dirs, std::slice::from_ref(one)).unwrap_err();
        assert!(matches!(&error, StoreError::StillReferred { list, .. } if list.contains("two")), "{error}");
        assert_eq!(read_all(&dirs).unwrap(), paths);

        assert_eq!(
            unregister(&dirs, &needing).unwrap().into_iter().collect::<BTreeSet<_>>(),
            needing.iter().cloned().collect()
        );
        let left = read_all(&dirs).unwrap();
        assert_eq!(left.len(), paths.len() - needing.len());
        assert_eq!(left.closure(left.keys()).len(), left.len());
        assert_eq!(super::facts::read_by_us(&left), told_by_nix(&store));
        assert_eq!(unregister(&dirs, &needing).unwrap(), Vec::new());

        // With the rows of its outputs: nothing of a removed path stays in the tables.
        let derivations: Vec<StorePath> = left.keys().filter(|path| path.is_derivation()).cloned().collect();
        unregister(&dirs, &derivations).unwrap();
        let rows: i64 =
            database(&store).query_row("select count(*) from DerivationOutputs", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
        store.verify();
    }
}

#[test]
fn a_batch_waits_for_another_writer() {
    let Some(nix) = Nix::of_path() else { return };
    let store = TestStore::new(&nix);
    let dirs = store.dirs();
    fs::create_dir(dirs.real(&one_of_many(0).path)).unwrap();
    let mut db = database(&store);
    let writer = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(register(&dirs, &[one_of_many(0)])).unwrap());
        let early = receiver.recv_timeout(std::time::Duration::from_millis(300));
        assert!(early.is_err(), "{early:?} while another writer had the database");
        writer.commit().unwrap();
        assert_eq!(receiver.recv().unwrap().unwrap().new.len(), 1);
    });
}

const MANY: usize = 20_000;
const CHILD: &str = "NIX_CACHE_TEST_REGISTER_ROOT";

#[test]
fn a_kill_in_the_middle_leaves_the_database_as_it_was() {
    let Some(nix) = Nix::of_path() else { return };
    let store = TestStore::new(&nix);
    let dirs = store.dirs();
    for number in 0..MANY {
        fs::write(dirs.real(&one_of_many(number).path), "").unwrap();
    }
    register(&dirs, &[one_of_many(0)]).unwrap();
    kill_while_it_writes(&dirs);

    assert_eq!(read_all(&dirs).unwrap().len(), 1);
    let db = database(&store);
    let check: String = db.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    drop(db);
    assert_eq!(store.nix_store(&["--dump-db"]).lines().filter(|line| line.starts_with("/nix/store")).count(), 3);

    let infos: Vec<_> = (0..MANY).map(one_of_many).collect();
    assert_eq!(register(&dirs, &infos).unwrap().new.len(), MANY - 1);
    assert_eq!(read_all(&dirs).unwrap().len(), MANY);
}

/// Starts a process that registers many paths and kills it when a part of its transaction is in the log.
fn kill_while_it_writes(dirs: &StoreDirs) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::changing::child_that_registers", "--ignored"])
        .env(CHILD, dirs.root().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let log = dirs.db_path().with_file_name("db.sqlite-wal");
    while log.metadata().map_or(0, |log| log.len()) < 1 << 20 {
        assert!(child.try_wait().unwrap().is_none(), "the child ended before it wrote");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "the child was done before it could be killed");
    assert!(log.metadata().unwrap().len() >= 1 << 20, "the log was written back before the kill");
}

#[test]
#[ignore = "what another test runs and kills"]
fn child_that_registers() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let infos: Vec<_> = (0..MANY).map(one_of_many).collect();
    register(&StoreDirs::new(Some(Path::new(&root))), &infos).unwrap();
}
