//! Nix's own caches.

use std::fs::{File, FileTimes};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;

use super::super::EVAL_CACHE;
use super::super::nix::{DEFAULT_MAX_AGE, DEFAULT_MAX_BYTES, nix_cache_dir};
use super::*;
use crate::base::note::Code;

fn folder(machine: &Machine) -> PathBuf {
    machine.home().join(".cache/nix")
}

fn level(machine: &Machine) -> FilesLevel {
    FilesLevel { name: EVAL_CACHE, roots: Roots::nix_caches(&folder(machine)), ..machine.level("k", &[]) }
}

/// A database as Nix makes it, with a text in it.
fn database(path: &Path, text: &str) -> Connection {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let database = Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "truncate").unwrap();
    database.execute_batch("create table Cache (text); create table Other (text);").unwrap();
    database.execute("insert into Cache values (?)", [text]).unwrap();
    database
}

fn text_of(path: &Path) -> String {
    Connection::open(path).unwrap().query_row("select text from Cache", [], |row| row.get(0)).unwrap()
}

/// Nix's cache folder with something of everything in it.
fn fill(machine: &Machine) {
    for name in ["eval-cache-v5/aa.sqlite", "eval-cache-v6/bb.sqlite", "fetcher-cache-v2.sqlite"] {
        drop(database(&folder(machine).join(name), name));
    }
    fs::create_dir_all(folder(machine).join("gitv3/abc/refs/heads")).unwrap();
    machine.write(&[
        (".cache/nix/binary-cache-v6.sqlite", "not wanted"),
        (".cache/nix/flake-registry.json", "not wanted"),
        (".cache/nix/gitv3/abc/objects/pack/pack-97903e2b9cad0d4452e42b75d052fc159dc3d4cf.pack", "pack"),
        (".cache/nix/gitv3/abc/HEAD", "ref: refs/heads/main\n"),
        (".cache/nix/gitv3/abc/config", "[core]\n\tbare = true\n[core]\n\tfsmonitor = touch evil\n"),
        (".cache/nix/gitv3/abc/info/attributes", "* filter=evil"),
        (".cache/nix/gitv3/abc/hooks/post-checkout", "not wanted"),
        (".cache/nix/gitv3/abc.lock", "not wanted"),
        (".cache/nix/tarball-cache-v2/objects/12/903e2b9cad0d4452e42b75d052fc159dc3d4cf", "object"),
        (".cache/nix/tarball-cache-v2/HEAD", "ref: refs/heads/master\n"),
        (".cache/nix/gitv3/borrowed/HEAD", "ref: refs/heads/main\n"),
        (".cache/nix/gitv3/borrowed/objects/info/alternates", "/elsewhere"),
        (".cache/nix/gitv3/odd/HEAD", "ref: ../../x\n"),
        (".cache/nix/tarball-cache-v2/objects/tmp_obj_x", "not wanted"),
        (".cache/nix/tarball-cache-v2/refs/heads.lock", "not wanted"),
    ]);
}

#[tokio::test]
async fn caches_come_back_without_what_is_no_use() {
    let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
    fill(&one);
    let saved = place.save(&one, &level(&one), None).await;
    assert_eq!((saved.outcome, saved.files), (FilesOutcome::Saved, 7), "{:?}", saved.notes);
    let restored = place.restore(&two, &level(&two)).await;
    assert_eq!((restored.hit, restored.files, restored.notes.len()), (Hit::Exact, 7, 0));
    let files = names(&folder(&two)).into_iter().filter(|name| folder(&two).join(name).is_file());
    let expected = [
        "eval-cache-v5/aa.sqlite",
        "eval-cache-v6/bb.sqlite",
        "fetcher-cache-v2.sqlite",
        "gitv3/abc/HEAD",
        "gitv3/abc/config",
        "gitv3/abc/objects/pack/pack-97903e2b9cad0d4452e42b75d052fc159dc3d4cf.pack",
        "tarball-cache-v2/HEAD",
        "tarball-cache-v2/config",
        "tarball-cache-v2/objects/12/903e2b9cad0d4452e42b75d052fc159dc3d4cf",
    ];
    assert_eq!(files.collect::<Vec<_>>(), expected);
    assert_eq!(text_of(&folder(&two).join(expected[0])), expected[0]);
    for store in ["gitv3/abc", "tarball-cache-v2"] {
        let config = fs::read_to_string(folder(&two).join(store).join("config")).unwrap();
        assert!(config.contains("bare = true") && !config.contains("evil"), "{config}");
        assert!(folder(&two).join(store).join("refs").is_dir());
    }
    let again = place.save(&two, &level(&two), restored.digest.as_deref()).await;
    assert_eq!((again.outcome, again.uploaded), (FilesOutcome::Unchanged, 0));
    assert_eq!(names(&two.scratch()), [""; 0]);
}

