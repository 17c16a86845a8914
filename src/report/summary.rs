//! The job summary: one sentence with the result, then the figures. GitHub shows at most 1 MiB per step, and nothing at all above
//! that, so lists are cut, and if there is not enough room, only the sentence is written.

use std::path::{Path, PathBuf};

use super::overview::overview;
use super::section::{ROWS, more, section};
use super::{build_summary, markdown, picture, text};
use crate::base::note::Code;
use crate::building::BuildReport;
use crate::report::{Outcome, Report, Severity};
use crate::series::Hit;

/// Largest summary that GitHub shows, in bytes.
pub(crate) const MOST: usize = 1024 * 1024;

/// Why the summary could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "The job summary could not be written to the file in GITHUB_STEP_SUMMARY: {0}. The report contains the same figures."
)]
pub(crate) struct SummaryError(actions_rs::Error);

/// Appends the summary of `report` to the runner's file. Does nothing without a runner.
///
/// # Errors
/// [`SummaryError`] when the file cannot be written, or earlier steps left no room in it.
pub(crate) fn write(report: &Report) -> Result<(), SummaryError> {
    append(render(report), || sentence(report, markdown::sentence))
}

/// Appends the summary of a build, for a job in which no cache step writes one. Does nothing without a runner.
///
/// # Errors
/// See [`write`].
pub(crate) fn write_build(build: &BuildReport) -> Result<(), SummaryError> {
    append(build_summary::one(build), || markdown::sentence(&build_headline(build)))
}

/// The result of a build, in one sentence for a log line.
#[must_use]
pub(crate) fn build_headline(build: &BuildReport) -> String {
    build_summary::headline(build)
}

/// Marks, beside the report, that a later step will write the summary of the job, including builds.
pub(crate) fn promise(report: &Path) {
    let file = promised(report);
    let folder = file.parent().unwrap_or(Path::new("."));
    if let Err(error) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, "")) {
        tracing::debug!("{} cannot be written: {error}", file.display());
    }
}

/// Returns whether a later step will write the summary of the job.
#[must_use]
pub(crate) fn is_promised(report: &Path) -> bool {
    promised(report).exists()
}

/// Marks that the summary has been written, so that later builds are not in it.
pub(crate) fn fulfil(report: &Path) {
    // The file does not exist if no main step has run so far.
    let _ = std::fs::remove_file(promised(report));
}

fn promised(report: &Path) -> PathBuf {
    report.with_file_name("summary-to-come")
}

fn append(body: String, short: impl FnOnce() -> String) -> Result<(), SummaryError> {
    let append = |body: String| actions_rs::Summary::new().raw(body, false).write();
    match append(body) {
        Err(actions_rs::Error::SummaryTooLarge { .. }) => append(format!("{}\n", short())).map_err(SummaryError),
        other => other.map_err(SummaryError),
    }
}

/// Renders the summary as Markdown, which is far below [`MOST`] for any report.
#[must_use]
pub(crate) fn render(report: &Report) -> String {
    let sections = [
        overview(report),
        report.trend.as_ref().and_then(picture::trend),
        levels(report),
        picture::pie(&report.paths),
        largest(report),
        layers(report),
        timings(report),
        facts(report),
    ];
    let sections: String = sections.into_iter().flatten().collect();
    let builds = build_summary::all(&report.builds);
    let sentence = sentence(report, markdown::sentence);
    let body = format!("{builds}### Nix store cache\n\n{sentence}\n\n{}{sections}", notes(report));
    debug_assert!(body.len() <= MOST, "every list and value is cut");
    body
}

