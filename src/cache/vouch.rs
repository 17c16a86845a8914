//! Determines which paths of the store a save with a key must not sign.
//!
//! 1. A restore records the paths of a snapshot, and the keys that signed it, before anything is attached: in the ledger, a file in
//!    our folder that stays across runs.
//! 2. A path in the ledger is cleared if it was rebuilt or fetched again (it has another registration time, and another inode or time of creation), or if
//!    its bytes were hashed and either yield its name or match a signature of a key that nix.conf trusts.
//! 3. A save with a key leaves out the other paths, except for those signed by keys that it trusts, with everything that refers to
//!    them or was built with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use super::ledger::load;
pub(crate) use super::ledger::place;
use super::ledger::{Entry, File, Ledger, write};
use crate::attach::CacheError;
use crate::attach::facts::{compare_address, compare_hash};
use crate::series::sign::Keyring;
use crate::store::Paths;
use crate::store::{self, PathInfo, StoreDirs, StorePath};

/// Changes the ledger with `change`. An invalid ledger is kept unchanged, and nothing is signed then.
fn change(dirs: &StoreDirs, change: impl FnOnce(&mut Ledger)) -> Result<(), CacheError> {
    let ledger = match load(dirs) {
        Ok(ledger) => ledger,
        Err(CacheError::File { what, path, error }) => {
            tracing::warn!("{what} {}: {error}. A save with a key signs nothing until it is deleted.", path.display());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut ledger = ledger.unwrap_or_else(Ledger::new);
    change(&mut ledger);
    write(dirs, &ledger)
}

/// Records that `infos` are about to be restored, signed by one of `signers` if there are any, and removes paths that are no longer
/// `valid`.
pub(super) fn take_over<'a>(
    dirs: &StoreDirs,
    valid: &Paths,
    infos: impl Iterator<Item = &'a PathInfo>,
    signers: Vec<String>,
    with_realisations: bool,
) -> Result<(), CacheError> {
    change(dirs, |ledger| {
        ledger.paths.retain(|path, entry| valid.get(path).is_some_and(|info| entry.is_still(dirs, info)));
        ledger.realisations |= with_realisations && signers.is_empty();
        let by = (!signers.is_empty()).then(|| {
            ledger.signers.iter().position(|known| *known == signers).unwrap_or_else(|| {
                ledger.signers.push(signers);
                ledger.signers.len() - 1
            })
        });
        let entry = |info: &PathInfo| Entry { time: info.registration_time, file: None, by };
        ledger.paths.extend(infos.map(|info| (info.path.clone(), entry(info))));
    })
}

/// Records the inodes of the `restored` paths, but not of derivations: those prove themselves by their bytes, and there can be very many.
/// The kernel looks for each name in every layer, so a few threads share them.
pub(super) fn note_inodes(dirs: &StoreDirs, restored: &BTreeSet<StorePath>, threads: usize) -> Result<(), CacheError> {
    change(dirs, |ledger| {
        let is_noted = |path: &StorePath| !path.is_derivation() && restored.contains(path);
        let mut noted: Vec<_> = ledger.paths.iter_mut().filter(|(path, _)| is_noted(path)).collect();
        let share = noted.len().div_ceil(threads.max(1)).max(1);
        let note = |part: &mut [(&StorePath, &mut Entry)]| {
            for (path, entry) in part {
                entry.file = File::at(dirs, path);
            }
        };
        std::thread::scope(|scope| noted.chunks_mut(share).for_each(|part| drop(scope.spawn(move || note(part)))));
    })
}

/// Records that files outside the store were restored.
pub(super) fn take_over_files(dirs: &StoreDirs) -> Result<(), CacheError> {
    change(dirs, |ledger| ledger.files = true)
}

/// The paths that a save with a key leaves out.
pub(super) struct Withheld {
    /// Restored paths that nothing vouches for.
    pub unverified: BTreeSet<StorePath>,
    /// These, their referrers, and paths that were built with them.
    pub paths: BTreeSet<StorePath>,
    /// Whether realisations are left out too.
    pub realisations: bool,
}

/// Returns the part of `valid` that must not be signed by a job that trusts `trusted`.
///
/// # Errors
/// When the ledger cannot be read.
pub(super) fn withheld(
    dirs: &StoreDirs,
    valid: &Paths,
    trusted: &Keyring,
    threads: usize,
) -> Result<Withheld, CacheError> {
    let nothing = Withheld { unverified: BTreeSet::new(), paths: BTreeSet::new(), realisations: false };
    let Some(ledger) = load(dirs)? else { return Ok(nothing) };
    let still = |(path, entry): (&StorePath, &Entry)| {
        valid.get(path).filter(|info| !ledger.is_signed(*entry, trusted) && entry.is_still(dirs, info))
    };
    let candidates: Vec<&PathInfo> = ledger.paths.iter().filter_map(still).collect();
    if candidates.is_empty() && !ledger.realisations {
        return Ok(nothing);
    }
    let keys = Keyring::trusting(&store::trusted_public_keys());
    let unverified = in_parallel(&candidates, threads, |info| !is_proven(dirs, info, &keys));
    let paths = tainted(&ledger, valid, &unverified, &keys);
    Ok(Withheld { unverified, paths, realisations: ledger.realisations })
}

/// Hashes the bytes of a path, and returns whether they yield its name or match a signature by one of `keys`.
fn is_proven(dirs: &StoreDirs, info: &PathInfo, keys: &Keyring) -> bool {
    let is_named_by_content = info.ca.is_some() && store::fault(info).is_none();
    if !is_named_by_content && signer(info, keys).is_none() {
        return false;
    }
    compare_hash(dirs, info).is_ok() && (!is_named_by_content || compare_address(dirs, info).is_ok())
}

/// Returns the name of one of `keys` that signed the path.
pub(super) fn signer(info: &PathInfo, keys: &Keyring) -> Option<String> {
    let signatures: Vec<_> = info.signatures.iter().filter_map(|text| text.parse().ok()).collect();
    if signatures.is_empty() {
        return None;
    }
    keys.verify(&info.fingerprint(), &signatures).ok().flatten()
}

/// Returns the paths of `valid` that depend on `unverified` ones, including these: by a reference, or because they were built with
/// them.
fn tainted(ledger: &Ledger, valid: &Paths, unverified: &BTreeSet<StorePath>, keys: &Keyring) -> BTreeSet<StorePath> {
    let mut made_by: BTreeMap<&StorePath, Vec<&StorePath>> = BTreeMap::new();
    for info in valid.values() {
        if let Some(deriver) = &info.deriver {
            made_by.entry(deriver).or_default().push(&info.path);
        }
    }
    let mut tainted = valid.referrers_closure(unverified);
    if tainted.is_empty() && !ledger.realisations {
        return tainted;
    }
    loop {
        // The set contains all referrers of its paths, so the direct inputs of a builder are enough to judge it.
        let is_input = |path: &StorePath| {
            tainted.contains(path)
                || valid.get(path).is_some_and(|info| info.outputs.values().any(|output| tainted.contains(output)))
                || made_by.get(path).is_some_and(|made| made.iter().any(|output| tainted.contains(*output)))
        };
        let was_built_with = |info: &PathInfo| match info.deriver.as_ref().and_then(|deriver| valid.get(deriver)) {
            // A fixed output is what its derivation says, whatever built it.
            Some(deriver) if info.ca.is_some() && deriver.outputs.values().any(|output| *output == info.path) => false,
            Some(deriver) => ledger.realisations || deriver.references.iter().any(is_input),
            // Its inputs are no longer known.
            None => info.ultimate,
        };
        let is_later = |info: &PathInfo| info.registration_time >= i64::try_from(ledger.since).unwrap_or(i64::MAX);
        let more: Vec<&StorePath> = valid
            .values()
            .filter(|info| !tainted.contains(&info.path) && is_later(info) && was_built_with(info))
            .filter(|info| info.ultimate || signer(info, keys).is_none())
            .map(|info| &info.path)
            .collect();
        if more.is_empty() {
            return tainted;
        }
        let more = valid.referrers_closure(more);
        tainted.extend(more);
    }
}

/// Returns how many of `infos` are signed by one of `keys`.
pub(super) fn count_signed(infos: &[&PathInfo], keys: &Keyring, threads: usize) -> u64 {
    in_parallel(infos, threads, |info| signer(info, keys).is_some()).len() as u64
}

/// Filters `infos` by `is_chosen` in a few threads.
fn in_parallel(
    infos: &[&PathInfo],
    threads: usize,
    is_chosen: impl Fn(&PathInfo) -> bool + Sync,
) -> BTreeSet<StorePath> {
    let next = AtomicUsize::new(0);
    let chosen = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, infos.len().max(1)) {
            scope.spawn(|| {
                while let Some(info) = infos.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if is_chosen(info) {
                        chosen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(info.path.clone());
                    }
                }
            });
        }
    });
    chosen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::SharedMap;

    fn path(name: &str) -> StorePath {
        format!("{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    fn info(name: &str, references: &[&str]) -> PathInfo {
        PathInfo {
            references: references.iter().map(|name| path(name)).collect(),
            registration_time: 100,
            ultimate: true,
            ..PathInfo::sample(path(name))
        }
    }

    fn built(name: &str, references: &[&str], deriver: &str) -> PathInfo {
        PathInfo { deriver: Some(path(deriver)), ..info(name, references) }
    }

    fn drv(name: &str, references: &[&str], output: &str) -> PathInfo {
        PathInfo {
            outputs: SharedMap::from([("out".into(), path(output))]),
            ultimate: false,
            ca: Some("text:sha256:x".into()),
            ..info(name, references)
        }
    }

    fn tainted_by(infos: Vec<PathInfo>, unverified: &[&str]) -> Vec<String> {
        let valid = infos.into_iter().map(|info| (info.path.clone(), info)).collect();
        let ledger = Ledger { since: 50, ..Ledger::new() };
        let unverified = unverified.iter().map(|name| path(name)).collect();
        let found = tainted(&ledger, &valid, &unverified, &Keyring::default());
        found.iter().map(|path| path.name().to_owned()).collect()
    }

    #[test]
    fn a_path_that_refers_to_an_unverified_one_or_was_built_with_it_is_tainted() {
        let infos = vec![
            info("tool", &[]),
            drv("tool.drv", &[], "tool"),
            drv("app.drv", &["tool.drv", "source"], "app"),
            built("app", &[], "app.drv"),
            info("user", &["app"]),
            info("source", &[]),
            drv("clean.drv", &["source"], "clean"),
            built("clean", &["source"], "clean.drv"),
        ];
        // `source` and `user` have no deriver and were built here with unknown inputs.
        let mut known = infos.clone();
        for info in known.iter_mut().filter(|info| info.deriver.is_none()) {
            info.ultimate = false;
        }
        assert_eq!(tainted_by(known.clone(), &["tool"]), ["app", "tool", "user"]);
        assert_eq!(tainted_by(known.clone(), &[]), [""; 0]);
        assert_eq!(tainted_by(known.clone(), &["source"]), ["app", "app.drv", "clean", "clean.drv", "source", "user"]);
        assert!(tainted_by(infos, &["tool"]).contains(&"source".to_owned()));
        // Nothing could be built with it before anything was restored.
        for info in &mut known {
            info.registration_time = 49;
        }
        assert_eq!(tainted_by(known, &["tool"]), ["tool"]);
    }

    #[test]
    fn the_inodes_of_all_restored_paths_are_noted_by_any_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(folder.path()));
        fs::create_dir_all(dirs.state_dir()).unwrap();
        fs::create_dir_all(dirs.real_store()).unwrap();
        let infos: Vec<PathInfo> = ["a", "b", "c", "d", "e", "other", "f.drv"].map(|name| info(name, &[])).into();
        for info in &infos {
            fs::write(dirs.real(&info.path), "").unwrap();
        }
        let restored = infos.iter().map(|info| info.path.clone()).filter(|path| path.name() != "other").collect();
        for threads in [0, 1, 2, 5, 100] {
            take_over(&dirs, &Paths::default(), infos.iter(), Vec::new(), false).unwrap();
            note_inodes(&dirs, &restored, threads).unwrap();
            let ledger = load(&dirs).unwrap().unwrap();
            for (path, entry) in &ledger.paths {
                let noted = File::at(&dirs, path).filter(|_| path.name().len() == 1);
                assert_eq!(entry.file, noted, "{path}, {threads} threads");
            }
            assert_eq!(ledger.paths.len(), infos.len());
        }
    }

    #[test]
    fn a_ledger_that_makes_no_sense_is_kept_and_lets_nothing_be_signed() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new(Some(folder.path()));
        fs::create_dir_all(dirs.state_dir()).unwrap();
        assert!(load(&dirs).unwrap().is_none());
        take_over_files(&dirs).unwrap();
        let newest = [info("x", &[])];
        take_over(&dirs, &Paths::default(), newest.iter(), Vec::new(), false).unwrap();
        let ledger = load(&dirs).unwrap().unwrap();
        assert!(ledger.files && ledger.paths.contains_key(&path("x")));
        fs::write(place(&dirs), "{").unwrap();
        take_over_files(&dirs).unwrap();
        assert!(load(&dirs).is_err() && withheld(&dirs, &Paths::default(), &Keyring::default(), 1).is_err());
        assert_eq!(fs::read(place(&dirs)).unwrap(), b"{");
    }
}
