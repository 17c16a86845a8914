//! The time before the cache was adopted, and since: how long jobs take by GitHub's own clock, from their start to their end with all
//! steps. Both sides are measured in the same way, so they can be compared.

use std::collections::BTreeMap;

use serde::Serialize;

use super::draw::known;
use super::figures::median;
use super::goals::Goal;
use super::html::{Html, table};
use super::page::View;
use super::tables::{card, more, name};
use crate::report::text;

/// Fewer runs on either side are not compared.
const LEAST: usize = 3;
/// Most rows of the table.
const ROWS: usize = 12;

/// A job that GitHub ran, and that succeeded or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GithubJob {
    /// Its workflow and its name.
    pub name: String,
    /// When it ended, in seconds since 1970.
    pub ended: u64,
    pub ms: u64,
    /// How long it waited for a machine.
    pub queued_ms: Option<u64>,
    pub has_failed: bool,
}

/// What was read of GitHub's runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct GithubJobs {
    pub days: u64,
    pub jobs: Vec<GithubJob>,
    /// Runs whose jobs were read, and runs that there are: 0 if that could not be read either.
    pub read: u64,
    pub total: u64,
    /// Why not all were read; None if all were.
    pub why: Option<String>,
    /// Jobs of runs that were read, but have too many to read all.
    pub unread_jobs: u64,
}

/// One job before and since.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Comparison {
    pub job: String,
    pub runs_before: usize,
    pub runs_since: usize,
    /// Medians in milliseconds; null with too few runs.
    pub before_ms: Option<u64>,
    pub since_ms: Option<u64>,
    pub queued_ms: Option<u64>,
}

/// All jobs before and since.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Adoption {
    /// When the oldest run in the history ended, in seconds since 1970; null without one.
    pub since: Option<u64>,
    pub jobs: Vec<Comparison>,
    /// By what share the jobs that are known on both sides are shorter; negative if they are longer.
    pub reduction: Option<f64>,
    /// Which share of all jobs succeeded, from 0 to 1; null with too few jobs.
    pub success_before: Option<f64>,
    pub success_since: Option<f64>,
}

/// Compares jobs that ended before `since` with later ones.
pub(crate) fn adoption(jobs: &[GithubJob], since: Option<u64>) -> Adoption {
    let mut names: BTreeMap<&str, [Vec<&GithubJob>; 2]> = BTreeMap::new();
    let is_since = |job: &GithubJob| since.is_some_and(|since| job.ended >= since);
    for job in jobs.iter().filter(|job| !job.has_failed) {
        names.entry(&job.name).or_default()[usize::from(is_since(job))].push(job);
    }
    let success = |of_side: bool| {
        let side: Vec<&GithubJob> = jobs.iter().filter(|job| is_since(job) == of_side).collect();
        let good = side.iter().filter(|job| !job.has_failed).count();
        (side.len() >= LEAST).then(|| good as f64 / side.len() as f64)
    };
    let [success_before, success_since] = [false, true].map(success);
    let middle = |jobs: &[&GithubJob]| (jobs.len() >= LEAST).then(|| median(jobs.iter().map(|job| job.ms))).flatten();
    let mut jobs: Vec<Comparison> = names
        .into_iter()
        .map(|(job, [before, after])| Comparison {
            job: job.to_owned(),
            runs_before: before.len(),
            runs_since: after.len(),
            before_ms: middle(&before),
            since_ms: middle(&after),
            queued_ms: median(before.iter().chain(&after).filter_map(|job| job.queued_ms)),
        })
        .collect();
    // Each job counts as often as it ran since.
    let known =
        jobs.iter().filter_map(|job| Some((job.before_ms? as f64, job.since_ms? as f64, job.runs_since as f64)));
    let (before, after) =
        known.fold((0.0, 0.0), |sum, (before, after, runs)| (sum.0 + before * runs, sum.1 + after * runs));
    jobs.sort_by_key(|job| std::cmp::Reverse(job.runs_before + job.runs_since));
    Adoption { since, jobs, reduction: (before > 0.0).then(|| 1.0 - after / before), success_before, success_since }
}

