//! The dashboard: one page about the runs in a history, in files that any web server or artifact can hold.
//!
//! 1. Runs with impossible times are left out, and the others are sorted ([`Facts`]).
//! 2. They are summed up by time ([`bins`]), for the last days ([`figures`]) and by lane, branch and derivation ([`groups`]).
//! 3. The page is drawn as HTML and SVG without a script ([`page`]). Everything that comes from a record is escaped.
//!
//! The page loads nothing, and its content security policy forbids it to.

mod adoption;
mod audits;
mod badge;
mod bins;
mod chart;
mod draw;
mod failures;
mod figures;
mod goals;
mod groups;
mod html;
mod page;
mod tables;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::history::{Run, RunKind, Without};

pub(crate) use adoption::{GithubJob, GithubJobs};
pub(crate) use figures::Figures;
pub(crate) use goals::{Goal, GoalError, Goals, State};

/// The name of the page in its folder.
pub(crate) const INDEX: &str = "index.html";

/// Before this (1 January 2020), no job of ours ran; later than a day from now, none has.
const EARLIEST: u64 = 1_577_836_800;
const DAY: u64 = 86_400;

/// What a dashboard is about.
pub(crate) struct Facts {
    /// The heading.
    pub title: String,
    /// The address of the repository, for links to runs; None for no links.
    pub address: Option<String>,
    /// When it is made, in seconds since 1970.
    pub now: u64,
    pub goals: Goals,
    /// What the cache holds now; empty if unknown.
    pub held: Vec<HeldEntry>,
    /// What GitHub knows of all jobs; None if it was not asked.
    pub github: Option<GithubJobs>,
    /// Which records could not be read, in a sentence; None if all could.
    pub unread: Option<String>,
    /// The runs, oldest first.
    runs: Vec<Run>,
    /// Runs that were left out.
    odd: usize,
}

/// An entry of the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldEntry {
    pub bytes: u64,
    /// Since it was stored and since it was last read, in seconds.
    pub age: u64,
    pub unused: u64,
    pub is_ours: bool,
}

/// The data beside the page.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Data<'a> {
    schema: u32,
    title: &'a str,
    /// In seconds since 1970.
    generated: u64,
    /// The days that the figures are about.
    days: u64,
    figures: &'a Figures,
    goals: &'a [Goal],
    /// Null if GitHub was not asked.
    adoption: Option<&'a adoption::Adoption>,
    runs: &'a [Run],
}

/// A dashboard that was written.
pub(crate) struct Written {
    pub index: PathBuf,
    pub runs: usize,
    pub goals: Vec<Goal>,
    pub figures: Figures,
}

impl Facts {
    /// The facts about `runs`, which may be in any order.
    pub(crate) fn of(title: String, now: u64, goals: Goals, runs: impl IntoIterator<Item = Run>) -> Self {
        let is_odd = |run: &Run| run.time < EARLIEST || run.time > now.saturating_add(DAY);
        let (odd, mut runs): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(is_odd);
        runs.sort_by_key(|run| (run.time, run.id()));
        Self { title, address: None, now, goals, held: Vec::new(), github: None, unread: None, runs, odd: odd.len() }
    }
}

/// Writes the page, its data and the badges into `folder`, which is created.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(facts: &Facts, folder: &Path) -> std::io::Result<Written> {
    let without = Without::of(&facts.runs);
    let (figures, before) = figures::recent(&facts.runs, &without);
    let since = facts.runs.iter().find(|run| run.kind == RunKind::Job).map(|run| run.time);
    let adoption = facts.github.as_ref().map(|read| adoption::adoption(&read.jobs, since));
    let goals = facts.goals.measured(&figures, adoption.as_ref());
    let data = Data {
        schema: 1,
        title: &facts.title,
        generated: facts.now,
        days: figures::DAYS,
        figures: &figures,
        goals: &goals,
        adoption: adoption.as_ref(),
        runs: &facts.runs,
    };
    std::fs::create_dir_all(folder)?;
    let view = page::View {
        facts,
        without: &without,
        figures: &figures,
        before: &before,
        goals: &goals,
        adoption: adoption.as_ref(),
    };
    let index = folder.join(INDEX);
    for (name, body) in [
        (INDEX, page::page(&view)),
        ("data.json", serde_json::to_string(&data)? + "\n"),
        ("badge.json", badge::json(figures.hit_rate)),
        ("badge.svg", badge::svg(figures.hit_rate)),
    ] {
        std::fs::write(folder.join(name), body)?;
    }
    Ok(Written { index, runs: facts.runs.len(), goals, figures })
}

#[cfg(test)]
#[path = "dashboard_test.rs"]
mod tests;