/// The result in one sentence for a log line, such as "Exact hit: 1,440 of 1,440 store paths came from the cache in
/// 1.2 s; nothing new to save."
#[must_use]
pub(crate) fn headline(report: &Report) -> String {
    sentence(report, |value| value.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Like [`headline`], with `show` applied to foreign texts in it.
fn sentence(report: &Report, show: fn(&str) -> String) -> String {
    let ends = [restored(report), saved(report, show)].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let mut sentence = if ends.is_empty() { "nothing was restored or saved".to_owned() } else { ends };
    if let Some(first) = sentence.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    format!("{sentence}.")
}

fn restored(report: &Report) -> Option<String> {
    let restore = report.restore.as_ref()?;
    let (paths, time) = (&report.paths, text::time(restore.ms));
    let what = match report.key.hit {
        Hit::Exact => "exact hit",
        Hit::Partial => "partial hit",
        Hit::Miss => "miss",
    };
    Some(match (report.key.hit, paths.all_needed(), paths.needed) {
        (Hit::Miss, Some(all), _) if all > 0 => {
            format!("{what}: {}, and {} had to be built or fetched", why_missed(report), text::count(all, "store path"))
        }
        (Hit::Miss, ..) => format!("{what}: {}", why_missed(report)),
        _ if restore.lookup_only => format!("{what}: only looked up, nothing restored"),
        (_, Some(all), Some(needed)) => {
            let of = format!("{} of {} came", text::number(needed), text::count(all, "store path"));
            format!("{what}: {of} from the cache in {time}")
        }
        _ => format!("{what}: {} came from the cache in {time}", text::count(paths.restored, "store path")),
    })
}

/// A plain miss has no special reason; for any other, a note says more.
fn why_missed(report: &Report) -> &'static str {
    let noted = |codes: &[Code]| report.notes.iter().any(|note| codes.contains(&note.code));
    if noted(&[Code::LookupFailed, Code::LookupRefused, Code::RestoreFailed]) {
        "the cache could not be read"
    } else if noted(&[
        Code::SnapshotUnreadable,
        Code::LayerMissing,
        Code::LayerFailed,
        Code::LayerDamaged,
        Code::LayerRefused,
        Code::PathsRejected,
    ]) {
        "the content of the cache could not be used"
    } else if noted(&[Code::NoRoom]) {
        "the disk has no room for it"
    } else {
        "no snapshot matches yet"
    }
}

fn saved(report: &Report, show: fn(&str) -> String) -> Option<String> {
    let save = report.save.as_ref()?;
    let because = show(&save.because);
    Some(match save.outcome {
        Outcome::Saved => format!(
            "saved {} ({} uploaded) in {}",
            text::count(report.paths.new, "new path"),
            text::bytes(save.uploaded_bytes),
            text::time(save.ms)
        ),
        Outcome::Skipped if save.reason == "nothing-new" => "nothing new to save".to_owned(),
        Outcome::Skipped if because.is_empty() => "nothing saved".to_owned(),
        Outcome::Skipped => format!("nothing saved, {because}"),
        Outcome::Failed if because.is_empty() => "the save failed".to_owned(),
        Outcome::Failed => format!("the save failed, {because}"),
    })
}

fn notes(report: &Report) -> String {
    let mut notes: Vec<_> = report.notes.iter().collect();
    notes.sort_by_key(|note| std::cmp::Reverse(note.severity));
    let line = |note: &&crate::report::Note| {
        let sign = match note.severity {
            Severity::Notice => "ℹ️",
            Severity::Warning => "⚠️",
            Severity::Error => "❌",
        };
        let [message, remedy, code] = [&note.message, &note.remedy, note.code.word()].map(markdown::sentence);
        let texts = [message, remedy].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
        format!("- {sign} {texts} <sub>{code}</sub>\n")
    };
    let shown: String = notes.iter().take(ROWS).map(line).collect();
    if shown.is_empty() { shown } else { format!("{shown}{}\n", more(notes.len())) }
}

fn levels(report: &Report) -> Option<String> {
    let some = |count: u64, shown: String| if count > 0 { shown } else { "–".to_owned() };
    let row = |level: &crate::report::Level| {
        vec![
            level_name(&level.name),
            level.hit.word().to_owned(),
            some(level.restored, format!("{} ({})", text::number(level.restored), text::bytes(level.restored_bytes))),
            some(level.downloaded_bytes, text::bytes(level.downloaded_bytes)),
            some(level.saved, text::number(level.saved)),
            some(level.uploaded_bytes, text::bytes(level.uploaded_bytes)),
        ]
    };
    let head = ["Part of the cache", "Hit", "Restored (unpacked)", "Downloaded", "New", "Uploaded"];
    let table = section(None, &head, 4, report.levels.iter().map(row))?;
    let legend = "exact: saved under this key; partial: saved under a similar key, such as that of an earlier lock file; \
                  miss: nothing matches yet.";
    Some(format!("{table}<sub>{legend}</sub>\n\n"))
}

/// The name of a level with an explanation.
fn level_name(name: &str) -> String {
    let meaning = match name {
        "nix-store" => "store paths",
        "paths" => "files of the input <code>paths</code>",
        "eval-cache" => "Nix&#39;s own caches of evaluations and downloads",
        _ => return markdown::plain(name),
    };
    format!("{} ({meaning})", markdown::plain(name))
}

/// Number of characters of a layer's name that are shown: enough to find it in the list of the repository's caches.
const NAME: usize = 16;

fn layers(report: &Report) -> Option<String> {
    let row = |layer: &crate::report::Layer| {
        let speed = layer
            .bytes
            .saturating_mul(1000)
            .checked_div(layer.ms)
            .map_or("–".to_owned(), |rate| format!("{}/s", text::bytes(rate)));
        let name = markdown::code(&text::cut(&layer.name, NAME));
        vec![name, text::bytes(layer.bytes), text::time(layer.ms), speed]
    };
    section(Some("Downloaded layers"), &["Layer", "Size", "Time", "Speed"], 3, report.layers.iter().map(row))
}

fn timings(report: &Report) -> Option<String> {
    let most = report.timings.iter().map(|timing| timing.ms).max()?;
    let row = |timing: &crate::report::Timing| {
        let phase = timing.phase.replacen('.', ": ", 1);
        vec![markdown::plain(&phase), text::time(timing.ms), picture::bar(timing.ms, most, 20)]
    };
    section(Some("Where the time went"), &["Phase", "Time", ""], 0, report.timings.iter().map(row))
}

fn largest(report: &Report) -> Option<String> {
    let row = |new: &crate::report::NewPath| vec![markdown::code(&new.path), text::bytes(new.nar_bytes)];
    let rows = report.largest_new.iter().map(row);
    section(Some("Largest new store paths"), &["Store path", "Unpacked"], 1, rows)
}

fn facts(report: &Report) -> Option<String> {
    let mut rows = vec![("Key", markdown::code(&report.key.primary))];
    rows.extend(report.key.matched.as_ref().map(|matched| ("Key found", markdown::code(matched))));
    rows.push(("Lane (this job among those that share the key)", markdown::code(&report.job.lane)));
    rows.extend(report.restore.as_ref().map(|restore| ("Restore mode", markdown::plain(&restore.mode))));
    let entries = |save: &crate::report::Save| ("Cache entries created", text::number(save.entries_created));
    rows.extend(report.save.as_ref().map(entries));
    rows.push(("Machine", markdown::plain(&machine(&report.machine))));
    rows.retain(|(_, value)| !value.is_empty() && value != "<code></code>");
    section(Some("Key and machine"), &["", ""], 0, rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

/// Describes the machine.
fn machine(machine: &crate::report::Machine) -> String {
    let some = |value: u64, shown: String| if value > 0 { shown } else { String::new() };
    let nix = format!("Nix {}", machine.nix_version);
    let facts = [
        machine.system.clone(),
        if machine.nix_version.is_empty() { String::new() } else { nix },
        machine.installation.clone(),
        some(machine.cpus, text::count(machine.cpus, "CPU")),
        some(machine.memory_bytes, format!("{} of memory", text::bytes(machine.memory_bytes))),
        some(machine.disk_free_bytes, format!("{} free for the store", text::bytes(machine.disk_free_bytes))),
    ];
    facts.into_iter().filter(|fact| !fact.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "summary_test.rs"]
mod tests;
