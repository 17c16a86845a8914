//! The page: a heading, the figures and goals of the last days, charts over time, and tables.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Facts;
use super::adoption::{self, Adoption};
use super::audits;
use super::bins::{Bin, bins, moment};
use super::chart::{Chart, Series, Unit};
use super::failures::{Recovery, recovery};
use super::figures::{DAYS, Figures};
use super::goals::{Goal, REDUCTION, State};
use super::html::Html;
use super::tables::{self, signed};
use crate::base::digest::Sha;
use crate::history::{Run, RunKind, Without};
use crate::remote::github::FREE_QUOTA;
use crate::report::text;

const STYLE: &str = include_str!("style.css");

/// What is shown.
pub(super) struct View<'a> {
    pub facts: &'a Facts,
    pub without: &'a Without,
    /// The figures of the last days, and those of as many days before.
    pub figures: &'a Figures,
    pub before: &'a Figures,
    pub goals: &'a [Goal],
    /// The time before the cache and since; None if GitHub was not asked.
    pub adoption: Option<&'a Adoption>,
}

/// The whole page.
pub(super) fn page(view: &View<'_>) -> String {
    let title = Html::text(&view.facts.title);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
        STANDARD.encode(Sha::of(STYLE.as_bytes()).0)
    );
    let body = if view.facts.runs.is_empty() {
        Html::of(format_args!(
            "<p class=none>There is no run in the history yet. The next job of the action is the first.</p>\n"
        ))
    } else {
        content(view)
    };
    let odd = match view.facts.odd as u64 {
        0 => String::new(),
        odd => format!(" {} with an impossible time left out.", text::count(odd, "run")),
    };
    let unread = view
        .facts
        .unread
        .as_deref()
        .map_or_else(Html::default, |unread| Html::of(format_args!(" {}", Html::text(unread))));
    let (made, version) = (moment(view.facts.now, "%-d %b %Y %H:%M"), env!("CARGO_PKG_VERSION"));
    format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n<meta name=referrer content=no-referrer>\n\
         <link rel=icon href=\"data:,\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=skip href=\"#content\">Skip to the figures</a>\n\
         <header><h1>{title}</h1>{}</header>\n<main id=content>\n{body}</main>\n\
         <footer><p>Made {made} UTC by nix-cache {version}.{odd}{unread} The same as JSON: <a href=\"data.json\">data.json</a>. \
         Badges: <a href=\"badge.svg\">badge.svg</a>, <a href=\"badge.json\">badge.json</a>.</p></footer>\n</body>\n</html>\n",
        subtitle(&view.facts.runs)
    )
}

fn subtitle(runs: &[Run]) -> Html {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Html::default() };
    let lanes: std::collections::BTreeSet<&str> = runs.iter().map(|run| &*run.lane).collect();
    let (from, to) = (moment(first.time, "%-d %b %Y"), moment(last.time, "%-d %b %Y"));
    let (runs, lanes) = (text::count(runs.len() as u64, "run"), text::count(lanes.len() as u64, "lane"));
    Html::of(format_args!("<p>Nix store cache: {runs} of {lanes}, {from} to {to}.</p>"))
}

fn content(view: &View<'_>) -> Html {
    let (bins, span) = bins(&view.facts.runs);
    let recovery = recovery(&view.facts.runs);
    let charts: Html = charts(view, &bins, &span, &recovery).iter().map(Chart::draw).collect();
    let tables = [
        adoption::section(view),
        tables::slowest(view),
        tables::failures(view),
        tables::plans(view),
        tables::resources(view),
        tables::held(view),
    ];
    let tables: Html = tables.into_iter().collect();
    Html::of(format_args!(
        "<section aria-labelledby=now><h2 id=now>The last {DAYS} days</h2><div class=figures>\n{}</div></section>\n\
         <section aria-labelledby=time><h2 id=time>Over time</h2><div class=grid>\n{charts}</div></section>\n\
         <section aria-labelledby=parts><h2 id=parts>What takes long, and what fails</h2><div class=grid>\n{tables}</div></section>\n\
         <section aria-labelledby=groups><h2 id=groups>Where</h2>\n{}{}</section>\n",
        figures(view, &bins),
        tables::by(view, &bins),
        tables::latest(view)
    ))
}

