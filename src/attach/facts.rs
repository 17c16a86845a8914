//! Verifies the records of a snapshot as far as they can be computed.
//!
//! Before anything is attached, [`sound`] leaves out records that are inconsistent in themselves. When the files are in place and
//! nothing is registered yet, [`prove`] reads them:
//!
//! 1. A derivation's own path is computed from its bytes, and its outputs are read from it.
//! 2. A content address is computed from the bytes, except for a recursive SHA-256, which is the NAR hash and was compared when
//!    the path was unpacked. Mounted paths are hashed as far as that is cheap; a large path is registered without the address.
//! 3. A deriver that does not build the path is removed, and nothing counts as built here.
//!
//! With [`Admit::Computed`], paths without a content address are left out and all others are hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix_derivation::{CAHash, NixHash};
use serde::{Deserialize, Serialize};

use super::derivations::Known;
use super::register::InPlace;
use crate::base::note::{Code, Note};
use crate::layer::content::{hashes_for, read_plain};
use crate::layer::hash_and_size_of;
use crate::layer::pack::Rejected;
use crate::snapshot::Snapshot;
use crate::store::{self, Outputs, PathInfo, Paths, StoreDirs, StorePath};

/// Number of bytes of mounted paths that a restore reads to check their content addresses, the smallest paths first.
const READ_WHEN_MOUNTED: u64 = 128 << 20;
/// Largest derivation that is read and restored, in bytes: it is held in memory.
pub(crate) const LARGEST_DERIVATION: u64 = 16 << 20;
/// A mounted file of at most this size is always read.
const SMALL: u64 = 64 << 10;

/// Which paths may become valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admit {
    /// All whose records are consistent.
    #[default]
    Sound,
    /// Only derivations and paths with a content address. Their bytes determine their names, so the writer of the entry is not trusted.
    Computed,
}

/// Whether the name of a path is determined by its bytes, and can be computed from them.
pub(crate) fn is_computed(info: &PathInfo) -> bool {
    info.path.is_derivation() || info.ca.is_some()
}

/// Records that are invalid.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    /// Those that could be read.
    pub infos: Vec<PathInfo>,
    count: u64,
    example: String,
}

/// Removes invalid records from `snapshot`, and reports those that could not even be parsed.
pub(crate) fn drop_faulty(snapshot: &mut Snapshot) -> Faulty {
    let mut faulty = Faulty { count: snapshot.malformed, example: "a malformed one".into(), ..Faulty::default() };
    for (key, record) in &snapshot.paths {
        if let Some(why) = store::fault(&record.info) {
            if faulty.infos.is_empty() {
                faulty.example = format!("{}: {why}", key.0);
            }
            faulty.infos.push(record.info.clone());
        }
    }
    faulty.count += faulty.infos.len() as u64;
    if !faulty.infos.is_empty() {
        let keys: BTreeSet<_> = faulty.infos.iter().map(|info| (info.path.clone(), info.nar_hash)).collect();
        snapshot.retain(|key| !keys.contains(key));
    }
    faulty
}

impl Faulty {
    /// The one note for all of them, in the snapshot called `name`.
    pub(crate) fn note(&self, name: &str) -> Option<Note> {
        let Self { count, example, .. } = self;
        let records = match count {
            0 => return None,
            1 => "1 record".to_owned(),
            _ => format!("{count} records"),
        };
        Some(Note::warn(
            Code::RecordsFaulty,
            format!(
                "{name} has {records} of store paths that cannot be true, such as {example}. Their paths are left out, with every \
                 path that refers to it. Someone changed the snapshot, or the Nix database that it was saved from is damaged."
            ),
        ))
    }
}

/// Returns the subset of `missing` that can become valid: every reference is available or in the subset, there is no cycle, and no
/// other output of the same derivation is among the `faulty`.
pub(crate) fn sound<'a>(
    missing: &Paths<&'a PathInfo>,
    faulty: &'a [PathInfo],
    is_available: &dyn Fn(&StorePath) -> bool,
) -> BTreeSet<StorePath> {
    let infos: Vec<&PathInfo> = missing.values().copied().collect();
    let circle: Vec<StorePath> = store::circle(&infos).into_iter().cloned().collect();
    let lost: Vec<&PathInfo> = faulty.iter().filter(|info| !missing.contains_key(&info.path)).collect();
    if circle.is_empty() && lost.is_empty() {
        return missing.closed_subset(is_available);
    }
    let mut all = missing.clone();
    all.extend(lost.into_iter().map(|info| (info.path.clone(), info)));
    let lost = faulty.iter().map(|info| &info.path).filter(|path| !missing.contains_key(*path) && !is_available(path));
    let useless = all.useless_without(lost.chain(&circle));
    all.retain(|path, _| missing.contains_key(path) && !useless.contains(path));
    all.closed_subset(is_available)
}