/// The section of the page; nothing if GitHub's runs were not read.
pub(super) fn section(view: &View<'_>) -> Html {
    let (Some(read), Some(adoption)) = (&view.facts.github, view.adoption) else { return Html::default() };
    let change = |job: &Comparison| {
        let (before, since) = (job.before_ms.filter(|ms| *ms > 0)? as f64, job.since_ms? as f64);
        Some(longer_or_shorter(1.0 - since / before))
    };
    let row = |job: &Comparison| {
        vec![
            name(&job.job),
            Html::text(&text::number(job.runs_before as u64)),
            known(job.before_ms.map(text::long_time)),
            Html::text(&text::number(job.runs_since as u64)),
            known(job.since_ms.map(text::long_time)),
            known(change(job)),
            known(job.queued_ms.map(text::long_time)),
        ]
    };
    let rows: Vec<Vec<Html>> = adoption.jobs.iter().take(ROWS).map(row).collect();
    let head = ["Job", "Runs before", "Time before", "Runs since", "Time since", "Change", "Waited for a machine"];
    let text = sentences(read, adoption, view.goals.iter().find(|goal| goal.is_githubs)).join(" ");
    let note = Html::of(format_args!("<p class=note>{}</p>\n", Html::text(&text)));
    if rows.is_empty() {
        return card([Html::of(format_args!("<h3>Before the cache, and since</h3>\n")), note]);
    }
    card([table("Before the cache, and since", &head, 1, &rows), note, more(adoption.jobs.len())])
}

/// What the table says, and what it was made of.
fn sentences(read: &GithubJobs, adoption: &Adoption, goal: Option<&Goal>) -> Vec<String> {
    if let (0, Some(why)) = (read.read, &read.why) {
        return vec![format!("The jobs of the last {} days were not read: {why}", read.days)];
    }
    let mut said = Vec::new();
    match (adoption.since, adoption.reduction) {
        (None, _) => said.push("The history has no run, so all of these jobs count as before the cache.".to_owned()),
        (Some(since), None) => {
            let day = super::bins::moment(since, "%-d %b %Y");
            said.push(format!(
                "The cache is known since {day}; no job has {LEAST} successful runs on both sides of it."
            ));
        }
        (Some(since), Some(share)) => {
            let day = super::bins::moment(since, "%-d %b %Y");
            let goal = goal.map_or(String::new(), |goal| {
                format!(" (goal of {}: {})", text::percent(goal.wanted), goal.state.word())
            });
            said.push(format!("Since {day}, jobs are {}{goal}.", longer_or_shorter(share)));
        }
    }
    let all = text::count(read.total, "run");
    said.push(match &read.why {
        None => format!("Medians of successful jobs, of {all} in {} days, with all of their steps.", read.days),
        Some(why) => format!(
            "Medians of successful jobs, with all of their steps, of {} of {all} in {} days. The rest was not read: {why}",
            text::number(read.read),
            read.days
        ),
    });
    if read.unread_jobs > 0 {
        let unread = text::count(read.unread_jobs, "job was not read|jobs were not read");
        said.push(format!("Of runs with very many jobs, {unread}."));
    }
    let success = [(adoption.success_before, "before"), (adoption.success_since, "since")];
    let success = success.iter().filter_map(|(share, when)| Some(format!("{} {when}", text::percent((*share)?))));
    let success: Vec<String> = success.collect();
    if !success.is_empty() {
        said.push(format!("Success rate of all jobs: {}.", success.join(", ")));
    }
    said
}

fn longer_or_shorter(share: f64) -> String {
    format!("{} {}", text::unbounded_percent(share.abs()), if share < 0.0 { "longer" } else { "shorter" })
}

#[cfg(test)]
mod tests {
    use super::super::{Figures, Goals};
    use super::*;

