//! What we read is what Nix says, for every user and beside every writer.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix_cache::store::{StoreDirs, StoreError, StorePath, ensure_with, read_all};

use super::facts::{database, read_by_us, sign_all, told_by_nix};
use super::nix::{Nix, TestStore, is_root, store_path, succeed};

#[test]
fn a_store_reads_as_nix_describes_it() {
    for nix in Nix::versions() {
        let store = TestStore::new(&nix);
        if !store.can_build() {
            return;
        }
        store.build_sample();
        sign_all(&store);
        let paths = read_all(&store.dirs()).unwrap();
        let told = told_by_nix(&store);
        assert!(told.trust.values().any(|trust| trust.ultimate) && told.trust.values().any(|trust| trust.ca.is_some()));
        assert!(told.trust.values().all(|trust| trust.signatures.len() == 2));
        assert_eq!(read_by_us(&paths), told);
    }
}

#[test]
fn closures_and_outputs_are_those_of_nix() {
    for nix in Nix::versions() {
        let store = TestStore::new(&nix);
        if !store.can_build() {
            return;
        }
        store.build_sample();
        let paths = read_all(&store.dirs()).unwrap();
        assert!(paths.values().any(|info| info.outputs.len() == 2));
        assert!(paths.values().any(|info| info.references.contains(&info.path)));
        for (path, info) in &paths {
            let ask = |args: &[&str]| -> BTreeSet<StorePath> {
                let full = path.full("/nix/store");
                store.nix_store(&[&["--query"], args, &[&full]].concat()).lines().map(store_path).collect()
            };
            assert_eq!(paths.closure([path]), ask(&["--requisites"]), "{path}");
            assert_eq!(paths.closure_with_outputs([path]), ask(&["--requisites", "--include-outputs"]), "{path}");
            assert_eq!(paths.referrers_closure([path]), ask(&["--referrers-closure"]), "{path}");
            if path.is_derivation() {
                assert_eq!(info.outputs.values().cloned().collect::<BTreeSet<_>>(), ask(&["--outputs"]), "{path}");
            } else {
                assert!(info.outputs.is_empty(), "{path}");
            }
        }
    }
}

#[test]
fn rows_without_sense_are_left_out_with_all_that_needs_them() {
    let Some(nix) = Nix::of_path() else { return };
    let broken = [
        "update ValidPaths set hash = 'sha256:zz' where id = ?1",
        "update ValidPaths set path = '/nix/store/odd' where id = ?1",
        "update ValidPaths set deriver = 'somebody' where id = ?1",
        "update ValidPaths set narSize = -1 where id = ?1",
        "insert into DerivationOutputs values (?1, 'out', '/elsewhere')",
        "pragma foreign_keys = off; delete from ValidPaths where id = ?1",
    ];
    for sql in broken {
        let store = TestStore::new(&nix);
        if !store.can_build() {
            return;
        }
        store.build_sample();
        let before = read_all(&store.dirs()).unwrap();
        // Something that others need, and that needs something itself.
        let middle = before.keys().find(|path| path.name() == "one").unwrap();
        let out = before.referrers_closure([middle]);
        assert!(out.len() > 2 && out.len() < before.len());

        let db = database(&store);
        let id: i64 = db
            .query_row("select id from ValidPaths where path = ?1", [middle.full("/nix/store")], |row| row.get(0))
            .unwrap();
        db.execute_batch(&sql.replace("?1", &id.to_string())).unwrap();
        let after: BTreeSet<StorePath> = read_all(&store.dirs()).unwrap().into_keys().collect();
        assert_eq!(after, before.keys().filter(|path| !out.contains(*path)).cloned().collect(), "{sql}");
    }
}

#[test]
fn another_layout_is_refused_by_name() {
    let Some(nix) = Nix::of_path() else { return };
    let store = TestStore::new(&nix);
    let dirs = store.dirs();
    for version in ["9", "11", "", "ten"] {
        fs::write(dirs.state_dir().join("db/schema"), version).unwrap();
        let error = read_all(&dirs).unwrap_err();
        assert!(matches!(error, StoreError::Schema { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("schema {version:?}")) && text.contains("only schema 10"), "{text}");
    }
    fs::write(dirs.state_dir().join("db/schema"), "10\n").unwrap();
    assert!(read_all(&dirs).unwrap().is_empty());
    database(&store).execute_batch("alter table ValidPaths rename column sigs to signatures").unwrap();
    let error = read_all(&dirs).unwrap_err().to_string();
    assert!(error.contains("ValidPaths without the column sigs"), "{error}");
}

#[test]
fn a_missing_store_is_made_below_a_root_and_only_there() {
    for nix in Nix::versions() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(&folder.path().join("deep/er")));
        assert!(matches!(read_all(&dirs), Err(StoreError::NoStore { .. })));
        let program = nix.program("nix-store");
        ensure_with(&dirs, program.as_os_str()).unwrap();
        assert!(read_all(&dirs).unwrap().is_empty());
        assert_eq!(dirs.owner().unwrap().0, rustix::process::geteuid().as_raw());
        // A second time nothing is run.
        ensure_with(&dirs, Path::new("/nonexistent").as_os_str()).unwrap();
    }
}

