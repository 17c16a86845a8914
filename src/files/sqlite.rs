//! Copies of `SQLite` databases that are consistent, whoever else has them open, and their way back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long a writer is waited for.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a lock is waited for at a restore.
const LOCKED: Duration = Duration::from_secs(2);
/// How often.
const TRIES: u32 = 50;

/// Copies the database `from` to the new file `to` as it is at one moment, with what its journal holds, and gives the size of
/// the copy in bytes.
///
/// # Errors
/// When `from` is no database, cannot be read, or is being written to for seconds on end.
pub(super) fn copy(from: &Path, to: &Path) -> rusqlite::Result<u64> {
    // Reading what a program that was killed left in a journal asks for the right to write.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(from, flags | OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    source.busy_timeout(PATIENCE)?;
    // A file without any content counts as a database, but a header that is none is found only now.
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

/// All pages in one step: in several, a busy writer would make it start anew for ever.
fn run(backup: &Backup<'_, '_>) -> rusqlite::Result<()> {
    for _ in 0..TRIES {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ => std::thread::sleep(PATIENCE),
        }
    }
    Err(busy("another program keeps writing to it"))
}

/// What is to be done with a database that is in the way of a restored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Put the restored one in its place.
    Replace,
    /// Nothing: it has the rows of both.
    Merged,
}

/// Makes way for the restored database `new` at `old`: what a program that was killed left in journals is brought in first. A
/// database of fetched inputs keeps its own rows and gets those that it lacks; one of evaluations, whose rows count on each
/// other, is replaced. Nothing is done while another program holds a lock: only that is a sign of use.
///
/// # Errors
/// When a lock is held for a while, or `new` is no database with tables alone.
pub(super) fn make_way(old: &Path, new: &Path) -> rusqlite::Result<Way> {
    check(new)?;
    if old.symlink_metadata().is_err() {
        remove_journals(old);
        return Ok(Way::Replace);
    }
    let done = join(old, new);
    match &done {
        // What cannot be read as a database is no loss.
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
    // Whoever writes holds a lock against this. It also brings in the journal of a program that was killed.
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
    // Only who is alone with a database can do this: it ends the write-ahead log, which would be read into the new file.
    let mode: String = database.query_row("pragma journal_mode = delete", [], |row| row.get(0))?;
    if mode != "delete" {
        return Err(busy("another program has it open"));
    }
    database.execute_batch("begin exclusive; commit;")?;
    Ok(Way::Replace)
}

/// Tables and how they are made.
fn tables(database: &Connection, schema: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let text = format!(
        "select name, sql from {schema}.sqlite_master where type = 'table' and name not like 'sqlite_%' order by name"
    );
    let mut statement = database.prepare(&text)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Refuses a restored database with more than tables and their indexes in it, such as triggers: Nix makes none.
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
    Err(rusqlite::Error::SqliteFailure(code, Some("it holds more than tables".to_owned())))
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