/// The figures of the last days, each with what became of it and its goal.
fn figures(view: &View<'_>, bins: &[Bin<'_>]) -> Html {
    let (now, before) = (view.figures, view.before);
    let share = |value: Option<f64>| value.map(text::signed_percent);
    let hits = figure("Hit rate", share(now.hit_rate), points(now.hit_rate, before.hit_rate), &goal(view, "hit-rate"));
    let longer = now.job_ms.zip(before.job_ms).map(|(now, before)| {
        let change = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub_unsigned(before);
        format!(
            "{}{} than before",
            text::long_time(change.unsigned_abs()),
            if change > 0 { " longer" } else { " shorter" }
        )
    });
    let time = figure(
        "Job time",
        now.job_ms.map(text::long_time),
        longer.or(Some("median, restore to save".to_owned())),
        &Html::default(),
    );
    let of = text::count(now.saved_runs, "run");
    let reduction = now.reduction.map(|share| {
        let word = if share < 0.0 { "longer" } else { "shorter" };
        format!("{of}, jobs {} {word} than without the cache", text::percent(share.abs()))
    });
    let why = "too few runs without a hit to compare with".to_owned();
    let saved = figure("Time saved", now.saved_ms.map(signed), reduction.or(Some(why)), &goal(view, REDUCTION));
    let success = figure(
        "Success rate",
        share(now.success_rate),
        points(now.success_rate, before.success_rate),
        &goal(view, "success-rate"),
    );
    let moved = figure(
        "Downloaded",
        Some(text::bytes(now.downloaded)),
        Some(format!("{} uploaded, in {}", text::bytes(now.uploaded), text::count(now.runs, "run"))),
        &Html::default(),
    );
    let held = view.facts.runs.iter().rev().find_map(|run| Some((run.held?, run.limit)));
    let held = figure(
        "Cache in use",
        held.map(|(held, _)| text::bytes(held)),
        Some(held.map_or("needs the permission actions: read".to_owned(), |(held, limit)| {
            let limit = limit.unwrap_or(FREE_QUOTA).max(1);
            format!("{} of {}", text::percent(held as f64 / limit as f64), text::bytes(limit))
        })),
        &Html::default(),
    );
    let audited = audits::newest(&audits::open(bins));
    let audited =
        audited.map(|(value, note)| figure("Open findings of audits", Some(value), Some(note), &Html::default()));
    [hits, time, saved, success, moved, held].into_iter().chain(audited).collect()
}

fn figure(name: &str, value: Option<String>, note: Option<String>, goal: &Html) -> Html {
    let (name, value) = (Html::text(name), super::draw::known(value));
    let note = note.map_or_else(Html::default, |note| Html::of(format_args!("<p>{}</p>", Html::text(&note))));
    Html::of(format_args!("<div class=figure><h3>{name}</h3><p class=value>{value}</p>{note}{goal}</div>\n"))
}

/// A change between two shares.
fn points(now: Option<f64>, before: Option<f64>) -> Option<String> {
    let change = (now? - before?) * 100.0;
    Some(match format!("{:.1}", change.abs()) {
        none if none == "0.0" => format!("as in the {DAYS} days before"),
        points if change > 0.0 => format!("{points} points more than in the {DAYS} days before"),
        points => format!("{points} points less than in the {DAYS} days before"),
    })
}

/// Where a goal stands; nothing if it is not set.
fn goal(view: &View<'_>, name: &str) -> Html {
    let Some(goal) = view.goals.iter().find(|goal| goal.name == name) else { return Html::default() };
    let (sign, word) = (
        match goal.state {
            State::Reached => "✓",
            State::Missed => "✗",
            State::Unknown => "?",
        },
        goal.state.word(),
    );
    let source = goal.source();
    Html::of(format_args!(
        "<p class=\"state {word}\">{sign} goal of {} {word}{source}</p>",
        Html::text(&text::signed_percent(goal.wanted))
    ))
}

