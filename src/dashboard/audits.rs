//! Audits: what was open at each time, and for how much of the packages something was known.

use std::collections::BTreeMap;

use super::DAY;
use super::bins::Bin;
use super::chart::{Chart, Series, Unit};
use crate::audit::figures::AuditFigures;
use crate::history::Run;
use crate::report::text;

/// How long an audit counts where no newer one of the same lane and branch is known.
const LASTS: u64 = 35 * DAY;

/// The newest audits of each lane and branch, together, at the end of each span. None before the first one. What pull requests bring is not
/// open yet.
pub(super) fn open(bins: &[Bin<'_>]) -> Vec<Option<AuditFigures>> {
    let mut newest: BTreeMap<(&str, &str), (u64, AuditFigures)> = BTreeMap::new();
    let mut now = 0;
    bins.iter()
        .map(|bin| {
            for run in bin.runs.iter().filter(|run| !is_of_pull_request(run)) {
                now = now.max(run.time);
                if let Some(found) = run.audit {
                    newest.insert((&run.lane, &run.git_ref), (run.time, found));
                }
            }
            newest.retain(|_, (time, _)| now.saturating_sub(*time) <= LASTS);
            newest.values().map(|(_, found)| *found).reduce(|sum, found| sum.and(&found))
        })
        .collect()
}

/// What is open, and what is known, over time. A chart in which everything is zero would say that nothing is known, and is left out: the figure
/// at the top says that nothing is open.
pub(super) fn charts<'a>(bins: &'a [Bin<'_>], span: &str) -> impl Iterator<Item = Chart<'a>> {
    let open = open(bins);
    let chart = |id, title, text, unit, series| Chart::over(bins, (id, title, text), unit, series);
    let found = open.iter().flatten().any(|found| found.findings() > 0).then(|| {
        let text = format!(
            "What the newest audits of all lanes and branches had found, {span}, at the end of each; those of pull requests are left out."
        );
        chart("findings", "Open findings", text, Unit::Count, findings(&open))
    });
    let known = open.iter().flatten().any(|found| found.paths > 0).then(|| {
        let text = format!(
            "Of the store paths of the audited packages, the share of which name, version and licence are known, {span}."
        );
        chart("coverage", "Coverage of audits", text, Unit::Share, coverage(&open))
    });
    found.into_iter().chain(known)
}

fn is_of_pull_request(run: &Run) -> bool {
    run.git_ref.starts_with("refs/pull/") || run.git_ref.contains("/gh-readonly-queue/")
}

/// Findings over time, by severity.
pub(super) fn findings(open: &[Option<AuditFigures>]) -> Vec<Series> {
    let series = |name, class, of: fn(&AuditFigures) -> u64| Series {
        name,
        class,
        values: open.iter().map(|found| found.as_ref().map(|found| of(found) as f64)).collect(),
    };
    vec![
        series("errors", "f", |found| found.errors),
        series("warnings", "c", |found| found.warnings),
        series("notices", "e", |found| found.notices),
    ]
}

/// Over time, the share of the audited paths of which something is known, and from where.
pub(super) fn coverage(open: &[Option<AuditFigures>]) -> Vec<Series> {
    let series = |name, class, of: fn(&AuditFigures) -> u64| Series {
        name,
        class,
        values: open.iter().map(|found| found.as_ref().and_then(|found| share(of(found), found.paths))).collect(),
    };
    vec![
        series("known from the evaluation", "a", |found| found.evaluated_paths),
        series("from their derivation only", "b", |found| found.derivation_paths),
    ]
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// What is open now, and what is known, for the figures at the top; None without any audit.
pub(super) fn newest(open: &[Option<AuditFigures>]) -> Option<(String, String)> {
    let found = open.iter().rev().copied().flatten().next()?;
    let kinds = [(found.errors, "error"), (found.warnings, "warning"), (found.notices, "notice")];
    let kinds: Vec<String> =
        kinds.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| text::count(count, word)).collect();
    let known = share(found.evaluated_paths, found.paths).map(|share| {
        let paths = text::count(found.paths, "path");
        format!("{} of {paths} known from the evaluation", text::percent(share))
    });
    let note: Vec<String> = kinds.into_iter().chain(known).collect();
    let note = if note.is_empty() { "nothing is open".to_owned() } else { note.join(", ") };
    Some((text::number(found.findings()), note))
}
