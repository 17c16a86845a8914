//! The part of a job summary about a build: what failed and what to do about it, what took long, what was used.

use super::section::section;
use super::{markdown, picture, text};
use crate::building::checks::{Check, Verdict};
use crate::building::watch::Ending;
use crate::building::{BuildReport, DerivationTime, Failure, Outcome, Resources};

/// Largest number of builds that are shown.
const BUILDS: usize = 5;
/// Largest number of failures of one build that are shown.
const FAILURES: usize = 5;
/// Number of last log lines that are shown.
const LINES: usize = 15;
/// Longest line that is shown, in characters.
const LONGEST_LINE: usize = 160;

/// Renders all builds of a job without a summary of their own. Empty if there are none.
pub(crate) fn all(builds: &[BuildReport]) -> String {
    let waiting: Vec<_> = builds.iter().filter(|build| !build.summarized).collect();
    let shown: String = waiting.iter().take(BUILDS).map(|build| one(build)).collect();
    match waiting.len().saturating_sub(BUILDS) {
        0 => shown,
        left => format!("{shown}and {} more in the report\n\n", text::count(left as u64, "build")),
    }
}

/// One build.
pub(crate) fn one(build: &BuildReport) -> String {
    let sections = [checks(build), slowest(build), transfers(build), artifacts(build), facts(build)];
    let details: String = sections.into_iter().flatten().collect();
    let picture = picture::timeline(build).unwrap_or_default();
    format!("### Nix build\n\n{}\n\n{}{picture}{details}", sentence(build), failures(build))
}

/// The result, in one sentence for a log line.
pub(crate) fn headline(build: &BuildReport) -> String {
    let totals = &build.totals;
    let time = text::time(build.ms);
    let how = match (build.outcome, build.category) {
        (Outcome::Succeeded, _) if build.targets.is_empty() => "Done".to_owned(),
        (Outcome::Succeeded, _) => "Built".to_owned(),
        (Outcome::Cancelled, _) => "Cancelled".to_owned(),
        (Outcome::Failed, Some(category)) => format!("Failed ({})", category.word()),
        (Outcome::Failed, None) => "Failed".to_owned(),
    };
    let mut parts = if build.targets.is_empty() {
        vec!["nothing to build".to_owned()]
    } else {
        vec![format!("{} built here", text::count(totals.built, "derivation"))]
    };
    if totals.failed > 0 {
        parts.push(format!("{} failed", text::number(totals.failed)));
    }
    if !build.targets.is_empty() {
        let fetched = totals.substituted.saturating_add(totals.copied);
        parts.push(format!("{} fetched", text::count(fetched, "path")));
    }
    if build.attempts > 1 {
        parts.push(text::count(build.attempts, "attempt"));
    }
    let counted = |verdict: Verdict| build.checks.iter().filter(|check| check.verdict == verdict).count() as u64;
    let mut checks = String::new();
    if !build.checks.is_empty() {
        let [passed, failed, not_run] = [Verdict::Passed, Verdict::Failed, Verdict::NotRun].map(counted);
        checks = format!("; checks: {passed} passed, {failed} failed, {not_run} not run");
    }
    format!("{how} in {time}: {}{checks}.", parts.join(", "))
}

fn sentence(build: &BuildReport) -> String {
    markdown::sentence(&headline(build))
}

fn failures(build: &BuildReport) -> String {
    let shown: String = build.failures.iter().take(FAILURES).map(failure).collect();
    let left = build.failures.len().saturating_sub(FAILURES);
    let rest = if left == 0 { String::new() } else { format!("and {left} more in the report\n\n") };
    let gone = build
        .substituters_left_out
        .iter()
        .map(|name| format!("- ⚠️ The substituter {} kept failing and was not used any more.\n", markdown::code(name)));
    let gone: String = gone.collect();
    let again = build.retried.len();
    let retried = if again == 0 {
        String::new()
    } else {
        let were = if again == 1 { "failure of an earlier attempt was" } else { "failures of earlier attempts were" };
        format!("- ℹ️ {} {were} retried.\n", text::number(again as u64))
    };
    let notes = format!("{gone}{retried}");
    let notes = if notes.is_empty() { notes } else { format!("{notes}\n") };
    format!("{shown}{rest}{notes}")
}

