//! Adds the results of restore and save to the report.

use super::job::Job;
use crate::base::note::{Code, Note, Severity};
use crate::cache::{Checkpoints, LayerState, OutputClosure, Phase, RestoreOutcome, SaveOutcome, SaveReason, Survey};
use crate::remote::github::{FREE_QUOTA, Usage};
use crate::report::{Closure, Effort, Layer, Level, NewPath, Outcome, Quota, Restore, Running, Save, Timing};
use crate::store::StorePath;

/// The name of the first level.
pub(super) const STORE_LEVEL: &str = "nix-store";

fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

/// Adds a restore of the store, or a lookup, to the report.
pub(super) fn restore(job: &mut Job, outcome: &RestoreOutcome) {
    let lookup_only = job.inputs.lookup_only;
    let report = &mut job.report;
    report.key.hit = outcome.hit;
    report.key.matched.clone_from(&outcome.matched_key);
    report.key.generation = outcome.generation;
    report.key.vouched = outcome.vouched.clone().unwrap_or_default();
    report.paths.baseline = outcome.paths_before;
    report.paths.restored = outcome.paths_restored;
    report.restore = Some(Restore {
        mode: if outcome.paths_restored > 0 { outcome.mode.to_owned() } else { String::new() },
        lookup_only,
        ms: ms(outcome.seconds),
        downloaded_bytes: outcome.bytes_downloaded,
    });
    report.levels.push(Level {
        name: STORE_LEVEL.to_owned(),
        hit: report.key.hit,
        restored: outcome.paths_restored,
        restored_bytes: outcome.nar_bytes_restored,
        downloaded_bytes: outcome.bytes_downloaded,
        ..Level::default()
    });
    let fetched = outcome.layers.iter().filter(|layer| layer.state == LayerState::Fetched);
    report.layers =
        fetched.map(|layer| Layer { name: layer.id.clone(), bytes: layer.bytes, ms: ms(layer.seconds) }).collect();
    phases(job, "restore", &outcome.phases);
    notes(job, &outcome.notes);
}

/// Adds a save of the store to the report.
pub(super) fn save(job: &mut Job, outcome: &SaveOutcome) {
    let report = &mut job.report;
    report.paths.new = if outcome.saved.is_some() { outcome.paths_new } else { 0 };
    let (reason, because) = reason(outcome);
    report.save = Some(Save {
        outcome: match outcome.reason {
            SaveReason::NewKey
            | SaveReason::NewPaths
            | SaveReason::LaneGrew
            | SaveReason::Repaired
            | SaveReason::LayersJoined => Outcome::Saved,
            SaveReason::NothingNew | SaveReason::NothingToSave | SaveReason::Refused => Outcome::Skipped,
            SaveReason::Failed => Outcome::Failed,
        },
        reason: reason.to_owned(),
        because,
        ms: ms(outcome.seconds),
        generation: outcome.saved.as_ref().map(|saved| saved.generation),
        entries_created: outcome.entries_created,
        uploaded_bytes: outcome.bytes_uploaded,
        running: None,
    });
    let largest = outcome.largest_new.iter();
    report.largest_new = largest.map(|(path, bytes)| NewPath { path: path.to_string(), nar_bytes: *bytes }).collect();
    let level = store_level(job);
    level.saved = if outcome.saved.is_some() { outcome.paths_new } else { 0 };
    level.uploaded_bytes = outcome.bytes_uploaded;
    phases(job, "save", &outcome.phases);
    notes(job, &outcome.notes);
}

/// Adds what was saved while the job ran to the report of the save.
pub(super) fn checkpoints(job: &mut Job, checkpoints: &Checkpoints) {
    let Checkpoints { saves, paths, bytes_uploaded, entries_created, ms, trouble, .. } = checkpoints;
    let paths = paths.len() as u64;
    if let Some(save) = &mut job.report.save {
        save.entries_created += entries_created;
        save.uploaded_bytes += bytes_uploaded;
        save.running = Some(Running {
            saves: *saves,
            paths,
            entries_created: *entries_created,
            uploaded_bytes: *bytes_uploaded,
            ms: *ms,
        });
    }
    // The post step has counted them if it has saved.
    job.report.paths.new = job.report.paths.new.max(paths);
    let level = store_level(job);
    level.saved = level.saved.max(paths);
    level.uploaded_bytes += bytes_uploaded;
    if !trouble.is_empty() {
        let message = format!("Saving while the job ran failed: {}.", trouble.trim_end_matches('.'));
        job.report.note(Note::silent(Severity::Notice, Code::CheckpointFailed, message));
    }
}