    fn job(name: &str, ended: u64, minutes: u64) -> GithubJob {
        GithubJob { name: name.to_owned(), ended, ms: minutes * 60_000, queued_ms: Some(5_000), has_failed: false }
    }

    #[test]
    fn only_jobs_with_enough_runs_on_both_sides_are_compared() {
        let jobs: Vec<GithubJob> = [(1, 20), (2, 22), (3, 24), (10, 11), (11, 10), (12, 12)]
            .map(|(ended, minutes)| job("CI / build", ended, minutes))
            .into_iter()
            .chain((1..9).map(|ended| job("CI / lint", ended, 1)))
            .collect();
        let found = adoption(&jobs, Some(10));
        assert_eq!(found.reduction, Some(0.5));
        let (lint, build) = (&found.jobs[0], &found.jobs[1]);
        assert_eq!((lint.before_ms, lint.since_ms, lint.runs_before), (Some(60_000), None, 8));
        assert_eq!((build.before_ms, build.since_ms, build.queued_ms), (Some(1_320_000), Some(660_000), Some(5_000)));
        assert_eq!(adoption(&jobs, None).reduction, None);
        assert_eq!((found.success_before, found.success_since), (Some(1.0), Some(1.0)));
        // Jobs that failed early are not shorter.
        let failed = |ended| GithubJob { has_failed: true, ..job("CI / build", ended, 1) };
        let with = adoption(&[jobs, vec![failed(1), failed(11)]].concat(), Some(10));
        assert_eq!((&with.jobs, with.reduction), (&found.jobs, Some(0.5)));
        assert_eq!((with.success_before, with.success_since), (Some(11.0 / 12.0), Some(0.75)));
        assert_eq!(adoption(&[], Some(1)), Adoption { since: Some(1), ..Adoption::default() });
    }

    #[test]
    fn what_was_not_read_is_said() {
        let read = GithubJobs {
            days: 90,
            read: 400,
            total: 1_240,
            why: Some("GitHub limits requests.".to_owned()),
            ..GithubJobs::default()
        };
        let found = Adoption { since: Some(1_790_000_000), reduction: Some(0.35), ..Adoption::default() };
        let goals = Goals { job_time_reduction: Some(0.4), ..Goals::default() };
        let goals = goals.measured(&Figures::default(), Some(&found));
        let said = sentences(&read, &found, goals.first()).join(" ");
        assert!(said.starts_with("Since 21 Sep 2026, jobs are 35.0 % shorter (goal of 40.0 %: missed)."), "{said}");
        assert!(
            said.contains("of 400 of 1,240 runs in 90 days") && said.ends_with("GitHub limits requests."),
            "{said}"
        );
        let many = GithubJobs { unread_jobs: 1_200, why: None, ..read.clone() };
        let said = sentences(&many, &found, None).join(" ");
        assert!(said.contains("Of runs with very many jobs, 1,200 jobs were not read."), "{said}");
        let slower = Adoption { reduction: Some(-0.1), ..found };
        assert!(sentences(&read, &slower, None)[0].contains("10.0 % longer."));
        let thrice = Adoption { reduction: Some(-2.0), ..slower };
        assert!(sentences(&read, &thrice, None)[0].contains("200.0 % longer."));
        assert!(sentences(&read, &Adoption::default(), None)[0].contains("has no run"));
        let known = Adoption { success_before: Some(0.9), success_since: Some(0.95), ..Adoption::default() };
        let success = "Success rate of all jobs: 90.0 % before, 95.0 % since.";
        assert!(sentences(&read, &known, None)[2] == success, "{:?}", sentences(&read, &known, None));
        // How many there are is not known either: they do not count as absent.
        let unread = |total| GithubJobs { read: 0, total, why: Some("GitHub answers 403.".to_owned()), ..read.clone() };
        assert_eq!(sentences(&unread(350), &known, None), sentences(&unread(0), &known, None));
        assert_eq!(
            sentences(&unread(0), &known, None),
            ["The jobs of the last 90 days were not read: GitHub answers 403."]
        );
    }
}
