//! The levels above the store: the user's further files, and Nix's own caches.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::job::{Job, Lookup, Place};
use crate::app::Failure;
use crate::base::env_vars;
use crate::base::note::{Code, Note};
use crate::cache;
use crate::files::{
    EVAL_CACHE, FilesLevel, FilesOutcome, FilesRestored, PATHS, Roots, eval_cache_key, is_of_remote, nix_cache_dir,
    restore as restore_level, save as save_level,
};
use crate::flake::current_system;
use crate::github::state;
use crate::report::{Level, Severity};
use crate::series::Hit;

/// The name under which main tells post what it restored of each level.
const STATE_LEVELS: &str = "nix_cache_levels";

/// The levels that the inputs enable.
///
/// # Errors
/// When `paths` contains an invalid pattern.
pub(super) fn wanted(job: &mut Job, lookup: &Lookup) -> Result<Vec<FilesLevel>, Failure> {
    let mut levels = Vec::new();
    let (level, keys) = (job.inputs.packing.compression_level, job.keys.clone());
    let home = env_vars::path(env_vars::HOME);
    if !job.inputs.files.paths.is_empty() {
        let roots = Roots::user(&job.project(), home.as_deref(), &job.inputs.files.paths)
            .map_err(|error| Failure::usage(format!("The input `paths` is invalid: {error}")))?;
        let (key, prefixes) = (lookup.primary.clone(), lookup.prefixes.clone());
        levels.push(FilesLevel { name: PATHS, key, prefixes, roots, level, keys: keys.clone() });
    }
    if !job.inputs.files.no_eval_cache {
        match (
            eval_cache_key(&job.project(), &lookup.lock, &current_system()),
            nix_cache_dir(|name| std::env::var_os(name)),
        ) {
            (Ok((key, prefixes)), Some(folder)) => {
                let roots = Roots::nix_caches(&folder);
                levels.push(FilesLevel { name: EVAL_CACHE, key, prefixes, roots, level, keys });
            }
            (Err(error), _) => {
                job.report.note(
                    Note::silent(Severity::Notice, Code::EvalCache, error.to_string())
                        .with_remedy("Nix's own caches are left out."),
                );
            }
            (_, None) => tracing::debug!("there is no home folder, so there are no caches of Nix"),
        }
    }
    Ok(levels)
}

/// Restores the levels. Returns the result of each.
pub(super) async fn restore(place: &Place, levels: &[FilesLevel], scratch: PathBuf) -> Vec<FilesRestored> {
    let mut restored = Vec::new();
    for level in levels {
        restored.push(restore_level(&*place.remote, level, &scratch).await);
    }
    restored
}

/// Adds the restore of the levels to the report, and passes the state to post.
pub(super) fn report_restored(job: &mut Job, levels: &[FilesLevel], restored: Vec<FilesRestored>) {
    let mut digests = BTreeMap::new();
    let took_over = restored.iter().any(|restored| restored.hit != Hit::Miss);
    if took_over
        && !job.keys.asks_for_signatures()
        && let Err(error) = cache::note_unverified(&job.dirs)
    {
        tracing::warn!("{error}");
    }
    for (level, restored) in levels.iter().zip(restored) {
        notes(job, &restored.notes);
        job.report.levels.push(Level {
            name: level.name.to_owned(),
            hit: restored.hit,
            restored: restored.files,
            restored_bytes: restored.bytes,
            downloaded_bytes: restored.downloaded,
            ..Level::default()
        });
        if let Some(restore) = &mut job.report.restore {
            restore.downloaded_bytes += restored.downloaded;
        }
        if let Some(digest) = restored.digest {
            digests.insert(level.name, digest);
        }
    }
    let left = serde_json::to_string(&digests).map_err(Failure::work);
    if let Err(error) = left.and_then(|text| state::save(STATE_LEVELS, &text).map_err(Failure::work)) {
        tracing::debug!("{}", error.message);
    }
}

/// Saves the levels and adds the result to the report. Removes the names of finished levels from `unsaved`.
pub(super) async fn save(job: &mut Job, place: &Place, levels: &[FilesLevel], unsaved: &mut Vec<&'static str>) {
    let left = state::load(STATE_LEVELS).and_then(|text| serde_json::from_str(&text).ok());
    let digests: BTreeMap<String, String> = left.unwrap_or_default();
    let scratch = job.facts.scratch();
    for level in levels {
        let digest = digests.get(level.name).map(String::as_str);
        let saved = save_level(&*place.remote, level, digest, &scratch).await;
        notes(job, &saved.notes);
        let is_new = saved.outcome == FilesOutcome::Saved;
        if let Some(save) = &mut job.report.save {
            save.entries_created += saved.entries;
            save.uploaded_bytes += saved.uploaded;
        }
        let row = of_report(job, level.name);
        row.saved = if is_new { saved.files } else { 0 };
        row.uploaded_bytes = saved.uploaded;
        unsaved.retain(|name| *name != level.name);
    }
}

fn of_report<'a>(job: &'a mut Job, name: &str) -> &'a mut Level {
    let levels = &mut job.report.levels;
    let place = levels.iter().position(|level| level.name == name).unwrap_or_else(|| {
        levels.push(Level { name: name.to_owned(), ..Level::default() });
        levels.len() - 1
    });
    &mut levels[place]
}

fn notes(job: &mut Job, notes: &[Note]) {
    for note in notes {
        let is_told = is_of_remote(note.code) && is_told(job, note.code);
        let severity = if is_told { Severity::Notice } else { note.severity };
        job.report.note(Note { severity, ..note.clone() });
    }
}

/// Returns whether another level has already warned of the same problem with the whole cache: `lookup-…` or `save-…`, for the
/// store or for files.
fn is_told(job: &Job, code: Code) -> bool {
    let kind = |code: Code| code.word().trim_start_matches("files-").split('-').next();
    let mut warnings = job.report.notes.iter().filter(|note| note.severity == Severity::Warning);
    warnings.any(|note| kind(note.code) == kind(code))
}