fn charts<'a>(view: &View<'_>, bins: &'a [Bin<'_>], span: &str, recovery: &Recovery) -> Vec<Chart<'a>> {
    let chart = |id, title, text, unit, series| Chart::over(bins, (id, title, text), unit, series);
    let series = |name, class, of: &dyn Fn(&[&Run]) -> Option<f64>| Series {
        name,
        class,
        values: bins.iter().map(|bin| of(&bin.runs)).collect(),
    };
    let line = |value: Option<f64>, name: &str| {
        value.map(|value| (value, format!("{name} ({})", text::signed_percent(value))))
    };
    let figures = |runs: &[&Run]| Figures::of(runs.iter().copied(), view.without);
    let goals = &view.facts.goals;

    let mut hits = chart(
        "hits",
        "Hit rate",
        format!("Share of the store paths that jobs needed and that came from the cache, {span}."),
        Unit::Share,
        vec![series("hit rate", "a", &|runs| figures(runs).hit_rate)],
    );
    hits.line = line(goals.hit_rate, "goal");

    let part = |of: fn(&Run) -> Option<u64>| {
        move |runs: &[&Run]| {
            let timed: Vec<&&Run> =
                runs.iter().filter(|run| run.job_ms.is_some() && run.kind == RunKind::Job).collect();
            let sum: f64 = timed.iter().map(|run| of(run).unwrap_or(0) as f64).sum();
            (!timed.is_empty()).then(|| sum / timed.len() as f64)
        }
    };
    let mut time = chart(
        "jobs",
        "Job time and its parts",
        format!("Mean time of a job from the restore to the save, {span}."),
        Unit::Milliseconds,
        vec![
            series("restore", "b", &part(|run| run.restore_ms)),
            series("evaluation", "c", &part(|run| run.evaluation_ms)),
            series("build", "d", &part(|run| run.build_ms)),
            series("save", "a", &part(|run| run.save_ms)),
            series("other steps", "e", &part(other)),
        ],
    );
    time.line =
        wanted_time(view).map(|wanted| (wanted as f64, format!("goal ({} in the mean)", text::long_time(wanted))));

    let saved = chart(
        "saved",
        "Time saved",
        format!(
            "How much longer the jobs would have taken without the cache, {span}: compared with the median of the runs of the same lane that found nothing in it. Below zero, the cache cost more than it saved."
        ),
        Unit::Milliseconds,
        vec![series("saved", "a", &|runs| figures(runs).saved_ms.map(|ms| ms as f64))],
    );

    let bytes = |of: fn(&Run) -> u64| {
        move |runs: &[&Run]| (!runs.is_empty()).then(|| runs.iter().map(|run| of(run) as f64).sum())
    };
    let moved = chart(
        "moved",
        "Bytes moved",
        format!("Downloaded from the cache and uploaded to it, {span}."),
        Unit::Bytes,
        vec![
            series("downloaded", "b", &bytes(|run| run.downloaded)),
            series("uploaded", "d", &bytes(|run| run.uploaded)),
        ],
    );

    let of_status = |status: &'static str| {
        move |runs: &[&Run]| (!runs.is_empty()).then(|| runs.iter().filter(|run| run.status == status).count() as f64)
    };
    let mut success = chart(
        "success",
        "Jobs that succeeded",
        success_text(recovery, span),
        Unit::Count,
        vec![
            series("succeeded", "a", &of_status("success")),
            series("failed", "f", &of_status("failure")),
            series("cancelled", "e", &of_status("cancelled")),
        ],
    );
    success.line = None;

    let mut held = chart(
        "held",
        "Cache in use",
        format!("What the cache of the repository held, with that of other tools, {span}, at the end of each."),
        Unit::Bytes,
        vec![series("in use", "b", &|runs| runs.iter().rev().find_map(|run| run.held).map(|held| held as f64))],
    );
    let limit = view.facts.runs.iter().rev().find_map(|run| run.limit).unwrap_or(FREE_QUOTA);
    held.line = Some((limit as f64, format!("limit ({})", text::bytes(limit))));
    [hits, time, saved, moved, success, held].into_iter().chain(audits::charts(bins, span)).collect()
}

/// The time of a job that is in none of its parts.
fn other(run: &Run) -> Option<u64> {
    let parts = [run.restore_ms, run.evaluation_ms, run.build_ms, run.save_ms];
    Some(parts.into_iter().flatten().fold(run.job_ms?, u64::saturating_sub))
}

/// The mean time of a job with which the goal of shorter jobs is reached; None if there is no goal, or the time without the cache is
/// unknown.
fn wanted_time(view: &View<'_>) -> Option<u64> {
    let goal = view.facts.goals.job_time_reduction?;
    let times: Vec<u64> = view.facts.runs.iter().filter_map(|run| view.without.time(run)).collect();
    let mean = times.iter().map(|ms| *ms as f64).sum::<f64>() / times.len() as f64;
    (!times.is_empty()).then_some((mean * (1.0 - goal)) as u64)
}

fn success_text(recovery: &Recovery, span: &str) -> String {
    let mut sentences = vec![format!("Jobs by how they ended, {span}.")];
    if recovery.retried > 0 {
        sentences.push(format!(
            "{} retried; {} succeeded after it.",
            text::count(recovery.retried, "temporary failure was|temporary failures were"),
            text::count(recovery.rescued, "job")
        ));
    }
    if recovery.failed > 0 {
        let failed = text::count(recovery.failed, "job failed|jobs failed");
        sentences.push(match recovery.median_ms {
            Some(ms) => format!(
                "{failed} of a temporary cause; {} on the same branch, after a median of {}.",
                text::count(recovery.recovered, "was followed by a success|were followed by a success"),
                text::long_time(ms)
            ),
            None => format!("{failed} of a temporary cause, and none has succeeded since."),
        });
    }
    sentences.join(" ")
}
