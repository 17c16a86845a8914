//! The tables of the page.

use super::bins::{Bin, moment};
use super::draw::{bar, known, spark};
use super::figures::{Figures, median};
use super::groups::{self, Group};
use super::html::{Html, table};
use super::page::View;
use super::{DAY, failures};
use crate::history::Run;
use crate::report::text;

/// Most rows of a table.
const ROWS: usize = 12;
/// Longest name in a table, in characters.
const LONGEST: usize = 80;

pub(super) fn name(value: &str) -> Html {
    if value.is_empty() {
        return Html::of(format_args!("<span class=unknown>unnamed</span>"));
    }
    Html::text(&text::cut(value, LONGEST))
}

/// Says how many rows a table does not show.
pub(super) fn more(count: usize) -> Html {
    match count.saturating_sub(ROWS) {
        0 => Html::default(),
        more => Html::of(format_args!("<p class=note>And {more} more, in data.json.</p>\n")),
    }
}

/// Runs by workflow, lane and branch.
pub(super) fn by(view: &View<'_>, bins: &[Bin<'_>]) -> Html {
    let workflows = grouped(view, bins, "By workflow", |run| &run.workflow);
    let lanes = grouped(view, bins, "By lane", |run| &run.lane);
    let branches = grouped(view, bins, "By branch", groups::branch);
    [workflows, lanes, branches].into_iter().collect()
}

fn grouped(view: &View<'_>, bins: &[Bin<'_>], title: &str, by: fn(&Run) -> &str) -> Html {
    let groups = groups::groups(&view.facts.runs, view.without, by);
    let rows: Vec<Vec<Html>> = groups.iter().take(ROWS).map(|group| row(view, bins, by, group)).collect();
    let head = ["Name", "Hit rate", "", "Runs", "Job time", "Saved", "Success"];
    [
        Html::of(format_args!("<section class=card>")),
        table(title, &head, 3, &rows),
        more(groups.len()),
        Html::of(format_args!("</section>\n")),
    ]
    .into_iter()
    .collect()
}

fn row(view: &View<'_>, bins: &[Bin<'_>], by: fn(&Run) -> &str, group: &Group<'_>) -> Vec<Html> {
    let figures = &group.figures;
    let of_bin = |bin: &Bin<'_>| {
        let runs = bin.runs.iter().copied().filter(|run| by(run) == group.name);
        Figures::of(runs, view.without).hit_rate
    };
    let rates: Vec<Option<f64>> = bins.iter().map(of_bin).collect();
    vec![
        name(group.name),
        known(figures.hit_rate.map(text::signed_percent)),
        spark(&rates),
        Html::text(&text::number(figures.runs)),
        known(figures.job_ms.map(text::long_time)),
        known(figures.saved_ms.map(signed)),
        known(figures.success_rate.map(text::signed_percent)),
    ]
}

/// A time that may be negative.
pub(super) fn signed(ms: i64) -> String {
    let shown = text::long_time(ms.unsigned_abs());
    if ms < 0 { format!("−{shown}") } else { shown }
}

/// The derivations that took longest.
pub(super) fn slowest(view: &View<'_>) -> Html {
    let all = groups::slowest(&view.facts.runs);
    if all.is_empty() {
        return none(
            "Slowest derivations",
            "No build by nix-cache build is in these runs, so no derivation's time is known.",
        );
    }
    let most = all.first().map_or(1, |slow| slow.total_ms).max(1);
    let row = |slow: &groups::Slow| {
        vec![
            name(&slow.name),
            bar(slow.total_ms as f64 / most as f64),
            Html::text(&text::long_time(slow.total_ms)),
            Html::text(&text::number(slow.runs)),
            Html::text(&text::long_time(slow.median_ms)),
            Html::text(&text::long_time(slow.longest_ms)),
        ]
    };
    let rows: Vec<Vec<Html>> = all.iter().take(ROWS).map(row).collect();
    let head = ["Derivation", "", "All builds", "Builds", "Median", "Longest"];
    let note = Html::of(format_args!("<p class=note>Of the five derivations that took longest in each run.</p>\n"));
    card([table("Slowest derivations", &head, 2, &rows), note, more(all.len())])
}

/// What plans saved: targets that needed no build.
pub(super) fn plans(view: &View<'_>) -> Html {
    let plans: Vec<Run> = view.facts.runs.iter().filter(|run| run.targets.is_some()).cloned().collect();
    if plans.is_empty() {
        return Html::default();
    }
    let row = |group: &Group<'_>| {
        let sum =
            |of: fn(&Run) -> Option<u64>| group.runs.iter().filter_map(|run| of(run)).fold(0, u64::saturating_add);
        let (targets, skipped) = (sum(|run| run.targets), sum(|run| run.skipped));
        let share = (targets > 0).then(|| skipped as f64 / targets as f64);
        vec![
            name(group.name),
            Html::text(&text::number(group.runs.len() as u64)),
            known(median(group.runs.iter().filter_map(|run| run.evaluation_ms)).map(text::long_time)),
            Html::text(&text::number(targets)),
            Html::text(&text::number(skipped)),
            known(share.map(text::signed_percent)),
        ]
    };
    let groups = groups::groups(&plans, view.without, |run| &run.lane);
    let rows: Vec<Vec<Html>> = groups.iter().take(ROWS).map(row).collect();
    let head = ["Lane", "Plans", "Evaluation, median", "Targets", "Skipped", "Share"];
    let note =
        Html::of(format_args!("<p class=note>A skipped target needs no build, so no job is started for it.</p>\n"));
    card([table("Plans", &head, 1, &rows), note, more(groups.len())])
}