#[tokio::test]
async fn a_database_that_is_being_written_comes_back_consistent() {
    let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
    let name = "eval-cache-v6/aa.sqlite";
    let path = folder(&one).join(name);
    let writer = database(&path, "x");
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&commits));
    let writing = std::thread::spawn(move || {
        let mut number = 0;
        while !stopped.load(Ordering::Relaxed) {
            number += 1;
            // Both tables, or none: a copy in between would have one more row in one of them.
            writer
                .execute_batch(&format!(
                    "begin; insert into Cache values ('{number}'); insert into Other values ('{number}'); commit;"
                ))
                .unwrap();
            counter.store(number, Ordering::Relaxed);
        }
        number
    });
    let mut rows = 0;
    for round in 0..5 {
        while commits.load(Ordering::Relaxed) <= rows {
            std::thread::yield_now();
        }
        let saved = place.save(&one, &level(&one), None).await;
        assert_eq!((saved.outcome, saved.files), (FilesOutcome::Saved, 1), "{round}: {:?}", saved.notes);
        let restored = place.restore(&two, &level(&two)).await;
        assert_eq!((restored.hit, restored.files), (Hit::Exact, 1), "{round}: {:?}", restored.notes);
        let copy = Connection::open(folder(&two).join(name)).unwrap();
        let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        let count = |table: &str| -> i64 {
            copy.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!((check.as_str(), count("Cache")), ("ok", count("Other") + 1), "{round}");
        assert!(count("Other") > rows, "{round}");
        rows = count("Other");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writing.join().unwrap() >= rows);
}

#[tokio::test]
async fn a_database_in_the_way_is_merged_or_replaced_but_for_one_that_is_locked() {
    for journal in ["truncate", "wal"] {
        let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
        let (fetched, evaluated) = ("fetcher-cache-v4.sqlite", "eval-cache-v6/aa.sqlite");
        for name in [fetched, evaluated] {
            database(&folder(&one).join(name), "theirs")
                .execute_batch("create unique index one on Cache (text)")
                .unwrap();
        }
        place.save(&one, &level(&one), None).await;
        let texts = |name: &str| {
            let database = Connection::open(folder(&two).join(name)).unwrap();
            let mut all = database.prepare("select text from Cache order by text").unwrap();
            all.query_map([], |row| row.get(0)).unwrap().collect::<Result<Vec<String>, _>>().unwrap()
        };
        let open: Vec<_> = [fetched, evaluated]
            .map(|name| {
                let open = database(&folder(&two).join(name), "ours");
                open.execute_batch("create unique index one on Cache (text)").unwrap();
                open.pragma_update(None, "journal_mode", journal).unwrap();
                open.execute_batch("begin immediate; insert into Cache values ('new')").unwrap();
                open
            })
            .into();
        let restored = place.restore(&two, &level(&two)).await;
        assert_eq!((restored.files, codes(&restored.notes)), (0, vec![Code::FilesNotPlaced]), "{journal}");
        assert!(restored.notes[0].message.contains("is writing to it"), "{:?}", restored.notes);
        for open in &open {
            open.execute_batch("commit").unwrap();
        }
        if journal == "wal" {
            // As a program that was killed leaves it: the log holds what was written, and nobody holds a lock.
            let (copy, from) = (Machine::new(), folder(&two));
            for name in
                ["fetcher-cache-v4.sqlite", "fetcher-cache-v4.sqlite-wal", evaluated, "eval-cache-v6/aa.sqlite-wal"]
            {
                let to = folder(&copy).join(name);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(from.join(name), to).unwrap();
            }
            assert!(fs::metadata(folder(&copy).join("fetcher-cache-v4.sqlite-wal")).unwrap().len() > 0);
            let restored = place.restore(&copy, &level(&copy)).await;
            assert_eq!((restored.files, restored.notes.len()), (2, 0), "{:?}", restored.notes);
            let rows: i64 = Connection::open(folder(&copy).join(fetched))
                .unwrap()
                .query_row("select count(*) from Cache", [], |row| row.get(0))
                .unwrap();
            assert_eq!((rows, text_of(&folder(&copy).join(evaluated))), (3, "theirs".to_owned()));
        }
        drop(open);
        let restored = place.restore(&two, &level(&two)).await;
        assert_eq!((restored.files, restored.notes.len()), (2, 0), "{journal}: {:?}", restored.notes);
        assert_eq!(texts(fetched), ["new", "ours", "theirs"], "rows of fetched inputs are merged");
        assert_eq!(texts(evaluated), ["theirs"], "rows of evaluations count on each other");
        assert!(names(&folder(&two)).iter().all(|name| !name.contains("tmp") && !name.ends_with("-wal")));
    }
}

