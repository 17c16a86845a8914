//! Realisations: the paths that builds of content-addressed derivations produced.
//!
//! Nix has two tables for them (`ca-specific-schema.sql`), which it creates when its experimental feature `ca-derivations` is
//! first used. If they are missing, nothing is read or written.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::{STORE_DIR, StoreDirs, StoreError, StorePath, database, is_signature, locks};
use crate::base::digest::is_hex;

/// An output of a derivation, by the hash of its inputs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DrvOutput {
    /// `sha256:` and 64 hexadecimal digits (`hashDerivationModulo` of Nix).
    pub drv: String,
    /// The name of the output, such as `out`.
    pub output: String,
}

impl DrvOutput {
    /// Returns whether it has the form that Nix uses.
    fn is_sound(&self) -> bool {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
        self.drv.strip_prefix("sha256:").is_some_and(|hash| is_hex(hash, 64))
            && (1..=211).contains(&self.output.len())
            && self.output.chars().all(is_name)
    }
}

/// The path that such an output was built to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Realisation {
    /// The output.
    pub id: DrvOutput,
    pub path: StorePath,
    /// Signatures of this record.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub signatures: BTreeSet<String>,
    /// The outputs that it depends on. Nix 2.34 writes none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub dependencies: BTreeSet<DrvOutput>,
}

impl Realisation {
    /// Returns whether Nix could have written it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.id.is_sound()
            && self.dependencies.iter().all(DrvOutput::is_sound)
            && self.signatures.iter().all(|signature| is_signature(signature))
    }
}

/// Reads all realisations of valid paths. Malformed ones are left out.
///
/// # Errors
/// When the database cannot be read.
pub fn read_realisations(dirs: &StoreDirs) -> Result<Vec<Realisation>, StoreError> {
    let all = database::reading(dirs, |db| if has_tables(db)? { read(db) } else { Ok(Vec::new()) })?;
    Ok(all.into_iter().filter(Realisation::is_sound).collect())
}

pub(super) fn has_tables(db: &Connection) -> rusqlite::Result<bool> {
    let query =
        "select count(*) from sqlite_master where type = 'table' and name in ('Realisations', 'RealisationsRefs')";
    db.query_row(query, [], |row| row.get::<_, u32>(0)).map(|count| count == 2)
}

fn read(db: &Connection) -> rusqlite::Result<Vec<Realisation>> {
    let mut all: BTreeMap<i64, Realisation> = BTreeMap::new();
    let mut statement = db.prepare(
        "select r.id, r.drvPath, r.outputName, v.path, r.signatures
         from Realisations r join ValidPaths v on v.id = r.outputPath",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(path) = StorePath::from_full(&row.get::<_, String>(3)?, STORE_DIR) else { continue };
        let signatures = row.get::<_, Option<String>>(4)?.unwrap_or_default();
        let id = DrvOutput { drv: row.get(1)?, output: row.get(2)? };
        let signatures = signatures.split_ascii_whitespace().map(str::to_owned).collect();
        all.insert(row.get(0)?, Realisation { id, path, signatures, dependencies: BTreeSet::new() });
    }
    let mut statement = db.prepare(
        "select referrer, realisationReference from RealisationsRefs where realisationReference is not null",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(dependency) = all.get(&row.get(1)?).map(|found| found.id.clone()) else { continue };
        if let Some(realisation) = all.get_mut(&row.get(0)?) {
            realisation.dependencies.insert(dependency);
        }
    }
    Ok(all.into_values().collect())
}

/// Writes those of `realisations` whose path is valid and whose output has none here. Returns how many were written; zero if Nix
/// has not created the tables.
///
/// # Errors
/// When the database cannot be written.
pub(crate) fn add_realisations(dirs: &StoreDirs, realisations: &[Realisation]) -> Result<u64, StoreError> {
    let sound: Vec<&Realisation> = realisations.iter().filter(|realisation| realisation.is_sound()).collect();
    if sound.is_empty() {
        return Ok(0);
    }
    let _lock = locks::big_lock(dirs)?;
    let mut db = database::open_for_writing(dirs)?;
    let failed = StoreError::database("write", dirs);
    if !has_tables(&db).map_err(&failed)? {
        return Ok(0);
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
    let written = write(&transaction, &sound).map_err(&failed)?;
    transaction.commit().map_err(&failed)?;
    Ok(written)
}

fn write(db: &Connection, realisations: &[&Realisation]) -> rusqlite::Result<u64> {
    let mut of_path = db.prepare("select id from ValidPaths where path = ?1")?;
    let mut of_output = db.prepare("select id from Realisations where drvPath = ?1 and outputName = ?2 limit 1")?;
    let mut add =
        db.prepare("insert into Realisations (drvPath, outputName, outputPath, signatures) values (?1, ?2, ?3, ?4)")?;
    let mut find = |id: &DrvOutput| of_output.query_row([&id.drv, &id.output], |row| row.get::<_, i64>(0)).optional();
    let mut new = Vec::new();
    for realisation in realisations {
        let path = of_path.query_row([realisation.path.full(STORE_DIR)], |row| row.get::<_, i64>(0)).optional()?;
        let Some(path) = path else { continue };
        if find(&realisation.id)?.is_none() {
            let signatures = realisation.signatures.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let id = &realisation.id;
            new.push((add.insert(params![id.drv, id.output, path, signatures])?, realisation));
        }
    }
    let mut refer = db.prepare("insert into RealisationsRefs (referrer, realisationReference) values (?1, ?2)")?;
    for (row, realisation) in &new {
        for dependency in &realisation.dependencies {
            if let Some(found) = find(dependency)? {
                refer.execute([*row, found])?;
            }
        }
    }
    Ok(new.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realisation(drv: &str, output: &str) -> Realisation {
        Realisation {
            id: DrvOutput { drv: drv.to_owned(), output: output.to_owned() },
            path: format!("{}-x", "1".repeat(32)).parse().unwrap(),
            signatures: BTreeSet::new(),
            dependencies: BTreeSet::new(),
        }
    }

    #[test]
    fn only_what_nix_could_have_written_is_sound() {
        let hash = format!("sha256:{}", "0a".repeat(32));
        assert!(realisation(&hash, "out").is_sound());
        for (drv, output) in
            [(&*hash, ""), (&hash, "a b"), (&hash[..70], "out"), (&hash.replace('a', "A"), "out"), ("", "out")]
        {
            assert!(!realisation(drv, output).is_sound(), "{drv} {output}");
        }
        let mut forged = realisation(&hash, "out");
        forged.signatures.insert("x".into());
        assert!(!forged.is_sound());
        let mut forged = realisation(&hash, "out");
        forged.dependencies.insert(DrvOutput { drv: "x".into(), output: "out".into() });
        assert!(!forged.is_sound());
    }
}