/// Returns the records of `valid` for a snapshot, without malformed signatures. Paths whose records no restore would accept are
/// left out, with their referrers.
pub(crate) fn as_saved(mut valid: Paths) -> Paths {
    for info in valid.values_mut() {
        info.signatures.retain(|signature| store::is_signature(signature));
    }
    // Packing determines the size, which Nix need not know.
    let sized = |info: &PathInfo| PathInfo { nar_size: info.nar_size.max(SMALL), ..info.clone() };
    let mut wrong = valid.values().filter_map(|info| Some((&info.path, store::fault(&sized(info))?))).peekable();
    let Some((path, why)) = wrong.peek().cloned() else { return valid };
    let (path, faulty) = (path.clone(), wrong.map(|(path, _)| path).collect::<Vec<_>>());
    let useless = valid.useless_without(faulty);
    tracing::info!(
        "{} paths are not saved, because their records in the Nix database are invalid, such as {path}: {why}.",
        useless.len()
    );
    valid.retain(|path, _| !useless.contains(path));
    valid
}

/// Corrects the records of the paths in `placed`, and removes those that do not match their records. The
/// `known` derivations were read already, and `valid` was valid before.
pub(crate) fn prove(
    dirs: &StoreDirs,
    placed: &mut BTreeMap<StorePath, InPlace>,
    (known, valid): (Known, &Paths),
    (threads, admit): (usize, Admit),
) -> Vec<Rejected> {
    let mut rejected = Vec::new();
    if admit == Admit::Computed {
        for (path, _) in placed.extract_if(.., |_, place| !is_computed(&place.info)) {
            let why = "It is neither a derivation nor addressed by its content, and only such paths are accepted here.";
            rejected.push(Rejected { path, why: why.into() });
        }
    }
    let derivations = read_derivations(dirs, placed, known, threads, &mut rejected);
    let fixed = fixed_outputs(dirs, placed, valid, &derivations);
    for (path, ca) in fixed {
        // Without a content address in the record, only this ties the bytes to the path.
        if let Some(place) = placed.get_mut(&path).filter(|place| place.info.ca.is_none()) {
            Arc::make_mut(&mut place.info).ca = Some(ca);
            if let Some(why) = store::fault(&place.info) {
                rejected.push(Rejected { path: path.clone(), why: format!("It is a fixed output, and {why}.") });
                placed.remove(&path);
            }
        }
    }
    check_addresses(dirs, placed, (threads, admit), &mut rejected);
    for (path, place) in placed.iter_mut() {
        let outputs = derivations.get(path).map(|outputs| outputs.paths.clone()).unwrap_or_default();
        let is_maker = |deriver: &StorePath| match (derivations.get(deriver), valid.get(deriver)) {
            (Some(outputs), _) => !outputs.is_complete || outputs.paths.values().any(|output| output == path),
            (None, Some(deriver)) => {
                deriver.outputs.is_empty() || deriver.outputs.values().any(|output| output == path)
            }
            // Its outputs are not known here.
            (None, None) => true,
        };
        let has_maker = place.info.deriver.as_ref().is_none_or(is_maker);
        // Most records are correct, and they are shared: copy one only to change it.
        if place.info.ultimate || !has_maker || place.info.outputs != outputs {
            let info = Arc::make_mut(&mut place.info);
            (info.ultimate, info.outputs) = (false, outputs);
            info.deriver = info.deriver.take().filter(|_| has_maker);
        }
    }
    rejected
}

/// Returns the content addresses of paths in `placed` without one in their records that are fixed outputs of derivations, which
/// are in `placed` or were valid before.
fn fixed_outputs(
    dirs: &StoreDirs,
    placed: &BTreeMap<StorePath, InPlace>,
    valid: &Paths,
    derivations: &BTreeMap<StorePath, Outputs>,
) -> BTreeMap<StorePath, String> {
    let is_bare = |path: &StorePath| placed.get(path).is_some_and(|place| place.info.ca.is_none());
    let mut fixed: BTreeMap<StorePath, String> =
        derivations.values().flat_map(|outputs| outputs.fixed.clone()).collect();
    for info in valid.values().filter(|info| info.outputs.values().any(is_bare)) {
        let content = read_plain(&dirs.real(&info.path), info.nar_size.clamp(SMALL, LARGEST_DERIVATION));
        if let Some(outputs) = content.ok().and_then(|content| store::outputs(info, &content).ok()) {
            fixed.extend(outputs.fixed);
        }
    }
    fixed.retain(|path, _| is_bare(path));
    fixed
}

