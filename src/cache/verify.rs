//! Verify: hashes restored paths again, from their files in the store.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::outcome::Phase;
use super::record;
use crate::attach::CacheError;
use crate::layer::hash_of;
use crate::store::{self, PathInfo, StoreDirs, StorePath};

/// The result of a verification.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Verified {
    /// Number of paths whose bytes match the database.
    pub sound: u64,
    /// Their total NAR size.
    pub nar_bytes: u64,
    /// Paths that do not match, with the reason.
    pub damaged: BTreeMap<StorePath, String>,
    /// Number of restored paths that are no longer valid, for example after a garbage collection.
    pub gone: u64,
}

/// Hashes every path that the last restore made valid; without a record of one, every valid path.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn verify(dirs: &StoreDirs, threads: usize) -> Result<Verified, CacheError> {
    let start = Instant::now();
    let _lock = store::gc_lock(dirs)?;
    let valid = store::read_all(dirs)?;
    let record = record::load(dirs)?;
    let restored = record.as_ref().map(|record| &record.restored);
    let chosen: Vec<&PathInfo> = match restored {
        Some(restored) => restored.iter().filter_map(|path| valid.get(path)).collect(),
        None => valid.values().collect(),
    };
    let gone = restored.map_or(0, |restored| restored.len() - chosen.len());
    let damaged = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(info) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(why) = damage(dirs, info) {
                        let mut damaged = damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        damaged.insert(info.path.clone(), why);
                    }
                }
            });
        }
    });
    let damaged = damaged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let nar_bytes = chosen.iter().filter(|info| !damaged.contains_key(&info.path)).map(|info| info.nar_size).sum();
    let _ = Phase::end("verify", start, chosen.len() as u64, nar_bytes);
    Ok(Verified { sound: (chosen.len() - damaged.len()) as u64, nar_bytes, damaged, gone: gone as u64 })
}

fn damage(dirs: &StoreDirs, info: &PathInfo) -> Option<String> {
    match hash_of(&dirs.real(&info.path)) {
        Ok(found) if found == info.nar_hash => None,
        Ok(found) => Some(format!("NAR hash {found}, registered {}", info.nar_hash)),
        Err(error) => Some(format!("cannot read it: {error}")),
    }
}