/// The failures that occurred most.
pub(super) fn failures(view: &View<'_>) -> Html {
    let all = failures::frequent(&view.facts.runs);
    if all.is_empty() {
        return none("Most frequent failures", "Nothing failed in these runs, as far as nix-cache build built it.");
    }
    let row = |frequent: &failures::Frequent| {
        let what = if frequent.name.is_empty() { &frequent.category } else { &frequent.name };
        vec![
            name(what),
            name(&frequent.category),
            Html::text(&text::number(frequent.times)),
            Html::text(&moment(frequent.last, "%-d %b %Y")),
        ]
    };
    let rows: Vec<Vec<Html>> = all.iter().take(ROWS).map(row).collect();
    card([table("Most frequent failures", &["What failed", "Category", "Runs", "Last"], 2, &rows), more(all.len())])
}

/// What the machines had, and what builds used of it.
pub(super) fn resources(view: &View<'_>) -> Html {
    let groups = groups::groups(&view.facts.runs, view.without, |run| &run.lane);
    let measured =
        |group: &&Group<'_>| group.runs.iter().any(|run| run.memory_peak.is_some() || run.cpu_percent.is_some());
    let measured: Vec<&Group<'_>> = groups.iter().filter(measured).collect();
    if measured.is_empty() {
        return none("Use of the machine", "It is measured by nix-cache build, of which no run is here.");
    }
    let row = |group: &&Group<'_>| {
        let (runs, last) = (&group.runs, group.runs.last());
        let peak = runs.iter().filter_map(|run| run.memory_peak).max();
        let (cpus, memory) = (last.map_or(0, |run| run.cpus), last.map_or(0, |run| run.memory));
        vec![
            name(group.name),
            Html::text(&text::number(cpus)),
            known(median(runs.iter().filter_map(|run| run.cpu_percent)).map(|percent| format!("{percent} %"))),
            Html::text(&text::bytes(memory)),
            known(peak.map(text::bytes)),
        ]
    };
    let rows: Vec<Vec<Html>> = measured.iter().take(ROWS).map(row).collect();
    let head = ["Lane", "Processors", "Busy while building", "Memory", "Most in use"];
    card([table("Use of the machine", &head, 1, &rows), more(measured.len())])
}

/// How old what the cache holds is.
pub(super) fn held(view: &View<'_>) -> Html {
    let entries = &view.facts.held;
    if entries.is_empty() {
        return none(
            "Age of what the cache holds",
            "The job that made this page could not list the cache: it needs the permission actions: read.",
        );
    }
    let ages = [("less than a day", DAY), ("1 to 7 days", 7 * DAY), ("7 to 30 days", 30 * DAY), ("older", u64::MAX)];
    let mut from = 0;
    let mut rows = Vec::new();
    for (label, to) in ages {
        let those = || entries.iter().filter(move |entry| (from..to).contains(&entry.age));
        let sum = |is_ours: bool| {
            those().filter(|entry| entry.is_ours == is_ours).map(|entry| entry.bytes).fold(0, u64::saturating_add)
        };
        let idle =
            those().filter(|entry| entry.unused >= 5 * DAY).map(|entry| entry.bytes).fold(0, u64::saturating_add);
        let cells =
            [text::number(those().count() as u64), text::bytes(sum(true)), text::bytes(sum(false)), text::bytes(idle)];
        rows.push([label.to_owned()].into_iter().chain(cells).map(|cell| Html::text(&cell)).collect());
        from = to;
    }
    let note = Html::of(format_args!("<p class=note>GitHub evicts what nobody has read for 7 days.</p>\n"));
    let head = ["Stored", "Entries", "Nix store cache", "Other tools", "Unread for 5 days"];
    card([table("Age of what the cache holds", &head, 1, &rows), note])
}

/// The newest runs, with links to them.
pub(super) fn latest(view: &View<'_>) -> Html {
    let row = |run: &Run| {
        let time = Html::text(&moment(run.time, "%-d %b %H:%M"));
        let time = match (&view.facts.address, run.run) {
            (Some(address), number @ 1..) => {
                let address = Html::text(address);
                Html::of(format_args!("<a href=\"{address}/actions/runs/{number}\" rel=noreferrer>{time}</a>"))
            }
            _ => time,
        };
        vec![
            time,
            name(&run.lane),
            name(groups::branch(run)),
            Html::text(run.kind.word()),
            Html::text(match &*run.status {
                "success" => "✓ succeeded",
                "failure" => "✗ failed",
                "cancelled" => "cancelled",
                _ => "unknown",
            }),
            known((!run.hit.is_empty()).then(|| run.hit.clone())),
            known(run.hit_rate().map(text::signed_percent)),
            known(run.job_ms.map(text::long_time)),
        ]
    };
    let rows: Vec<Vec<Html>> = view.facts.runs.iter().rev().take(ROWS).map(row).collect();
    let head = ["Ended (UTC)", "Lane", "Branch", "Kind", "Result", "Hit", "Hit rate", "Time"];
    card([table("Latest runs", &head, 6, &rows)])
}

pub(super) fn card(parts: impl IntoIterator<Item = Html>) -> Html {
    let inside: Html = parts.into_iter().collect();
    Html::of(format_args!("<section class=card>{inside}</section>\n"))
}

/// A section without a table.
fn none(title: &str, why: &str) -> Html {
    let (title, why) = (Html::text(title), Html::text(why));
    Html::of(format_args!("<section class=card><h3>{title}</h3><p class=none>{why}</p></section>\n"))
}
