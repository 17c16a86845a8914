//! Removes paths from the database.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior};

use super::error::{list, show};
use super::{STORE_DIR, StoreDirs, StoreError, StorePath, database, locks, realisation};

/// Makes `paths` invalid, all or none, in one transaction, and returns those that were valid. Their files stay.
///
/// # Errors
/// When a path that stays valid refers to one of them, or when the database cannot be written within a minute. Nothing is changed
/// then.
pub fn unregister(dirs: &StoreDirs, paths: &[StorePath]) -> Result<Vec<StorePath>, StoreError> {
    let _lock = locks::big_lock(dirs)?;
    let mut db = database::open_for_writing(dirs)?;
    let failed = StoreError::database("write", dirs);
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
    let ids = ids(&transaction, paths).map_err(&failed)?;
    let referrers = other_referrers(&transaction, &ids).map_err(&failed)?;
    if !referrers.is_empty() {
        return Err(StoreError::StillReferred { place: show(&dirs.db_path()), list: list(&referrers) });
    }
    delete(&transaction, &ids).map_err(&failed)?;
    transaction.commit().map_err(&failed)?;
    Ok(ids.into_values().cloned().collect())
}

fn ids<'a>(transaction: &Transaction<'_>, paths: &'a [StorePath]) -> rusqlite::Result<BTreeMap<i64, &'a StorePath>> {
    let mut statement = transaction.prepare("select id from ValidPaths where path = ?1")?;
    let mut ids = BTreeMap::new();
    for path in paths {
        if let Some(id) = statement.query_row([path.full(STORE_DIR)], |row| row.get(0)).optional()? {
            ids.insert(id, path);
        }
    }
    Ok(ids)
}

/// Valid paths outside `ids` that refer to one of them.
fn other_referrers(
    transaction: &Transaction<'_>,
    ids: &BTreeMap<i64, &StorePath>,
) -> rusqlite::Result<BTreeSet<StorePath>> {
    let mut statement = transaction
        .prepare("select referrer, path from Refs join ValidPaths on referrer = ValidPaths.id where reference = ?1")?;
    let mut found = BTreeSet::new();
    for id in ids.keys() {
        let mut rows = statement.query([id])?;
        while let Some(row) = rows.next()? {
            if !ids.contains_key(&row.get(0)?) {
                let path = row.get::<_, String>(1)?;
                found.insert(StorePath::from_full(&path, STORE_DIR).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
                })?);
            }
        }
    }
    Ok(found)
}

/// References are deleted first: the schema does not allow deleting a path while a reference points to it, whatever the order of
/// the paths. Rows of outputs are deleted with their derivation, and realisations with their path, except for those that others
/// depend on.
fn delete(transaction: &Transaction<'_>, ids: &BTreeMap<i64, &StorePath>) -> rusqlite::Result<()> {
    if realisation::has_tables(transaction)? {
        let mut statement = transaction.prepare(
            "delete from RealisationsRefs where realisationReference in (select id from Realisations where outputPath = ?1)",
        )?;
        for id in ids.keys() {
            statement.execute([id])?;
        }
    }
    for sql in ["delete from Refs where referrer = ?1", "delete from ValidPaths where id = ?1"] {
        let mut statement = transaction.prepare(sql)?;
        for id in ids.keys() {
            statement.execute([id])?;
        }
    }
    Ok(())
}
