//! Opens the Nix database: checks its schema, and reads it with or without locks.
//!
//! The layout is that of `src/libstore/schema.sql` in Nix, version 10, in use since Nix 2.0.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::show;
use super::{StoreDirs, StoreError, locks};

/// The version of the database layout that we read and write.
pub(super) const SUPPORTED_SCHEMA: u32 = 10;

/// The tables and columns that we use.
const USED: [(&str, &[&str]); 3] = [
    ("ValidPaths", &["id", "path", "hash", "registrationTime", "deriver", "narSize", "ultimate", "sigs", "ca"]),
    ("Refs", &["referrer", "reference"]),
    ("DerivationOutputs", &["drv", "id", "path"]),
];

/// How often an unlocked read is retried while another process writes.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the database for writing, with the settings that Nix uses for its own connections, and more memory. The journal mode of the file is not
/// changed.
pub(super) fn open_for_writing(dirs: &StoreDirs) -> Result<Connection, StoreError> {
    check_version(dirs)?;
    let failed = StoreError::database("open", dirs);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(dirs.db_path(), flags).map_err(&failed)?;
    db.busy_timeout(locks::PATIENCE).map_err(&failed)?;
    // With the 2 MiB of SQLite's default, a large batch writes the same pages to the log again and again. And with its 1,000 pages of
    // log, it writes them to the database after each batch; Nix has the same limit as this.
    db.execute_batch(
        "pragma foreign_keys = on; pragma synchronous = normal; pragma cache_size = -16384; pragma wal_autocheckpoint = 40000;",
    )
    .map_err(&failed)?;
    check_tables(&db, dirs)?;
    Ok(db)
}

/// Runs `read` in one read transaction on the database.
///
/// A database with a write-ahead log can only be opened by users who may create the files beside it, unless these exist. For
/// other users, the database is read without locks. This is correct as long as the log is empty and no process writes; both are
/// checked before and after.
pub(super) fn reading<T>(dirs: &StoreDirs, read: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
    check_version(dirs)?;
    match read_locked(dirs, &read) {
        Err(StoreError::Database { source, .. }) if needs_more_rights(&source) => read_unlocked(dirs, &read),
        result => result,
    }
}

fn read_locked<T>(dirs: &StoreDirs, read: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(dirs.db_path(), flags).map_err(StoreError::database("open", dirs))?;
    read_once(&db, dirs, read)
}

/// Returns whether `SQLite` failed because this user cannot create or change the files beside the database.
fn needs_more_rights(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

fn read_once<T>(
    db: &Connection,
    dirs: &StoreDirs,
    read: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    let failed = StoreError::database("read", dirs);
    db.busy_timeout(locks::PATIENCE).map_err(&failed)?;
    let transaction = db.unchecked_transaction().map_err(&failed)?;
    check_tables(&transaction, dirs)?;
    read(&transaction).map_err(&failed)
}

/// Reads the database file as immutable and uses the result only if it did not change meanwhile.
fn read_unlocked<T>(dirs: &StoreDirs, read: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        let Some(before) = settled(dirs)? else { continue };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let db = Connection::open_with_flags(immutable_uri(&dirs.db_path()), flags)
            .map_err(StoreError::database("open", dirs))?;
        let result = read_once(&db, dirs, &read);
        // A concurrent change can cause errors as well as wrong answers, so neither counts then.
        if settled(dirs)?.is_some_and(|after| after == before) {
            return result;
        }
    }
    Err(StoreError::Unsettled { place: show(&dirs.db_path()) })
}

/// Returns the size and time of the database file if it has all of the content, that is, log and journal are empty. Nix leaves
/// empty ones behind.
fn settled(dirs: &StoreDirs) -> Result<Option<(u64, SystemTime)>, StoreError> {
    let database = dirs.db_path();
    for suffix in ["-wal", "-journal"] {
        let mut beside = database.clone().into_os_string();
        beside.push(suffix);
        let beside = PathBuf::from(beside);
        match beside.metadata() {
            Ok(metadata) if metadata.len() > 0 => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("look at", &beside, error)),
        }
    }
    let looked = database.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    looked.map(Some).map_err(|error| StoreError::io("look at", &database, error))
}

