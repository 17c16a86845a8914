//! Makes consistent copies of `SQLite` databases while other programs use them, and restores them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Longest wait for a writer.
const PATIENCE: Duration = Duration::from_millis(100);
/// Longest wait for a lock at a restore.
const LOCKED: Duration = Duration::from_secs(2);
/// Number of attempts.
const TRIES: u32 = 50;

/// Copies the database `from`, including its journal, to the new file `to` as a consistent snapshot, and returns the size of the
/// copy in bytes.
///
/// # Errors
/// When `from` is not a database, cannot be read, or is written to continuously for seconds.
pub(super) fn copy(from: &Path, to: &Path) -> rusqlite::Result<u64> {
    // Reading the journal of a killed program requires write access.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(from, flags | OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    source.busy_timeout(PATIENCE)?;
    // An empty file counts as a database; an invalid header is detected only here.
    source.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    let mut target = Connection::open(to)?;
    target.pragma_update(None, "synchronous", "off")?;
    run(&Backup::new(&source, &mut target)?)?;
    drop(target);
    fs::metadata(to).map(|metadata| metadata.len()).map_err(|error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
        rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
    })
}

/// All pages in one step: in several, a busy writer would make it start again forever.
fn run(backup: &Backup<'_, '_>) -> rusqlite::Result<()> {
    for _ in 0..TRIES {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ => std::thread::sleep(PATIENCE),
        }
    }
    Err(busy("another program keeps writing to it"))
}

/// What to do with an existing database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Replace it with the restored one.
    Replace,
    /// Keep it: it has the rows of both.
    Merged,
}

/// Prepares `old` for the restored database `new`: journals of killed programs are applied first. A database of fetched inputs keeps
/// its rows and gets the missing ones; one of evaluations, whose rows depend on each other, is replaced. Nothing is done while
/// another program holds a lock, which is the only sign of use.
///
/// # Errors
/// When a lock is held for too long, or `new` is not a database with only tables.
pub(super) fn make_way(old: &Path, new: &Path) -> rusqlite::Result<Way> {
    check(new)?;
    if old.symlink_metadata().is_err() {
        remove_journals(old);
        return Ok(Way::Replace);
    }
    let done = join(old, new);
    match &done {
        // Skipping a file that is not a readable database loses nothing.
        Err(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)) =>
        {
            remove_journals(old);
            Ok(Way::Replace)
        }
        _ => done,
    }
}

fn join(old: &Path, new: &Path) -> rusqlite::Result<Way> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut database = Connection::open_with_flags(old, flags)?;
    database.busy_timeout(LOCKED)?;
    database.pragma_update(None, "trusted_schema", false)?;
    // A writer holds a lock that prevents this. It also applies the journal of a killed program.
    database.execute_batch("begin immediate; commit;")?;
    let name = old.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("fetcher-cache-") {
        let from = new.to_str().ok_or(rusqlite::Error::InvalidPath(new.to_owned()))?;
        database.execute("attach ? as restored", [from])?;
        if tables(&database, "main")? == tables(&database, "restored")? {
            let change = database.transaction()?;
            for (table, _) in tables(&change, "main")? {
                let table = table.replace('"', "\"\"");
                change.execute_batch(&format!(
                    "insert or ignore into main.\"{table}\" select * from restored.\"{table}\""
                ))?;
            }
            change.commit()?;
            return Ok(Way::Merged);
        }
        database.execute_batch("detach restored")?;
    }
    // This requires exclusive use: it ends the write-ahead log, which would otherwise be applied to the new file.
    let mode: String = database.query_row("pragma journal_mode = delete", [], |row| row.get(0))?;
    if mode != "delete" {
        return Err(busy("another program has it open"));
    }
    database.execute_batch("begin exclusive; commit;")?;
    Ok(Way::Replace)
}

/// The tables and their definitions.
fn tables(database: &Connection, schema: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let text = format!(
        "select name, sql from {schema}.sqlite_master where type = 'table' and name not like 'sqlite_%' order by name"
    );
    let mut statement = database.prepare(&text)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Refuses a restored database with anything besides tables and their indexes, such as triggers, which Nix does not use.
fn check(new: &Path) -> rusqlite::Result<()> {
    let database =
        Connection::open_with_flags(new, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let odd: i64 =
        database.query_row("select count(*) from sqlite_master where type not in ('table', 'index')", [], |row| {
            row.get(0)
        })?;
    if odd == 0 {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some("it contains more than tables".to_owned())))
}

fn remove_journals(of: &Path) {
    for end in ["-wal", "-shm", "-journal"] {
        let mut name = of.as_os_str().to_owned();
        name.push(end);
        // Most often there is none.
        let _ = fs::remove_file(name);
    }
}

fn busy(why: &str) -> rusqlite::Error {
    let busy = rusqlite::ffi::Error { code: ErrorCode::DatabaseBusy, extended_code: rusqlite::ffi::SQLITE_BUSY };
    rusqlite::Error::SqliteFailure(busy, Some(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(path: &Path, journal: &str) -> Connection {
        let database = Connection::open(path).unwrap();
        database.pragma_update(None, "journal_mode", journal).unwrap();
        database.execute_batch("create table t (x); insert into t values (1), (2);").unwrap();
        database
    }

    fn count(path: &Path) -> i64 {
        Connection::open(path).unwrap().query_row("select count(*) from t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_copy_has_what_is_only_in_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.sqlite"), folder.path().join("b"));
        let _open = filled(&from, "wal");
        assert!(fs::metadata(folder.path().join("a.sqlite-wal")).unwrap().len() > 0);
        assert_eq!(copy(&from, &to).unwrap(), fs::metadata(&to).unwrap().len());
        let only = tempfile::tempdir().unwrap();
        fs::copy(&to, only.path().join("c")).unwrap();
        assert_eq!(count(&only.path().join("c")), 2);
    }

    #[test]
    fn copies_of_the_same_content_are_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for journal in ["truncate", "wal"] {
            let path = |name: &str| folder.path().join(format!("{journal}-{name}"));
            drop(filled(&path("a"), journal));
            copy(&path("a"), &path("b")).unwrap();
            copy(&path("a"), &path("c")).unwrap();
            // As it is after a restore and a reader.
            assert_eq!(count(&path("b")), 2);
            copy(&path("b"), &path("d")).unwrap();
            let bytes = |name: &str| fs::read(path(name)).unwrap();
            assert_eq!(bytes("b"), bytes("c"));
            assert_eq!(bytes("b"), bytes("d"), "{journal}");
        }
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.sqlite"), folder.path().join("b"));
        fs::write(&from, "x".repeat(5000)).unwrap();
        assert!(copy(&from, &to).is_err());
        assert!(copy(&folder.path().join("none.sqlite"), &to).is_err());
        assert!(!folder.path().join("none.sqlite").exists());
    }

    #[test]
    fn a_writer_in_a_transaction_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.sqlite"), folder.path().join("b"));
        let writer = filled(&from, "wal");
        writer.execute_batch("begin immediate; insert into t values (3);").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(count(&to), 2);
    }
}
