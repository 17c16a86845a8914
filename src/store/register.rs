//! Registers paths in the database, which makes them valid.
//!
//! Writes the same rows as `LocalStore::registerValidPaths` of Nix, under the same conditions. Realisations of content-addressed
//! derivations have separate tables: see [`super::add_realisations`].

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::error::{list, show};
use super::{PathInfo, Present, STORE_DIR, StoreDirs, StoreError, StoreLock, StorePath, database, locks};
use crate::base::quick::QuickMap;

/// The result of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Paths that this batch made valid.
    pub new: Vec<StorePath>,
    /// Paths that were valid before. Their rows are unchanged.
    pub already: Vec<StorePath>,
}

/// Makes `infos` valid, like [`Registration::add`].
///
/// # Errors
/// See [`Registration::open`] and [`Registration::add`].
pub fn register<I: Borrow<PathInfo>>(dirs: &StoreDirs, infos: &[I]) -> Result<Registered, StoreError> {
    Registration::open(dirs, infos.len())?.add(infos)
}

/// The database, opened for several batches. When its last user closes it, everything is synced to the disk, which is slow while
/// much else is being written: doing it once is enough.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    dirs: &'a StoreDirs,
    // Closed before the lock is released.
    db: Connection,
    _lock: Option<StoreLock>,
    /// What has files; only where this is alone, so that it stays true.
    present: Option<Present>,
}

impl<'a> Registration<'a> {
    /// Opens the database of the store to register about `count` paths, which have their files: alone if nobody else has it open.
    ///
    /// # Errors
    /// When it cannot be opened for writing, or its schema is not supported.
    pub(crate) fn open(dirs: &'a StoreDirs, count: usize) -> Result<Self, StoreError> {
        let alone = locks::big_lock_alone(dirs);
        let present = alone.as_ref().map(|_| Present::of(dirs, count));
        let lock = if alone.is_some() { alone } else { locks::big_lock(dirs)? };
        Ok(Self { dirs, db: database::open_for_writing(dirs)?, _lock: lock, present })
    }

    /// Which paths have files, where no other process can have the database open until this is dropped, so that none builds a path
    /// meanwhile.
    #[must_use]
    pub(crate) fn alone(&self) -> Option<&Present> {
        self.present.as_ref()
    }

    /// Makes `infos` valid, all or none, in one transaction, with all their fields. The order does not matter. Hold
    /// [`gc_lock`](super::gc_lock) from before their files appear until this returns.
    ///
    /// The caller guarantees that the files match the NAR hash, and therefore that `ca` matches the path.
    ///
    /// # Errors
    /// When a new path has no files, refers to a path that is neither valid nor in the batch, is part of a cycle of references, or
    /// has a value that the database cannot represent; or when the database cannot be written within a minute. Nothing is written
    /// then.
    pub(crate) fn add<I: Borrow<PathInfo>>(&mut self, infos: &[I]) -> Result<Registered, StoreError> {
        let failed = StoreError::database("write", self.dirs);
        // Immediate, so that paths that are valid now stay valid until we have written.
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        let batch: BTreeMap<&StorePath, &PathInfo> =
            infos.iter().map(Borrow::borrow).map(|info| (&info.path, info)).collect();
        let valid = valid_ids(&transaction, &batch).map_err(&failed)?;
        let (already, new): (Vec<_>, Vec<_>) = batch.into_values().partition(|info| valid.contains_key(&info.path));
        check(self.dirs, &new, &valid, self.present.as_ref())?;
        insert(&transaction, &new, valid).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        let names = |infos: Vec<&PathInfo>| infos.into_iter().map(|info| info.path.clone()).collect();
        Ok(Registered { new: names(new), already: names(already) })
    }
}

/// The row numbers of valid paths that are in the batch or that it refers to.
fn valid_ids<'a>(
    transaction: &Transaction<'_>,
    batch: &BTreeMap<&'a StorePath, &'a PathInfo>,
) -> rusqlite::Result<QuickMap<&'a StorePath, i64>> {
    let mentioned: BTreeSet<&StorePath> =
        batch.values().flat_map(|info| info.references.iter().chain([&info.path])).collect();
    let mut statement = transaction.prepare("select id from ValidPaths where path = ?1")?;
    let mut ids = QuickMap::default();
    for path in mentioned {
        if let Some(id) = statement.query_row([path.full(STORE_DIR)], |row| row.get(0)).optional()? {
            ids.insert(path, id);
        }
    }
    Ok(ids)
}

