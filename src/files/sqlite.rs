//! Copies of `SQLite` databases that are consistent, whoever else has them open.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long a writer is waited for.
const PATIENCE: Duration = Duration::from_millis(100);
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
    let busy = rusqlite::ffi::Error { code: ErrorCode::DatabaseBusy, extended_code: rusqlite::ffi::SQLITE_BUSY };
    Err(rusqlite::Error::SqliteFailure(busy, Some("another program keeps writing to it".to_owned())))
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