/// Returns the address of a database that `SQLite` treats as immutable (<https://www.sqlite.org/uri.html>).
fn immutable_uri(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    uri + "?immutable=1"
}

/// Nix keeps the version of the layout in a file beside the database.
fn check_version(dirs: &StoreDirs) -> Result<(), StoreError> {
    let file = dirs.state_dir().join("db/schema");
    let text = match crate::base::bounds::read_text(&file, crate::base::bounds::MAX_TEXT) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StoreError::no_store(dirs)),
        Err(error) => return Err(StoreError::io("read", &file, error)),
    };
    if text.trim().parse() == Ok(SUPPORTED_SCHEMA) {
        return Ok(());
    }
    Err(wrong_schema(dirs, format!("schema {:?}", text.trim())))
}

fn check_tables(db: &Connection, dirs: &StoreDirs) -> Result<(), StoreError> {
    let failed = StoreError::database("read", dirs);
    let mut statement = db.prepare_cached("select name from pragma_table_info(?1)").map_err(&failed)?;
    for (table, columns) in USED {
        let there = statement
            .query_map([table], |row| row.get::<_, String>(0))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(&failed)?;
        if let Some(missing) = columns.iter().find(|column| !there.iter().any(|name| name == *column)) {
            return Err(wrong_schema(dirs, format!("a table {table} without the column {missing}")));
        }
    }
    Ok(())
}

fn wrong_schema(dirs: &StoreDirs, found: String) -> StoreError {
    StoreError::Schema {
        place: show(&dirs.db_path()),
        found,
        supported: format!("schema {SUPPORTED_SCHEMA} (Nix 2.x)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_value() -> (tempfile::TempDir, StoreDirs) {
        let dir = tempfile::tempdir().unwrap();
        // A name with characters that need escaping in an address.
        let dirs = StoreDirs::new(Some(&dir.path().join("a?b#c%41 d")));
        std::fs::create_dir_all(dirs.state_dir().join("db")).unwrap();
        std::fs::write(dirs.state_dir().join("db/schema"), "10").unwrap();
        let db = Connection::open(dirs.db_path()).unwrap();
        db.execute_batch(
            "pragma journal_mode = wal;
             create table ValidPaths (id, path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca);
             create table Refs (referrer, reference);
             create table DerivationOutputs (drv, id, path);
             insert into Refs values (1, 2);",
        )
        .unwrap();
        (dir, dirs)
    }

    fn count(db: &Connection) -> rusqlite::Result<i64> {
        db.query_row("select count(*) from Refs", [], |row| row.get(0))
    }

    #[test]
    fn an_unlocked_read_sees_a_settled_database() {
        let (_dir, dirs) = with_value();
        assert_eq!(read_unlocked(&dirs, count).unwrap(), 1);
    }

    #[test]
    fn an_unlocked_read_refuses_a_log_with_content() {
        let (_dir, dirs) = with_value();
        let writer = Connection::open(dirs.db_path()).unwrap();
        writer.execute("insert into Refs values (1, 3)", []).unwrap();
        let error = read_unlocked(&dirs, count).unwrap_err();
        assert!(matches!(error, StoreError::Unsettled { .. }), "{error}");
        drop(writer);
        assert_eq!(read_unlocked(&dirs, count).unwrap(), 2);
    }

    #[test]
    fn an_unlocked_read_starts_again_when_the_database_changes_under_it() {
        let (_dir, dirs) = with_value();
        let runs = std::cell::Cell::new(0);
        let seen = read_unlocked(&dirs, |db| {
            let seen = count(db);
            if runs.replace(runs.get() + 1) == 0 {
                Connection::open(dirs.db_path())?.execute("insert into Refs values (1, 3)", [])?;
            }
            seen
        });
        assert_eq!((seen.unwrap(), runs.get()), (2, 2));
    }
}
