//! Comments on a pull request, as the command and the action share it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use super::settings::CommentArgs;
use crate::base::env_vars;
use crate::comment::base::{Base, Bases, Place};
use crate::comment::publish::{JOB, Published, publish};
use crate::comment::reports::{self, Age, Expected};
use crate::comment::{Page, Section, render};
use crate::github::env::Facts;
use crate::github::occasion::{EndedRun, Occasion};
use crate::history::{self, History, history_key, usual};
use crate::remote::Remote;
use crate::remote::github::{Comments, GithubRemote, Pull, Requests, RestConfig, Tuning};
use crate::series::sign::Keyring;

/// Where a comment is made.
pub(crate) struct Scene<'a> {
    /// The folder that the folders of reports are relative to.
    pub from: &'a Path,
    pub facts: &'a Facts,
    /// Where snapshots and the history are; None if the cache cannot be read.
    pub remote: Option<&'a dyn Remote>,
    /// The same, if it is GitHub's.
    pub github: Option<&'a GithubRemote>,
    pub keys: &'a Keyring,
    pub comments: Comments,
}

/// What became of a comment.
pub(crate) enum Done {
    Written(Published),
    /// It was only requested as text.
    Text(String),
    /// There is nothing to comment on, for this reason. That is not a problem.
    Nothing(String),
    /// It was not written for this reason, which somebody should know.
    Trouble(String),
}

/// Writes the comment, or only renders it.
///
/// # Errors
/// When the event of this run cannot be read, or names no pull request while none is given either.
pub(crate) async fn comment(args: &CommentArgs, scene: &Scene<'_>) -> Result<Done, Failure> {
    let occasion = Occasion::read(scene.facts).map_err(|why| Failure::work(format!("No comment: {why}.")))?;
    let about = match about(args, &occasion, scene).await? {
        Ok(about) => about,
        Err(done) => return Ok(done),
    };
    let page = match collect(args, scene, &about).await {
        Ok(page) => page,
        Err(why) => return Ok(Done::Trouble(why)),
    };
    let body = render(&page);
    if args.dry_run {
        return Ok(Done::Text(body));
    }
    let author = match (&args.author, scene.comments.login().await) {
        (Some(author), _) => author.clone(),
        (None, Ok(login)) => login.unwrap_or_else(|| JOB.to_owned()),
        (None, Err(error)) => return Ok(Done::Trouble(error.to_string())),
    };
    Ok(match publish(&scene.comments, &about.pull, (&page.marker, &author), &body).await {
        Ok(published) => {
            warn_of_author(&published, &author);
            Done::Written(published)
        }
        Err(why) => Done::Trouble(why),
    })
}

/// What is commented on.
struct About {
    pull: Pull,
    /// The run that made the reports, if it is known.
    run: Option<u64>,
}

/// Finds the pull request, and checks that it is still at the commit of the run.
async fn about(args: &CommentArgs, occasion: &Occasion, scene: &Scene<'_>) -> Result<Result<About, Done>, Failure> {
    let number = match (args.pull_request, occasion) {
        (Some(number), _) => Some(number),
        (None, Occasion::Pull { number, .. }) => Some(*number),
        (None, _) => None,
    };
    let (run, head) = match occasion {
        Occasion::Pull { number: known, head_sha } if number == Some(*known) => (scene.facts.run_id, Some(head_sha)),
        Occasion::Run(ended) => (Some(ended.id), Some(&ended.head_sha)),
        Occasion::Pull { .. } | Occasion::Other(_) => (None, None),
    };
    let found = match (number, occasion) {
        (Some(number), _) => one(&scene.comments, number).await,
        (None, Occasion::Run(ended)) => of_run(&scene.comments, ended).await,
        (None, Occasion::Other(event)) if !event.is_empty() => {
            Err(Done::Nothing(format!("The event {event} is not about a pull request.")))
        }
        (None, _) => return Err(Failure::usage("Name the pull request, such as `--pull-request 12`.")),
    };
    let pull = match found {
        Ok(pull) => pull,
        Err(done) => return Ok(Err(done)),
    };
    if let Some(head) = head.filter(|head| **head != pull.head.sha) {
        let number = pull.number;
        return Ok(Err(Done::Nothing(format!(
            "The pull request {number} has newer commits than {}, so the comment is left to their run.",
            head.get(..12).unwrap_or(head)
        ))));
    }
    Ok(Ok(About { pull, run }))
}

async fn one(comments: &Comments, number: u64) -> Result<Pull, Done> {
    match comments.pull(number).await {
        Ok(Ok(pull)) => Ok(pull),
        Ok(Err(refused)) => {
            let what = format!("read the pull request {number}");
            Err(Done::Trouble(refused.explain(&what, "pull-requests: write", &comments.0.repository)))
        }
        Err(error) => Err(Done::Trouble(error.to_string())),
    }
}

/// The pull request from the branch of a run. GitHub names none in the event if the branch is in a fork.
async fn of_run(comments: &Comments, run: &EndedRun) -> Result<Pull, Done> {
    let (owner, branch) = (&run.head_repository.owner.login, &run.head_branch);
    let pulls = match comments.0.pulls_from(owner, branch).await {
        Ok(Ok(pulls)) => pulls,
        Ok(Err(refused)) => {
            let what = "list pull requests";
            return Err(Done::Trouble(refused.explain(what, "pull-requests: write", &comments.0.repository)));
        }
        Err(error) => return Err(Done::Trouble(error.to_string())),
    };
    // One whose newest commit is that of the run, and an open one before a closed one.
    let best = pulls.iter().max_by_key(|pull| (pull.head.sha == run.head_sha, pull.is_open(), pull.number));
    best.cloned().ok_or_else(|| Done::Nothing(format!("There is no pull request from {owner}:{branch}.")))
}