fn check(
    dirs: &StoreDirs,
    new: &[&PathInfo],
    valid: &QuickMap<&StorePath, i64>,
    present: Option<&Present>,
) -> Result<(), StoreError> {
    let place = || show(&dirs.db_path());
    for info in new {
        if let Some(why) = unstorable(info) {
            return Err(StoreError::Unstorable { place: place(), path: info.path.clone(), why });
        }
    }
    let names: BTreeSet<&StorePath> = new.iter().map(|info| &info.path).collect();
    let wanted = new.iter().flat_map(|info| &info.references);
    let missing: BTreeSet<&StorePath> =
        wanted.filter(|path| !names.contains(path) && !valid.contains_key(path)).collect();
    if !missing.is_empty() {
        return Err(StoreError::MissingReference { place: place(), list: list(missing) });
    }
    let circle = circle(new);
    if !circle.is_empty() {
        return Err(StoreError::Cycle { place: place(), list: list(circle) });
    }
    let now;
    let present = if let Some(present) = present {
        present
    } else {
        now = Present::of(dirs, names.len());
        &now
    };
    let absent: Vec<&StorePath> = names.into_iter().filter(|path| !present.has(dirs, path)).collect();
    if !absent.is_empty() {
        return Err(StoreError::MissingFiles { place: show(&dirs.real_store()), list: list(absent) });
    }
    Ok(())
}

/// Returns why the database would not return a value of `info` unchanged, or None.
fn unstorable(info: &PathInfo) -> Option<String> {
    let unreadable = |signature: &&String| {
        signature.contains(|c: char| c.is_whitespace() || c.is_control())
            || signature.split_once(':').is_none_or(|(key, value)| key.is_empty() || value.is_empty())
    };
    if let Some(signature) = info.signatures.iter().find(unreadable) {
        return Some(format!("its signature {signature:?} is not of the form <key name>:<base64>"));
    }
    if info.ca.as_ref().is_some_and(|ca| !ca.contains(':') || ca.contains(char::is_whitespace)) {
        return Some(format!("its content address {:?} is not of the form <method>:<hash>", info.ca));
    }
    i64::try_from(info.nar_size).err().map(|_| format!("its size of {} bytes is too large", info.nar_size))
}

/// Returns the paths that are in a cycle of references or need one; normally there are none. A path may refer to itself. Nix
/// does not accept cycles, because garbage collection, deletion and export need an order.
pub(crate) fn circle<'a>(new: &[&'a PathInfo]) -> Vec<&'a StorePath> {
    let mut waits_for: QuickMap<&StorePath, usize> = new.iter().map(|info| (&info.path, 0)).collect();
    let mut referrers: QuickMap<&StorePath, Vec<&StorePath>> = QuickMap::default();
    for info in new {
        for reference in info.references.iter().filter(|reference| **reference != info.path) {
            if waits_for.contains_key(reference) {
                *waits_for.entry(&info.path).or_default() += 1;
                referrers.entry(reference).or_default().push(&info.path);
            }
        }
    }
    let mut free: Vec<&StorePath> = waits_for.iter().filter(|(_, count)| **count == 0).map(|(path, _)| *path).collect();
    while let Some(path) = free.pop() {
        waits_for.remove(path);
        for referrer in referrers.get(path).into_iter().flatten() {
            if let Some(count) = waits_for.get_mut(referrer) {
                *count -= 1;
                if *count == 0 {
                    free.push(referrer);
                }
            }
        }
    }
    let mut rest: Vec<&StorePath> = waits_for.into_keys().collect();
    rest.sort();
    rest
}

/// Writes the rows of `new`. Like Nix, it writes null for no size, not ultimate and no signatures.
fn insert<'a>(
    transaction: &Transaction<'_>,
    new: &[&'a PathInfo],
    mut ids: QuickMap<&'a StorePath, i64>,
) -> rusqlite::Result<()> {
    let mut add_path = transaction.prepare(
        "insert into ValidPaths (path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for info in new {
        let signatures = info.signatures.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let id = add_path.insert(params![
            info.path.full(STORE_DIR),
            info.nar_hash.to_database(),
            info.registration_time,
            info.deriver.as_ref().map(|deriver| deriver.full(STORE_DIR)),
            Some(info.nar_size as i64).filter(|size| *size != 0),
            info.ultimate.then_some(1),
            Some(signatures).filter(|signatures| !signatures.is_empty()),
            info.ca,
        ])?;
        ids.insert(&info.path, id);
    }
    let mut add_reference = transaction.prepare("insert into Refs (referrer, reference) values (?1, ?2)")?;
    let mut add_output = transaction.prepare("insert into DerivationOutputs (drv, id, path) values (?1, ?2, ?3)")?;
    for info in new {
        let id = ids[&info.path];
        for reference in &info.references {
            add_reference.execute([id, ids[reference]])?;
        }
        for (name, output) in info.outputs.iter() {
            add_output.execute(params![id, name, output.full(STORE_DIR)])?;
        }
    }
    Ok(())
}
