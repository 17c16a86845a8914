//! Makes a dashboard: of the history in the cache, of exported runs in files, or of both.

use std::path::Path;

use super::Failure;
use super::adoption::github_jobs;
use super::artifacts::collect;
use super::comment::requests;
use super::runs::read_runs;
use super::settings::DashboardArgs;
use crate::base::clock::now;
use crate::base::human;
use crate::dashboard::{Facts, Goal, GoalError, Goals, HeldEntry, State, Written, write};
use crate::history::{self, History, history_key};
use crate::plan::RULES_FILE;
use crate::remote::Remote;
use crate::report::text;
use crate::series::sign::Keyring;

/// Where a dashboard is made.
pub(crate) struct Scene<'a> {
    /// The folder that files in settings are relative to.
    pub from: &'a Path,
    /// Where the history is; None for runs in files alone.
    pub remote: Option<&'a dyn Remote>,
    pub keys: &'a Keyring,
    /// `owner/name`; empty outside of GitHub.
    pub repository: &'a str,
    /// The address of the repository's server; None outside of GitHub.
    pub server: Option<&'a str>,
    pub held: Vec<HeldEntry>,
    /// The variables from which a connection to GitHub is opened, if something there is to be read.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Writes the dashboard.
pub(crate) async fn make(args: &DashboardArgs, scene: Scene<'_>) -> Result<Written, Failure> {
    let goals = goals(args, scene.from)?;
    // Each has its own patience with limits of requests.
    let connection = |is_wanted: bool| is_wanted.then(|| requests(scene.variable)).transpose();
    let (jobs, artifacts) = (connection(args.github_days > 0)?, connection(args.github_artifacts)?);
    let mut runs = History::default();
    for file in &args.runs {
        runs = History::of(runs.runs.into_values().chain(read_runs(&scene.from.join(file))?));
    }
    if let Some(remote) = scene.remote {
        let known = history::load(remote, &history_key(&args.prefix_key), scene.keys).await;
        let known = known.map_err(|error| Failure::work(format!("No dashboard was written: {error}")))?;
        runs = History::of(runs.runs.into_values().chain(known.record.runs.into_values()));
    }
    let mut unread = None;
    if let Some(requests) = artifacts {
        let collected = collect(requests, &runs).await;
        collected.tell();
        unread = (collected.why.is_some() || !collected.refused.is_empty()).then(|| collected.sentence());
        runs = History::of(runs.runs.into_values().chain(collected.runs));
    }
    let title = args.title.clone().filter(|title| !title.trim().is_empty()).unwrap_or_else(|| {
        if scene.repository.is_empty() { "Nix store cache".to_owned() } else { scene.repository.to_owned() }
    });
    let mut facts = Facts::of(title, now(), goals, runs.runs.into_values());
    facts.address = address(scene.server, scene.repository);
    facts.held = scene.held;
    facts.unread = unread;
    if let Some(requests) = jobs {
        facts.github = Some(github_jobs(requests, args.github_days).await);
    }
    let folder = scene.from.join(&args.out);
    write(&facts, &folder).map_err(|error| {
        let place = folder.display();
        Failure::work(format!(
            "The dashboard cannot be written to {place}: {error}. Choose another folder, or make room for it."
        ))
    })
}

/// What was written and which goals are reached, in a sentence each.
pub(crate) fn sentences(written: &Written) -> Vec<String> {
    let runs = human::count(written.runs as u64, "run");
    let rate = written.figures.hit_rate.map_or("unknown".to_owned(), text::percent);
    let first =
        format!("The dashboard of {runs} is {}. In the last 30 days, the hit rate is {rate}.", written.index.display());
    let goal = |goal: &Goal| {
        let wanted = format!("The goal `{}` of {}", goal.name, text::percent(goal.wanted));
        match (goal.state, goal.value) {
            (State::Reached | State::Missed, Some(value)) => {
                format!("{wanted} is {}: {}{}.", goal.state.word(), text::signed_percent(value), goal.source())
            }
            _ => format!("Whether {} is reached is not known.", wanted.replacen("The", "the", 1)),
        }
    };
    [first].into_iter().chain(written.goals.iter().map(goal)).collect()
}

fn goals(args: &DashboardArgs, from: &Path) -> Result<Goals, Failure> {
    let goals = match &args.rules {
        // A file that the user names has to exist.
        Some(rules) if !from.join(rules).exists() => {
            Err(GoalError::Unreadable { file: rules.display().to_string(), error: "there is no such file".to_owned() })
        }
        Some(rules) => Goals::read(&from.join(rules), &rules.display().to_string()),
        None => Goals::read(&from.join(RULES_FILE), RULES_FILE),
    };
    goals.map_err(Failure::usage)
}

/// The address of the repository, if it looks like one.
pub(crate) fn address(server: Option<&str>, repository: &str) -> Option<String> {
    let is_plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let (owner, name) = repository.split_once('/')?;
    let server = server?.trim_end_matches('/');
    let is_address = server.strip_prefix("https://").is_some_and(|host| host.split([':', '/']).all(is_plain));
    (is_address && is_plain(owner) && is_plain(name)).then(|| format!("{server}/{owner}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_becomes_a_link() {
        let of = |server, repository| address(Some(server), repository);
        assert_eq!(of("https://github.com/", "a/b"), Some("https://github.com/a/b".to_owned()));
        assert_eq!(of("https://ghe.test:8443/git", "a/b.c").as_deref(), Some("https://ghe.test:8443/git/a/b.c"));
        for (server, repository) in [
            ("javascript:alert(1)", "a/b"),
            ("http://github.com", "a/b"),
            ("https://github.com", "a"),
            ("https://github.com", "a/b\"><script>"),
            ("https://a b", "a/b"),
        ] {
            assert_eq!(of(server, repository), None, "{server} {repository}");
        }
        assert_eq!(address(None, "a/b"), None);
    }
}