#[test]
fn an_open_transaction_of_a_writer_is_not_seen() {
    let Some(nix) = Nix::of_path() else { return };
    let store = TestStore::new(&nix);
    let mut db = database(&store);
    let transaction = db.transaction().unwrap();
    transaction.execute_batch(&insert_row(1)).unwrap();
    assert!(read_all(&store.dirs()).unwrap().is_empty());
    transaction.commit().unwrap();
    assert_eq!(read_all(&store.dirs()).unwrap().len(), 1);
}

#[test]
fn what_only_the_log_holds_is_read() {
    let Some(nix) = Nix::of_path() else { return };
    let store = TestStore::new(&nix);
    let file = fs::read(store.dirs().db_path()).unwrap();
    let writer = database(&store);
    writer.execute_batch(&format!("pragma wal_autocheckpoint = 0; {}", insert_row(1))).unwrap();
    assert_eq!(read_all(&store.dirs()).unwrap().len(), 1);
    assert!(file == fs::read(store.dirs().db_path()).unwrap(), "the row is in the file and not in the log");
}

#[test]
fn who_may_not_write_the_database_can_read_it() {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    for nix in Nix::versions() {
        let store = TestStore::new(&nix);
        let program = for_everybody(&store);
        let read = |root: &Path| read_as_nobody(&program, root);
        let beside = |suffix: &str| store.root().join(format!("nix/var/nix/db/db.sqlite{suffix}"));

        // As Nix left it, and without the files that only some versions leave.
        assert_eq!(read(&store.root()), "read 0");
        let _ = fs::remove_file(beside("-shm"));
        let _ = fs::remove_file(beside("-wal"));
        assert_eq!(read(&store.root()), "read 0");

        // Beside a writer with changes in the log.
        let writer = database(&store);
        writer.execute_batch(&format!("pragma wal_autocheckpoint = 0; {}", insert_row(1))).unwrap();
        assert!(beside("-wal").metadata().unwrap().len() > 0);
        assert_eq!(read(&store.root()), "read 1");

        // A log with content and nothing to take part in: no answer rather than the answer of before.
        let copy = store.home().join("copy");
        succeed(Command::new("cp").arg("-a").arg(store.root()).arg(&copy));
        fs::remove_file(copy.join("nix/var/nix/db/db.sqlite-shm")).unwrap();
        let error = read(&copy);
        assert!(error.starts_with("failed") && error.contains("may not write to its folder"), "{error}");
        drop(writer);
        assert_eq!(read(&store.root()), "read 1");
    }
}

const CHILD: &str = "NIX_CACHE_TEST_READ_ROOT";

#[test]
#[ignore = "what another test runs as another user"]
fn child_that_reads() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    match read_all(&StoreDirs::new(Some(Path::new(&root)))) {
        Ok(paths) => println!("\nanswer: read {}", paths.len()),
        Err(error) => println!("\nanswer: failed {error}"),
    }
}

/// A copy of this program that every user can run.
fn for_everybody(store: &TestStore) -> std::path::PathBuf {
    let program = store.home().join("tests");
    // By another process: a file that this one has open for writing could be inherited by a test that starts something meanwhile,
    // and could not be run then.
    succeed(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program));
    for folder in [store.home().parent().unwrap(), &store.home(), &store.root(), &program] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    program
}

fn read_as_nobody(program: &Path, root: &Path) -> String {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).env(CHILD, root).current_dir("/");
    command.args(["--exact", "store::reading::child_that_reads", "--ignored", "--nocapture", "--test-threads=1"]);
    let said = succeed(&mut command);
    let answer = said.lines().find_map(|line| line.strip_prefix("answer: "));
    answer.unwrap_or_else(|| panic!("no answer in {said}")).to_owned()
}

fn insert_row(number: usize) -> String {
    let (path, hash) = (format!("/nix/store/{number:032}-row"), "0".repeat(64));
    format!("insert into ValidPaths (path, hash, registrationTime) values ('{path}', 'sha256:{hash}', 1);")
}