fn failure(failure: &Failure) -> String {
    let place = match (&failure.file, failure.line) {
        (Some(file), Some(line)) => format!(" at {}", markdown::code(&format!("{file}:{line}"))),
        _ => String::new(),
    };
    let phase =
        if failure.phase.is_empty() { String::new() } else { format!(" in {}", markdown::plain(&failure.phase)) };
    let title = failure.category.title();
    let subject = markdown::code(failure.subject());
    let subject = if failure.derivation.is_empty() { String::new() } else { format!(": {subject}") };
    let lines: Vec<_> = failure.log.iter().rev().take(LINES).rev().map(|line| block(line)).collect();
    let log = if lines.is_empty() {
        String::new()
    } else {
        format!(
            "<details><summary>Last lines of the log</summary>\n\n<pre>{}</pre>\n\n</details>\n\n",
            lines.join("\n")
        )
    };
    let (message, remedy) = (markdown::sentence(&failure.message), markdown::sentence(&failure.remedy));
    format!("❌ **{title}{subject}**{phase}{place}\n\n{message}\n\n{remedy}\n\n{log}")
}

/// A line of a preformatted block. An empty line would end the block.
fn block(line: &str) -> String {
    let shown = markdown::plain(&text::cut(line, LONGEST_LINE));
    if shown.trim().is_empty() { "&#32;".to_owned() } else { shown }
}

fn checks(build: &BuildReport) -> Option<String> {
    let row = |check: &Check| {
        let verdict = match check.verdict {
            Verdict::Passed => "✅ passed",
            Verdict::Failed => "❌ failed",
            Verdict::NotRun => "➖ not run",
        };
        let time = if check.verdict == Verdict::NotRun { "–".to_owned() } else { text::time(check.ms) };
        vec![markdown::plain(&check.name), verdict.to_owned(), markdown::sentence(&check.reason), time]
    };
    section(None, &["Check", "Result", "Reason", "Time"], 1, build.checks.iter().map(row))
}

fn slowest(build: &BuildReport) -> Option<String> {
    let most = build.derivations.iter().map(|time| time.ms).max()?;
    let row = |time: &DerivationTime| {
        let longest = time.phases.iter().max_by_key(|phase| phase.ms);
        let phase = longest.map(|phase| format!("{} {}", phase.name, text::time(phase.ms))).unwrap_or_default();
        let ending = match time.ending {
            Ending::Built => "",
            Ending::Failed => "failed",
            Ending::Stopped => "stopped",
        };
        vec![
            markdown::code(&time.name),
            ending.to_owned(),
            text::time(time.ms),
            markdown::plain(&phase),
            picture::bar(time.ms, most, 20),
        ]
    };
    section(
        Some("Slowest derivations"),
        &["Derivation", "", "Time", "Longest phase", ""],
        0,
        build.derivations.iter().map(row),
    )
}

fn transfers(build: &BuildReport) -> Option<String> {
    let row = |moved: &crate::building::TransferTime| {
        let base = moved.path.rsplit('/').next().unwrap_or(&moved.path);
        vec![markdown::code(base), markdown::plain(&moved.from), text::bytes(moved.bytes), text::time(moved.ms)]
    };
    section(Some("Slowest fetched paths"), &["Path", "From", "Size", "Time"], 2, build.transfers.iter().map(row))
}

fn artifacts(build: &BuildReport) -> Option<String> {
    let row = |artifact: &crate::building::artifacts::Artifact| {
        let base = artifact.file.rsplit('/').next().unwrap_or(&artifact.file);
        vec![
            markdown::code(base),
            text::bytes(artifact.nar_bytes),
            text::bytes(artifact.bytes),
            text::percent(artifact.ratio),
            text::time(artifact.ms),
        ]
    };
    section(Some("Artifacts"), &["File", "NAR", "Size", "Ratio", "Time"], 4, build.artifacts.iter().map(row))
}

fn facts(build: &BuildReport) -> Option<String> {
    let totals = &build.totals;
    let limit = |count: Option<u64>| count.map_or("as in nix.conf".to_owned(), text::number);
    let mut rows = vec![
        ("Targets", markdown::code(&build.targets.join(" "))),
        ("Builds at once", limit(build.max_jobs)),
        ("Cores per build", limit(build.cores)),
        ("Evaluation", text::time(totals.evaluation_ms)),
        ("Builds, total time", text::time(totals.build_ms)),
        ("Fetches, total time", text::time(totals.substitute_ms.saturating_add(totals.copy_ms))),
        ("Downloaded", text::bytes(totals.downloaded_bytes)),
    ];
    rows.extend(build.resources.as_ref().map(|used| ("Machine usage", used_of(used))));
    section(Some("Limits and totals"), &["", ""], 0, rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

fn used_of(used: &Resources) -> String {
    format!(
        "processors {:.0} % busy on average, {:.0} % at most; at most {} of memory; at most {} more of the disk, where {} \
         stayed free",
        used.cpu_mean_percent,
        used.cpu_peak_percent,
        text::bytes(used.memory_peak_bytes),
        text::bytes(used.disk_peak_bytes),
        text::bytes(used.disk_free_bytes)
    )
}

#[cfg(test)]
#[path = "build_summary_test.rs"]
mod tests;