/// Reads the reports and compares each with the base. Only what is shown of a report stays in memory.
async fn collect(args: &CommentArgs, scene: &Scene<'_>, about: &About) -> Result<Page, String> {
    let places: Vec<_> = args.reports.iter().map(|place| scene.from.join(place)).collect();
    let files = reports::files(&places);
    let shown = args.reports.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
    if files.found.is_empty() {
        return Err(format!(
            "No comment was written, because there is no report (*.json) in {shown}. Let each job upload the file that its output \
             `report` names, and download the artifacts into that folder."
        ));
    }
    let pull = &about.pull;
    let expected =
        Expected { repository: scene.comments.0.repository.clone(), head_sha: pull.head.sha.clone(), run: about.run };
    let history = history(args, scene).await;
    let mut bases = Bases::new(scene.remote.map(|remote| Place {
        remote,
        keys: scene.keys,
        list: scene.github.and_then(GithubRemote::rest),
        scopes: scene.github.map_or_else(Vec::new, readable),
        branch: pull.base.branch.clone(),
    }));
    let git_ref = format!("refs/heads/{}", pull.base.branch);
    let mut jobs: BTreeMap<String, (Age, Section)> = BTreeMap::new();
    let mut refused = Vec::new();
    for file in &files.found {
        let name = name_of(file, &places);
        let report = match reports::read(file, &expected) {
            Ok(report) => report,
            Err(why) => {
                tracing::info!("{name} is not used: {why}.");
                refused.push((name, why));
                continue;
            }
        };
        let lane = report.job.lane.clone();
        let age = reports::age(&report);
        if jobs.get(&lane).is_some_and(|(known, _)| *known >= age) {
            continue;
        }
        let usual = history.as_ref().and_then(|history| usual(history, (&lane, &report.machine.system, &git_ref)));
        let base: Result<Arc<Base>, String> = bases.of(&report).await;
        let section = Section::of(&report, usual, base.as_deref().map_err(String::as_str));
        jobs.insert(lane, (age, section));
    }
    if jobs.is_empty() {
        let (name, why) = refused.first().cloned().unwrap_or_default();
        let files = crate::base::human::count(files.found.len() as u64, "file");
        return Err(format!(
            "No comment was written, because none of {files} in {shown} is a report of this run. {name}: {why}."
        ));
    }
    Ok(Page {
        marker: format!("<!-- nix-cache:report:{} -->", args.header),
        sha: pull.head.sha.clone(),
        branch: pull.base.branch.clone(),
        run: run_address(scene, about.run),
        sections: jobs.into_values().map(|(_, section)| section).collect(),
        refused,
        is_cut: files.is_cut,
    })
}

/// The name of a file below the folders that were given.
fn name_of(file: &Path, places: &[PathBuf]) -> String {
    let below = places.iter().find_map(|place| file.strip_prefix(place).ok());
    below.filter(|below| !below.as_os_str().is_empty()).unwrap_or(file).display().to_string()
}

/// The history of the jobs; None, with a word about it, if it cannot be read.
async fn history(args: &CommentArgs, scene: &Scene<'_>) -> Option<History> {
    let key = history_key(&args.prefix_key);
    match history::load(scene.remote?, &key, scene.keys).await {
        Ok(loaded) => Some(loaded.record),
        Err(error) => {
            tracing::info!("The figures of the base branch are unknown: {error}");
            None
        }
    }
}

/// The references whose entries this job can read.
fn readable(github: &GithubRemote) -> Vec<String> {
    github.scopes().iter().filter(|scope| scope.readable()).map(|scope| scope.scope.clone()).collect()
}

/// The address of the run, from what the runner says.
fn run_address(scene: &Scene<'_>, run: Option<u64>) -> Option<String> {
    let server = super::dashboard::address(scene.facts.server_url.as_deref(), &scene.comments.0.repository)?;
    Some(format!("{server}/actions/runs/{}", run?))
}

/// The next run will look for a comment of the wrong account.
fn warn_of_author(published: &Published, author: &str) {
    if let Published::Created(comment) = published
        && !comment.author.is_empty()
        && !comment.author.eq_ignore_ascii_case(author)
    {
        tracing::warn!(
            "The comment was written as {}, and the next run looks for one of {author}. Set `author: {}`.",
            comment.author,
            comment.author
        );
    }
}

/// What became of the comment, for the log.
pub(crate) fn sentence(done: &Done) -> String {
    match done {
        Done::Written(Published::Created(comment)) => format!("Wrote the comment {}.", comment.url),
        Done::Written(Published::Updated(comment)) => format!("Updated the comment {}.", comment.url),
        Done::Text(_) => "The comment was only printed.".to_owned(),
        Done::Nothing(why) | Done::Trouble(why) => why.clone(),
    }
}

/// A connection to GitHub for comments.
///
/// # Errors
/// When there is no token or no repository.
pub(crate) fn requests(lookup: impl Fn(&str) -> Option<String>) -> Result<Requests, Failure> {
    let config = RestConfig::from_env(lookup).ok_or_else(|| {
        Failure::usage(
            "GitHub needs a token and the name of the repository. In a workflow, the action has both; elsewhere, set GITHUB_TOKEN, and \
             GITHUB_REPOSITORY to owner/name.",
        )
    })?;
    Requests::new(&config, Tuning::from_env(), env_vars::ca_file().as_deref()).map_err(Failure::usage)
}
