//! The rows of a Nix database, without the numbers that differ from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OpenFlags, Row};

use super::machine::TestStore;

/// Everything that a database says of its valid paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// By path: hash, registration time, deriver, size, ultimate, signatures, content address.
    pub paths: BTreeMap<String, PathRow>,
    /// Referrer and reference.
    pub references: BTreeSet<(String, String)>,
    /// Derivation, name of the output, path of the output.
    pub outputs: BTreeSet<(String, String, String)>,
}

impl Rows {
    /// The same after a restore: nothing counts as built there.
    pub(crate) fn restored(mut self) -> Self {
        for row in self.paths.values_mut() {
            row.ultimate = None;
        }
        self
    }
}

/// One row of `ValidPaths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathRow {
    pub hash: String,
    pub registration_time: i64,
    pub deriver: Option<String>,
    pub nar_size: Option<i64>,
    pub ultimate: Option<i64>,
    pub signatures: Option<BTreeSet<String>>,
    pub ca: Option<String>,
}

/// The rows of this store.
pub(crate) fn rows(store: &TestStore) -> Rows {
    let connection = open(store);
    let mut rows = Rows::default();
    let path = |row: &Row<'_>| {
        let signatures: Option<String> = row.get(6)?;
        let row_of = PathRow {
            hash: row.get(1)?,
            registration_time: row.get(2)?,
            deriver: row.get(3)?,
            nar_size: row.get(4)?,
            ultimate: row.get(5)?,
            signatures: signatures.map(|text| text.split_whitespace().map(str::to_owned).collect()),
            ca: row.get(7)?,
        };
        Ok((row.get(0)?, row_of))
    };
    let columns = "select path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca from ValidPaths";
    rows.paths.extend(all(&connection, columns, path));
    let references = "select a.path, b.path from Refs join ValidPaths a on a.id = referrer join ValidPaths b on b.id = \
                      reference";
    rows.references.extend(all(&connection, references, |row| Ok((row.get(0)?, row.get(1)?))));
    let outputs = "select v.path, d.id, d.path from DerivationOutputs d join ValidPaths v on v.id = d.drv";
    rows.outputs.extend(all(&connection, outputs, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))));
    rows
}

/// How many references lead from or to no valid path.
pub(crate) fn dangling(store: &TestStore) -> i64 {
    let query = "select count(*) from Refs where referrer not in (select id from ValidPaths) or reference not in \
                 (select id from ValidPaths)";
    open(store).query_row(query, [], |row| row.get(0)).unwrap()
}

/// The database, for reading.
pub(crate) fn open(store: &TestStore) -> Connection {
    Connection::open_with_flags(store.dirs().db_path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn all<T>(connection: &Connection, query: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    connection.prepare(query).unwrap().query_map([], read).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}
