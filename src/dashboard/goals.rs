//! The table `[goals]` of nix-cache.toml: what a repository wants to reach, and whether it does.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::Figures;
use super::adoption::Adoption;
use crate::base::bounds::{MAX_TEXT, read_text};
use crate::base::toml_text::{from_toml, line_at};

/// The goal of shorter jobs.
pub(super) const REDUCTION: &str = "job-time-reduction";

/// What a repository wants to reach, each as a share of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Goals {
    /// Of needed paths, those from the cache.
    pub hit_rate: Option<f64>,
    /// By how much jobs are shorter than without the cache.
    pub job_time_reduction: Option<f64>,
    /// Of jobs, those that succeed.
    pub success_rate: Option<f64>,
}

/// Why goals cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GoalError {
    #[error(
        "{file}, line {line}: {why}. The table [goals] has `hit-rate`, `job-time-reduction` and `success-rate`, each a number \
         from 0 to 1, such as 0.9."
    )]
    Wrong {
        file: String,
        /// The line, from 1.
        line: usize,
        why: String,
    },
    #[error("{file} cannot be read: {error}. Correct its name, or who may read it.")]
    Unreadable { file: String, error: String },
}

/// The file, of which this module reads one table.
#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    goals: Table,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    hit_rate: Option<Spanned<f64>>,
    job_time_reduction: Option<Spanned<f64>>,
    success_rate: Option<Spanned<f64>>,
}

/// Whether a goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Reached,
    Missed,
    Unknown,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Missed => "missed",
            Self::Unknown => "unknown",
        }
    }
}

/// A goal, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Goal {
    /// Its name in the file.
    pub name: &'static str,
    pub wanted: f64,
    pub value: Option<f64>,
    pub state: State,
    /// Whether the value is from GitHub's own records of jobs instead of the history.
    pub is_githubs: bool,
}

impl Goal {
    /// Where its value is from, to be added to it; empty if that is the history.
    pub(crate) fn source(&self) -> &'static str {
        if self.is_githubs { ", by GitHub's records" } else { "" }
    }
}

impl Goals {
    /// The goals in the file at `path`, called `name` in messages; none where there is no file.
    ///
    /// # Errors
    /// [`GoalError`], with the line.
    pub(crate) fn read(path: &Path, name: &str) -> Result<Self, GoalError> {
        match read_text(path, MAX_TEXT) {
            Ok(text) => Self::parse(&text, name),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(GoalError::Unreadable { file: name.to_owned(), error: error.to_string() }),
        }
    }

    fn parse(text: &str, name: &str) -> Result<Self, GoalError> {
        let wrong = |at: usize, why: &str| GoalError::Wrong {
            file: name.to_owned(),
            line: line_at(text, at),
            why: why.trim_end_matches('.').to_owned(),
        };
        let File { goals } = from_toml(text).map_err(|(at, why)| wrong(at, &why))?;
        let share = |value: Option<Spanned<f64>>| match value {
            Some(value) if !(0.0..=1.0).contains(value.get_ref()) => {
                Err(wrong(value.span().start, &format!("{} is not a share from 0 to 1", value.get_ref())))
            }
            value => Ok(value.map(Spanned::into_inner)),
        };
        Ok(Self {
            hit_rate: share(goals.hit_rate)?,
            job_time_reduction: share(goals.job_time_reduction)?,
            success_rate: share(goals.success_rate)?,
        })
    }

    /// The goals that are set, and whether `figures` reach them. For how much shorter jobs are, `adoption` counts where it is known: it
    /// compares jobs that ran without the cache, where the history can only calculate what they would have taken.
    pub(super) fn measured(&self, figures: &Figures, adoption: Option<&Adoption>) -> Vec<Goal> {
        let seen = adoption.and_then(|adoption| adoption.reduction);
        let all = [
            ("hit-rate", self.hit_rate, figures.hit_rate),
            (REDUCTION, self.job_time_reduction, seen.or(figures.reduction)),
            ("success-rate", self.success_rate, figures.success_rate),
        ];
        let measured = |(name, goal, value): (&'static str, Option<f64>, Option<f64>)| {
            let goal = goal?;
            let state = match value {
                None => State::Unknown,
                Some(value) if value >= goal => State::Reached,
                Some(_) => State::Missed,
            };
            Some(Goal { name, wanted: goal, value, state, is_githubs: name == REDUCTION && seen.is_some() })
        };
        all.into_iter().filter_map(measured).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "nix-cache.toml";

    #[test]
    fn goals_are_shares_and_mistakes_are_named_with_their_line() {
        let text =
            "[plan]\nexclude = [\"a\"]\n[goals]\nhit-rate = 0.9\njob-time-reduction = 0.4\nsuccess-rate = 0.95\n";
        let goals = Goals::parse(text, FILE).unwrap();
        assert_eq!((goals.hit_rate, goals.job_time_reduction, goals.success_rate), (Some(0.9), Some(0.4), Some(0.95)));
        assert_eq!(Goals::parse("", FILE), Ok(Goals::default()));
        assert_eq!(Goals::parse("[goals]\nhit-rate = 1\n", FILE).unwrap().hit_rate, Some(1.0));
        for (text, line, said) in [
            ("[goals]\nhit-rate = 90\n", 2, "90 is not a share"),
            ("[goals]\n\nsuccess-rate = nan\n", 3, "not a share"),
            ("[goals]\nhit-rate = \"90 %\"\n", 2, "invalid type"),
            ("[goals]\nhitrate = 0.9\n", 2, "unknown field `hitrate`"),
        ] {
            let error = Goals::parse(text, FILE).unwrap_err().to_string();
            assert!(error.starts_with(&format!("nix-cache.toml, line {line}: ")), "{text}: {error}");
            assert!(error.contains(said) && error.contains("`job-time-reduction`"), "{text}: {error}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Goals::read(&folder.path().join("x"), "x"), Ok(Goals::default()));
        assert!(matches!(Goals::read(folder.path(), "x"), Err(GoalError::Unreadable { .. })));
    }

    #[test]
    fn a_goal_whose_value_is_unknown_is_neither_reached_nor_missed() {
        let goals = Goals { hit_rate: Some(0.9), job_time_reduction: Some(0.4), success_rate: Some(0.95) };
        let figures = Figures { hit_rate: Some(0.9), success_rate: Some(0.949), ..Figures::default() };
        let states: Vec<State> = goals.measured(&figures, None).iter().map(|goal| goal.state).collect();
        assert_eq!(states, [State::Reached, State::Unknown, State::Missed]);
        assert!(Goals::default().measured(&figures, None).is_empty());
    }

    #[test]
    fn what_github_recorded_decides_over_what_was_calculated() {
        let goals = Goals { job_time_reduction: Some(0.4), ..Goals::default() };
        let figures = Figures { reduction: Some(0.3), ..Figures::default() };
        let one = |adoption: Option<&Adoption>| {
            let goal = goals.measured(&figures, adoption)[0];
            (goal.value, goal.state, goal.is_githubs)
        };
        assert_eq!(one(None), (Some(0.3), State::Missed, false));
        assert_eq!(one(Some(&Adoption::default())), (Some(0.3), State::Missed, false));
        let adoption = Adoption { reduction: Some(0.5), ..Adoption::default() };
        assert_eq!(one(Some(&adoption)), (Some(0.5), State::Reached, true));
    }
}
