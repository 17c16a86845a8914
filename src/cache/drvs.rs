//! The derivations of a plan: saved by the plan, restored by the jobs that build them without evaluating.
//!
//! Save:
//! 1. The closures of the derivations are read from the store here: `.drv` files and their sources.
//! 2. A derivation that needs anything else is left out: no reader could prove the bytes of that.
//! 3. The rest is saved as any store is, under a key of its own: a delta against what earlier plans saved.
//!
//! Restore:
//! 1. The newest generation of that key is read, and of it the closures of the derivations that are wanted.
//! 2. What is neither a derivation nor addressed by its content is refused, with what needs it.
//! 3. The rest is attached, with every name computed from the bytes ([`Admit::Computed`]). So nobody has to be trusted.
//!
//! The record that a restore leaves for the save is not touched: to the save, what is restored here was evaluated here.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Context;
use super::attaching::attach_layers;
use super::checkpoint::Moment;
use super::outcome::{Phase, RestoreOutcome, SaveOutcome, SaveReason};
use super::record::RestoreRecord;
use super::restore::{assign, empty_outcome, lookup_failed, prepare};
use super::save::{self, Here, Past, save_paths};
use super::save_error::note_error;
use super::search::{Search, SnapshotFound, find_snapshot};
use super::{last, room, vouch};
use crate::attach::{Admit, CacheError, facts};
use crate::base::human;
use crate::base::note::{Code, Note};
use crate::series::Hit;
use crate::series::generation_prefix;
use crate::store::{self, PathInfo, Paths, StoreError, StorePath};

/// What became of the derivations that were to be saved.
pub(crate) struct SavedDrvs {
    /// Those that the entry holds now, with all that they need.
    pub held: BTreeSet<StorePath>,
    /// The save.
    pub outcome: SaveOutcome,
}

