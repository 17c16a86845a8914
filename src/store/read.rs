//! Reads all valid paths.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Row};

use super::{NarHash, PathInfo, Paths, STORE_DIR, SharedMap, SharedSet, StoreDirs, StoreError, StorePath, database};

/// Reads every valid path with its record, in one consistent view even while others write.
///
/// If a row is invalid (such as a malformed name or hash), its path and everything that refers to it are left out: the result is
/// always closed under references. A warning says how many were left out.
///
/// # Errors
/// When there is no database, when its schema is not supported, or when it cannot be read.
pub fn read_all(dirs: &StoreDirs) -> Result<Paths, StoreError> {
    database::reading(dirs, read)
}

/// Returns whether one path is currently valid.
///
/// # Errors
/// See [`read_all`].
pub(crate) fn is_valid(dirs: &StoreDirs, path: &StorePath) -> Result<bool, StoreError> {
    let full = path.full(dirs.store_dir());
    database::reading(dirs, |db| db.prepare("select 1 from ValidPaths where path = ?")?.exists([&full]))
}

/// The valid rows of the table `ValidPaths`, by number.
#[derive(Default)]
struct Rows {
    infos: Vec<PathInfo>,
    index: HashMap<i64, usize>,
    unknown: HashSet<i64>,
}

fn read(db: &Connection) -> rusqlite::Result<Paths> {
    let mut rows = read_paths(db)?;
    read_references(db, &mut rows)?;
    read_outputs(db, &mut rows)?;
    Ok(understood(rows))
}

fn read_paths(db: &Connection) -> rusqlite::Result<Rows> {
    let mut statement = db.prepare(
        "select id, path, hash, narSize, deriver, sigs, ca, registrationTime, ultimate from ValidPaths order by id",
    )?;
    let mut query = statement.query([])?;
    let mut rows = Rows::default();
    while let Some(row) = query.next()? {
        let id = row.get(0)?;
        if let Some(info) = path_info(row) {
            rows.index.insert(id, rows.infos.len());
            rows.infos.push(info);
        } else {
            tracing::debug!(id, "a row of the Nix database is invalid");
            rows.unknown.insert(id);
        }
    }
    Ok(rows)
}

/// Returns None if a column contains something that Nix does not write.
fn path_info(row: &Row<'_>) -> Option<PathInfo> {
    let text = |column| row.get_ref(column).ok()?.as_str_or_null().ok();
    Some(PathInfo {
        path: StorePath::from_full(text(1)??, STORE_DIR).ok()?,
        nar_hash: NarHash::from_database(text(2)??)?,
        // Nix writes null for a size of zero.
        nar_size: row.get::<_, Option<i64>>(3).ok()?.unwrap_or(0).try_into().ok()?,
        references: SharedSet::new(),
        deriver: match text(4)? {
            None | Some("") => None,
            Some(deriver) => Some(StorePath::from_full(deriver, STORE_DIR).ok()?),
        },
        signatures: text(5)?.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect(),
        ca: text(6)?.filter(|ca| !ca.is_empty()).map(str::to_owned),
        registration_time: row.get(7).ok()?,
        ultimate: row.get::<_, Option<bool>>(8).ok()?.unwrap_or(false),
        outputs: SharedMap::new(),
    })
}

fn read_references(db: &Connection, rows: &mut Rows) -> rusqlite::Result<()> {
    let mut statement = db.prepare("select referrer, reference from Refs order by referrer")?;
    let mut query = statement.query([])?;
    // The references of one path are consecutive.
    let (mut of, mut found): (Option<usize>, Vec<StorePath>) = (None, Vec::new());
    while let Some(row) = query.next()? {
        let (referrer, reference) = (row.get(0)?, row.get(1)?);
        let Some(&referrer_index) = rows.index.get(&referrer) else { continue };
        if let Some(before) = of.filter(|before| *before != referrer_index) {
            rows.infos[before].references = found.drain(..).collect();
        }
        of = Some(referrer_index);
        if let Some(&reference_index) = rows.index.get(&reference) {
            found.push(rows.infos[reference_index].path.clone());
        } else {
            rows.unknown.insert(referrer);
        }
    }
    if let Some(last) = of {
        rows.infos[last].references = found.into_iter().collect();
    }
    Ok(())
}

fn read_outputs(db: &Connection, rows: &mut Rows) -> rusqlite::Result<()> {
    let mut statement = db.prepare("select drv, id, path from DerivationOutputs")?;
    let mut query = statement.query([])?;
    while let Some(row) = query.next()? {
        let derivation = row.get(0)?;
        let Some(&index) = rows.index.get(&derivation) else { continue };
        let name = row.get::<_, String>(1).ok();
        let path = row.get::<_, String>(2).ok().and_then(|path| StorePath::from_full(&path, STORE_DIR).ok());
        if let (Some(name), Some(path)) = (name, path) {
            rows.infos[index].outputs.insert(name, path);
        } else {
            rows.unknown.insert(derivation);
        }
    }
    Ok(())
}

/// Removes paths with invalid rows, and those that need one of them.
fn understood(rows: Rows) -> Paths {
    let Rows { infos, index, unknown } = rows;
    let all = infos.len() + unknown.iter().filter(|id| !index.contains_key(id)).count();
    let left_out: HashSet<usize> = unknown.iter().filter_map(|id| index.get(id).copied()).collect();
    let kept = infos.into_iter().enumerate().filter(|(number, _)| !left_out.contains(number));
    let mut paths: Paths = kept.map(|(_, info)| (info.path.clone(), info)).collect();
    if !unknown.is_empty() {
        let whole = paths.closed_subset(&|_| false);
        paths.retain(|path, _| whole.contains(path));
        tracing::warn!(
            count = all - paths.len(),
            "Left out paths of the Nix store because their rows in the database, or those of their references, are \
            invalid. `nix-store --verify` may report more."
        );
    }
    paths
}