/// Returns the outputs of all derivations in `placed`. Files that are not the derivation of their name are removed.
fn read_derivations(
    dirs: &StoreDirs,
    placed: &mut BTreeMap<StorePath, InPlace>,
    known: Known,
    threads: usize,
    rejected: &mut Vec<Rejected>,
) -> BTreeMap<StorePath, Outputs> {
    let is_unknown = |place: &&InPlace| place.info.path.is_derivation() && !known.contains_key(&place.info.path);
    let all: Vec<&InPlace> = placed.values().filter(is_unknown).collect();
    let found = in_parallel(&all, threads, |place| {
        let info = &place.info;
        let most = info.nar_size.min(LARGEST_DERIVATION);
        let content = read_plain(&dirs.real(&info.path), most).map_err(|error| error.to_string())?;
        if place.is_mounted() {
            compare_hash(dirs, info)?;
        }
        store::outputs(info, &content)
    });
    let mut derivations = known;
    for (path, outputs) in found {
        match outputs {
            Ok(outputs) => drop(derivations.insert(path, outputs)),
            Err(why) => {
                rejected.push(Rejected { why: format!("The layer contains another derivation: {why}."), path });
            }
        }
    }
    placed.retain(|path, _| !path.is_derivation() || derivations.contains_key(path));
    derivations
}

/// Returns the paths of `placed` whose content addresses are compared with their bytes, and those that are too large for that.
fn to_hash(placed: &BTreeMap<StorePath, InPlace>, admit: Admit) -> (Vec<&InPlace>, Vec<StorePath>) {
    // Unpacking has compared the NAR hash already.
    let is_unproven =
        |place: &InPlace| admit == Admit::Computed && place.is_mounted() && !place.info.path.is_derivation();
    let mut all: Vec<&InPlace> =
        placed.values().filter(|place| is_to_be_hashed(&place.info) || is_unproven(place)).collect();
    all.sort_by_key(|place| place.info.nar_size);
    let mut left = READ_WHEN_MOUNTED;
    let mut unread = Vec::new();
    all.retain(|place| {
        let size = place.info.nar_size;
        if !place.is_mounted() || size <= SMALL || admit == Admit::Computed {
            return true;
        }
        let fits = size <= left;
        left = left.saturating_sub(size);
        if !fits {
            unread.push(place.info.path.clone());
        }
        fits
    });
    (all, unread)
}

/// The mounted paths in `placed` that [`prove`] reads.
pub(crate) fn read_by_proof(placed: &BTreeMap<StorePath, InPlace>, admit: Admit) -> BTreeSet<&StorePath> {
    let derivations = placed.values().filter(|place| place.info.path.is_derivation());
    let read = derivations.chain(to_hash(placed, admit).0).filter(|place| place.is_mounted());
    read.map(|place| &place.info.path).collect()
}

/// Checks the content addresses that do not repeat the NAR hash against the bytes.
fn check_addresses(
    dirs: &StoreDirs,
    placed: &mut BTreeMap<StorePath, InPlace>,
    (threads, admit): (usize, Admit),
    rejected: &mut Vec<Rejected>,
) {
    let (all, unread) = to_hash(placed, admit);
    let checked = in_parallel(&all, threads, |place| {
        if place.is_mounted() {
            compare_hash(dirs, &place.info)?;
        }
        compare_address(dirs, &place.info)
    });
    for (path, result) in checked {
        if let Err(why) = result {
            rejected.push(Rejected { why: format!("The layer contains wrong bytes: {why}."), path: path.clone() });
            placed.remove(&path);
        }
    }
    for path in unread {
        tracing::debug!("{path} is too large to be hashed now, so it is registered without its content address");
        if let Some(place) = placed.get_mut(&path) {
            Arc::make_mut(&mut place.info).ca = None;
        }
    }
}

/// Returns whether the content address of a path says more than its NAR hash, and is not that of a derivation, which was computed.
fn is_to_be_hashed(info: &PathInfo) -> bool {
    let Some(address) = info.ca.as_deref().and_then(store::content_address) else { return false };
    match address {
        CAHash::Nar(NixHash::Sha256(_)) => info.references.contains(&info.path),
        CAHash::Text(_) => !info.path.is_derivation(),
        _ => true,
    }
}

/// Compares the content address of a path with its bytes.
pub(crate) fn compare_address(dirs: &StoreDirs, info: &PathInfo) -> Result<(), String> {
    let Some(address) = info.ca.as_deref().and_then(store::content_address) else { return Ok(()) };
    let own = info.references.contains(&info.path).then(|| info.path.hash_part());
    match hashes_for(&dirs.real(&info.path), &address, own) {
        Ok(found) if found.contains(&address.hash()) => Ok(()),
        Ok(_) => Err(format!("their hash is not that of {address}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Compares the NAR hash and size of a path with its bytes.
pub(crate) fn compare_hash(dirs: &StoreDirs, info: &PathInfo) -> Result<(), String> {
    match hash_and_size_of(&dirs.real(&info.path)) {
        Ok(found) if found == (info.nar_hash, info.nar_size) => Ok(()),
        Ok((hash, size)) => {
            Err(format!("their NAR has {size} bytes and the hash {hash}, not {} and {}", info.nar_size, info.nar_hash))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Applies `work` to each of `places` in a few threads.
fn in_parallel<R: Send>(
    places: &[&InPlace],
    threads: usize,
    work: impl Fn(&InPlace) -> Result<R, String> + Sync,
) -> Vec<(StorePath, Result<R, String>)> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(places.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, places.len().max(1)) {
            scope.spawn(|| {
                while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = (place.info.path.clone(), work(place));
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