/// Saves the derivations `wanted`, which are in the store here, with all that they need.
///
/// # Errors
/// When the store cannot be read. Trouble with the remote is noted in the outcome.
pub(crate) async fn save_drvs(context: &Context, wanted: &BTreeSet<StorePath>) -> Result<SavedDrvs, CacheError> {
    let start = Instant::now();
    let mut outcome = save::empty_outcome(context);
    let (dirs, threads, keys, roots) =
        (context.place.dirs.clone(), context.packing.threads, context.place.keys.clone(), wanted.clone());
    let read = tokio::task::spawn_blocking(move || {
        let lock = store::gc_lock(&dirs)?;
        let valid = store::read_all(&dirs)?;
        let withheld = if keys.can_sign() { Some(vouch::withheld(&dirs, &valid, &keys, threads)?) } else { None };
        let mut valid = facts::as_saved(valid);
        if let Some(withheld) = withheld {
            valid.retain(|path, _| !withheld.paths.contains(path));
        }
        let chosen = choose(&valid, &roots);
        valid.retain(|path, _| chosen.closure.contains(path));
        Ok::<_, CacheError>((lock, valid, chosen))
    });
    let (read, newest) = tokio::join!(read, Box::pin(last::find(context, None, &mut outcome.notes)));
    let (_lock, valid, Chosen { roots: mut held, example, .. }) = read??;
    outcome.phases.push(Phase::end("read the store", start, valid.len() as u64, 0));
    if let Some((drv, needs)) = example {
        let message = format!(
            "{} of {} are not saved, and are evaluated again where they are built, such as {drv}: it needs {needs}, which is \
             neither a derivation nor addressed by its content.",
            wanted.len() - held.len(),
            human::count(wanted.len() as u64, "derivation"),
        );
        outcome.notes.push(Note::info(Code::DerivationsNotSaved, message));
    }
    let (here, none) = (Here { valid, realisations: Vec::new() }, BTreeSet::new());
    let record = RestoreRecord::begin(&context.identity.run, BTreeSet::new(), None);
    let past =
        Past { record: Some(record), newest, near: None, trace: None, earlier: None, moment: Moment::End, lock: None };
    if let Err(error) = save_paths(context, here, &none, past, &mut outcome).await {
        note_error(&error, &mut outcome);
    }
    let is_complete = outcome.paths_left_out == 0
        && !matches!(outcome.reason, SaveReason::Failed | SaveReason::Refused | SaveReason::NothingToSave);
    if !is_complete {
        held.clear();
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(SavedDrvs { held, outcome })
}

/// Which derivations can be saved.
struct Chosen {
    /// They.
    roots: BTreeSet<StorePath>,
    /// All that they need, themselves included.
    closure: BTreeSet<StorePath>,
    /// One that cannot, and what it needs that nobody could prove.
    example: Option<(StorePath, StorePath)>,
}

/// Those of `wanted` that are valid and need nothing but derivations and paths with a content address.
fn choose(valid: &Paths, wanted: &BTreeSet<StorePath>) -> Chosen {
    let mut roots: BTreeSet<StorePath> = wanted.iter().filter(|path| valid.contains_key(*path)).cloned().collect();
    let mut all = valid.closure(&roots);
    let unproven: Vec<&StorePath> = all.iter().filter(|path| !facts::is_computed(&valid[*path])).collect();
    let mut example = None;
    if !unproven.is_empty() {
        let infos: Paths<&PathInfo> = all.iter().map(|path| (path.clone(), &valid[path])).collect();
        let tainted = infos.referrers_closure(unproven.iter().copied());
        let needs = |drv: &StorePath| unproven.iter().find(|path| infos.closure([drv]).contains(**path));
        example = roots.intersection(&tainted).next().and_then(|drv| Some((drv.clone(), (*needs(drv)?).clone())));
        roots.retain(|path| !tainted.contains(path));
        all = valid.closure(&roots);
    }
    Chosen { roots, closure: all, example }
}

/// Restores the derivations `wanted`, with all that they need, as far as the cache has them and they prove themselves.
///
/// # Errors
/// When the store cannot be read or written. Trouble with the remote is noted in the outcome.
pub(crate) async fn restore_drvs(
    context: &Context,
    wanted: &BTreeSet<StorePath>,
) -> Result<RestoreOutcome, CacheError> {
    let start = Instant::now();
    let dirs = context.place.dirs.clone();
    let (_lock, valid) = match tokio::task::spawn_blocking(move || prepare(&dirs)).await? {
        Err(error @ (CacheError::Store(StoreError::Locked { .. }) | CacheError::Mount(_))) => {
            let mut outcome = empty_outcome(context, 0);
            outcome.notes.push(Note::warn(Code::StoreInUse, format!("No derivations were restored: {error}")));
            return Ok(outcome);
        }
        prepared => prepared?,
    };
    let mut outcome = empty_outcome(context, valid.len());
    let missing: BTreeSet<StorePath> = wanted.iter().filter(|path| !valid.contains_key(*path)).cloned().collect();
    if missing.is_empty() {
        return Ok(outcome);
    }
    let names = [generation_prefix(&context.identity.key)];
    match find_snapshot(&*context.place.remote, &names, &context.place.keys, &mut outcome.notes).await {
        Ok(Search { found: Some(found), .. }) if found.key == context.identity.key => {
            outcome.phases.push(Phase::end("snapshot", start, found.snapshot.paths.len() as u64, found.bytes));
            outcome.bytes_downloaded += found.bytes;
            use_drvs(context, found, &missing, &valid, &mut outcome).await?;
        }
        Ok(_) => {
            let message = format!("The cache has no derivations under {}.", context.identity.key);
            outcome.notes.push(Note::info(Code::DerivationsMissing, message));
        }
        Err(error) => outcome.notes.push(lookup_failed(&error)),
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

async fn use_drvs(
    context: &Context,
    mut found: SnapshotFound,
    roots: &BTreeSet<StorePath>,
    valid: &Paths,
    outcome: &mut RestoreOutcome,
) -> Result<(), CacheError> {
    // Nothing proves those.
    found.snapshot.realisations.clear();
    let chosen: Paths<&PathInfo> =
        found.snapshot.chosen().into_iter().map(|(path, record)| (path, &record.info)).collect();
    outcome.paths_in_snapshot = chosen.len() as u64;
    let needed = chosen.closure(roots);
    outcome.paths_already_valid = needed.iter().filter(|path| valid.contains_key(*path)).count() as u64;
    let mut missing = chosen;
    missing.retain(|path, _| needed.contains(path) && !valid.contains_key(path));
    let before = missing.len() as u64;
    let refused: Vec<StorePath> =
        missing.extract_if(.., |_, info| !facts::is_computed(info)).map(|one| one.0).collect();
    if let Some(first) = refused.first() {
        let message = format!(
            "{} in generation {} of {} is refused, such as {first}: it is neither a derivation nor addressed by its content, \
             and no plan saves such a path. What needs it is evaluated again. Find out who can write to this cache.",
            human::count(refused.len() as u64, "path"),
            found.generation,
            found.key
        );
        outcome.notes.push(Note::warn(Code::DerivationsRefused, message));
    }
    // What can never become valid need not be fetched.
    let possible = facts::sound(&missing, &found.faulty, &|path| valid.contains_key(path));
    missing.retain(|path, _| possible.contains(path));
    let assigned = assign(&found.snapshot.layers, &missing);
    let (assigned, note) = room::fit(context, &found.snapshot, &missing, assigned, &|path| valid.contains_key(path));
    outcome.notes.extend(note);
    let signers = found.signed_by.as_ref().map(|name| context.place.keys.trusted_named(name)).unwrap_or_default();
    // Before anything of it is in the store.
    vouch::take_over(&context.place.dirs, valid, missing.values().copied(), signers, false)?;
    let restored = attach_layers(context, &found, (&missing, &assigned), valid, Admit::Computed, outcome).await?;
    vouch::note_inodes(&context.place.dirs, &restored, context.packing.threads)?;
    outcome.paths_restored = restored.len() as u64;
    outcome.nar_bytes_restored = restored.iter().map(|path| missing[path].nar_size).sum();
    outcome.paths_lost = before - outcome.paths_restored;
    outcome.signed_by.clone_from(&found.signed_by);
    outcome.generation = Some(found.generation);
    let is_here = |path: &StorePath| restored.contains(path) || valid.contains_key(path);
    outcome.hit = match roots.iter().filter(|path| is_here(path)).count() {
        count if count == roots.len() => Hit::Exact,
        0 => Hit::Miss,
        _ => Hit::Partial,
    };
    outcome.matched_key = Some(found.key.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        format!("{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    fn info(name: &str, references: &[&str], ca: Option<&str>) -> (StorePath, PathInfo) {
        let info = PathInfo {
            references: references.iter().map(|name| path(name)).collect(),
            ca: ca.map(str::to_owned),
            ..PathInfo::sample(path(name))
        };
        (path(name), info)
    }

    #[test]
    fn a_derivation_that_needs_what_nobody_can_prove_is_left_out_and_no_other() {
        let valid: Paths = [
            info("lib.drv", &["source"], None),
            info("source", &[], Some("fixed:r:sha256:x")),
            info("good.drv", &["lib.drv"], None),
            info("copied", &[], None),
            info("between.drv", &["copied", "lib.drv"], None),
            info("bad.drv", &["between.drv"], None),
            info("other", &[], None),
        ]
        .into_iter()
        .collect();
        let wanted = BTreeSet::from(["good.drv", "bad.drv", "absent.drv"].map(path));
        let chosen = choose(&valid, &wanted);
        assert_eq!(chosen.roots, BTreeSet::from([path("good.drv")]));
        assert_eq!(chosen.closure, BTreeSet::from(["good.drv", "lib.drv", "source"].map(path)));
        assert_eq!(chosen.example, Some((path("bad.drv"), path("copied"))));
        let chosen = choose(&valid, &BTreeSet::from([path("good.drv")]));
        assert_eq!((chosen.roots.len(), chosen.example), (1, None));
    }
}