#[tokio::test]
async fn a_database_with_more_than_tables_is_not_placed() {
    let (place, one, two) = (Place::new(), Machine::new(), Machine::new());
    let name = "eval-cache-v6/aa.sqlite";
    let evil = "create trigger evil after insert on Cache begin delete from Other; end;";
    database(&folder(&one).join(name), "theirs").execute_batch(evil).unwrap();
    place.save(&one, &level(&one), None).await;
    let restored = place.restore(&two, &level(&two)).await;
    assert_eq!((restored.files, codes(&restored.notes)), (0, vec![Code::FilesNotPlaced]));
    assert!(!folder(&two).join(name).exists());
}

#[tokio::test]
async fn old_evaluations_are_dropped() {
    let (place, machine) = (Place::new(), Machine::new());
    fill(&machine);
    let age = |name: &str, accessed: Duration| {
        let old = SystemTime::now() - Duration::from_hours(30 * 24);
        let times = FileTimes::new().set_modified(old).set_accessed(SystemTime::now() - accessed);
        File::options().write(true).open(folder(&machine).join(name)).unwrap().set_times(times).unwrap();
    };
    age("eval-cache-v5/aa.sqlite", Duration::from_hours(20 * 24));
    age("eval-cache-v6/bb.sqlite", Duration::from_hours(1));
    age("fetcher-cache-v2.sqlite", Duration::from_hours(20 * 24));
    assert_eq!(place.save(&machine, &level(&machine), None).await.files, 6);
    let other = Machine::new();
    place.restore(&other, &level(&other)).await;
    assert!(!folder(&other).join("eval-cache-v5").exists());
    assert!(folder(&other).join("eval-cache-v6/bb.sqlite").exists(), "it was read lately");
    assert!(folder(&other).join("fetcher-cache-v2.sqlite").exists());
}

#[tokio::test]
async fn what_is_too_large_is_left_out_and_told() {
    let (place, machine) = (Place::new(), Machine::new());
    fill(&machine);
    machine.write(&[
        (".cache/nix/gitv3/large/HEAD", "ref: refs/heads/main"),
        (".cache/nix/gitv3/large/objects/00/903e2b9cad0d4452e42b75d052fc159dc3d4cf", &"x".repeat(100_000)),
    ]);
    let mut limited = level(&machine);
    limited.roots = limited.roots.with_limits(DEFAULT_MAX_AGE, 90_000);
    let saved = place.save(&machine, &limited, None).await;
    assert_eq!((saved.outcome, saved.files), (FilesOutcome::Saved, 7));
    assert_eq!(codes(&saved.notes), [Code::EvalCacheTooLarge]);
    assert!(
        saved.notes[0].message.starts_with("1 part of Nix's caches with 97.7 KiB is not kept"),
        "{:?}",
        saved.notes
    );
    limited.roots = limited.roots.with_limits(DEFAULT_MAX_AGE, 0);
    assert_eq!(place.save(&machine, &limited, None).await.outcome, FilesOutcome::Nothing);
    limited.roots = limited.roots.with_limits(DEFAULT_MAX_AGE, DEFAULT_MAX_BYTES);
    assert_eq!(place.save(&machine, &limited, None).await.files, 9);
}

#[tokio::test]
async fn a_broken_database_is_left_out_and_told() {
    let (place, machine) = (Place::new(), Machine::new());
    fill(&machine);
    fs::write(folder(&machine).join("eval-cache-v5/aa.sqlite"), "x".repeat(9000)).unwrap();
    let saved = place.save(&machine, &level(&machine), None).await;
    assert_eq!((saved.files, codes(&saved.notes)), (6, vec![Code::EvalCacheUnreadable]));
    assert!(saved.notes[0].message.contains("aa.sqlite"), "{}", saved.notes[0].message);
}

#[test]
fn the_folder_is_the_one_that_nix_uses() {
    let folder = |variables: &[(&str, &str)]| {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        nix_cache_dir(find).map(|path| path.display().to_string())
    };
    assert_eq!(folder(&[("HOME", "/h")]).as_deref(), Some("/h/.cache/nix"));
    assert_eq!(folder(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).as_deref(), Some("/x/nix"));
    assert_eq!(folder(&[("NIX_CACHE_HOME", "/n"), ("XDG_CACHE_HOME", "/x")]).as_deref(), Some("/n"));
    assert_eq!(folder(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")]).as_deref(), Some("/h/.cache/nix"));
    assert_eq!(folder(&[]), None);
}