/// Records that no save was tried, and why.
pub(super) fn not_saved(job: &mut Job, outcome: Outcome, reason: &str, because: &str) {
    let (reason, because) = (reason.to_owned(), because.to_owned());
    job.report.save = Some(Save { outcome, reason, because, ..Save::default() });
}

fn reason(outcome: &SaveOutcome) -> (&'static str, String) {
    match outcome.reason {
        SaveReason::NewKey => ("new-key", "because there was no snapshot of this key".into()),
        SaveReason::NewPaths => ("new-paths", "because the snapshot of this key lacked these paths".into()),
        SaveReason::LaneGrew => ("lane-grew", "because this job used paths that its lane had not used before".into()),
        SaveReason::Repaired => ("repaired", "because entries of the snapshot of this key were lost".into()),
        SaveReason::LayersJoined => {
            ("layers-joined", "because the snapshot of this key had too many layers; small ones were joined".into())
        }
        SaveReason::NothingNew => ("nothing-new", "because the snapshot of this key already has everything".into()),
        SaveReason::NothingToSave => ("nothing-to-save", "because the job added nothing to the store".into()),
        SaveReason::Refused => ("refused", "because the cache accepts nothing from this job".into()),
        SaveReason::Failed => ("failed", "see the warnings".into()),
    }
}

fn store_level(job: &mut Job) -> &mut Level {
    let levels = &mut job.report.levels;
    let place = levels.iter().position(|level| level.name == STORE_LEVEL).unwrap_or_else(|| {
        levels.insert(0, Level { name: STORE_LEVEL.to_owned(), ..Level::default() });
        0
    });
    &mut levels[place]
}

/// Adds the numbers of the whole job to the report.
pub(super) fn survey(job: &mut Job, survey: &Survey) {
    let paths = &mut job.report.paths;
    paths.baseline = survey.baseline;
    paths.restored = survey.restored;
    paths.needed = Some(survey.needed);
    paths.built_here = survey.built_here;
    paths.fetched_upstream = survey.fetched_upstream;
    job.report.effort = Some(Effort {
        needed_built: survey.needed_built,
        needed_bytes: survey.needed_bytes,
        built_ms: survey.built_ms,
        fetched_ms: survey.fetched_ms,
        fetched_bytes: survey.fetched_bytes,
    });
}

/// What the report says of a closure; None without outputs, and for one that is too large for it.
pub(super) fn closure(closure: OutputClosure) -> Option<Closure> {
    let OutputClosure { outputs, paths } = closure;
    if outputs.is_empty() || paths.len() > Closure::MOST {
        return None;
    }
    let outputs = outputs.iter().map(StorePath::to_string).collect();
    let paths = paths.iter().map(|(path, bytes)| NewPath { path: path.to_string(), nar_bytes: *bytes }).collect();
    Some(Closure { outputs, paths })
}

fn phases(job: &mut Job, verb: &str, phases: &[Phase]) {
    let timing = |phase: &Phase| Timing { phase: format!("{verb}.{}", phase.name), ms: ms(phase.seconds) };
    job.report.timings.extend(phases.iter().map(timing));
}

/// Adds notes to the report.
pub(super) fn notes(job: &mut Job, notes: &[Note]) {
    for note in notes {
        job.report.note(note.clone());
    }
}

/// Adds how full the repository's cache is, and warns if entries are about to be evicted.
pub(super) fn quota(job: &mut Job, usage: Usage) {
    job.report.quota = Some(Quota { used_bytes: usage.bytes, limit_bytes: None, entries: usage.count });
    if usage.bytes > FREE_QUOTA / 10 * 9 {
        job.report.note(Note::silent(Severity::Notice, Code::Quota, "The repository's cache is close to or above the free 10 GiB, so GitHub deletes the least recently used entries."));
    }
}
