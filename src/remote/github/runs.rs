//! Runs of workflows and their jobs, through the REST interface. Needs a token with `actions: read`.
//!
//! A list with a filter ends after 1,000 runs, whatever their number. A span of time with more is therefore split in half until each
//! part has fewer. What could not be read is never taken for absent: the result says how many there are.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::requests::{CallError, Refused, Requests};

const PER_PAGE: u64 = 100;
/// Most runs that a list with a filter returns.
const MOST_LISTED: u64 = 1_000;
/// Shortest span that is split, in seconds.
const SHORTEST: u64 = 60;
/// Most pages of jobs of a run.
const JOB_PAGES: u64 = 5;

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct WorkflowRun {
    pub id: u64,
}

/// A job that has ended. Times are as GitHub writes them; None where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct WorkflowJob {
    pub name: String,
    pub workflow_name: Option<String>,
    /// `success`, `failure`, `cancelled`, `skipped` and others.
    pub conclusion: Option<String>,
    pub created_at: Option<String>,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
}

/// Runs of a span of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunList {
    /// The numbers of the runs that were listed, oldest first.
    pub ids: Vec<u64>,
    /// How many there are, as GitHub counts them.
    pub total: u64,
    /// Why the list is not complete; None if it is.
    pub why: Option<String>,
}

#[derive(Deserialize)]
struct RunPage {
    total_count: u64,
    workflow_runs: Vec<WorkflowRun>,
}

#[derive(Deserialize)]
struct JobPage {
    total_count: u64,
    jobs: Vec<WorkflowJob>,
}

/// The runs of a repository.
pub(crate) struct Runs(pub Requests);

impl Runs {
    /// Lists the runs that were created from `from` to `to`, in seconds since 1970, and have ended.
    pub(crate) async fn list(&self, from: u64, to: u64) -> RunList {
        let mut list = RunList::default();
        let mut found = BTreeSet::new();
        // The oldest span first.
        let mut spans = vec![(from, to)];
        let mut is_first = true;
        while let Some((from, to)) = spans.pop() {
            match self.span((from, to), &mut found).await {
                Ok(total) => {
                    if is_first {
                        list.total = total;
                    }
                    if total > MOST_LISTED && to - from > SHORTEST {
                        let middle = from + (to - from) / 2;
                        spans.extend([(middle + 1, to), (from, middle)]);
                    }
                }
                Err(why) => {
                    list.why = Some(why);
                    break;
                }
            }
            is_first = false;
        }
        list.ids = found.into_iter().collect();
        list.total = list.total.max(list.ids.len() as u64);
        list
    }

    /// Adds the runs of a span to `found`, unless it has to be split. Returns how many it has.
    async fn span(&self, (from, to): (u64, u64), found: &mut BTreeSet<u64>) -> Result<u64, String> {
        let mut total = 0;
        for page in 1..=MOST_LISTED / PER_PAGE {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("status", "completed")
                .append_pair("created", &format!("{}..{}", moment(from), moment(to)))
                .extend_pairs([("per_page", PER_PAGE), ("page", page)].map(|(name, value)| (name, value.to_string())))
                .finish();
            let what = "list the runs of workflows";
            let answer: RunPage = self.answer(what, &format!("/actions/runs?{query}")).await?;
            total = answer.total_count;
            let is_last = (answer.workflow_runs.len() as u64) < PER_PAGE;
            if total > MOST_LISTED && to - from > SHORTEST {
                break;
            }
            found.extend(answer.workflow_runs.into_iter().map(|run| run.id));
            if is_last {
                break;
            }
        }
        Ok(total)
    }

    /// The jobs of the last attempt of a run, and how many more than the first 500 it has.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) async fn jobs(&self, run: u64) -> Result<(Vec<WorkflowJob>, u64), String> {
        let (mut all, mut total) = (Vec::new(), 0);
        for page in 1..=JOB_PAGES {
            let path = format!("/actions/runs/{run}/jobs?filter=latest&per_page={PER_PAGE}&page={page}");
            let answer: JobPage = self.answer("list the jobs of a run", &path).await?;
            let is_last = (answer.jobs.len() as u64) < PER_PAGE;
            total = answer.total_count;
            all.extend(answer.jobs);
            if is_last {
                break;
            }
        }
        let more = if all.len() as u64 == JOB_PAGES * PER_PAGE { total.saturating_sub(all.len() as u64) } else { 0 };
        Ok((all, more))
    }

    async fn answer<T: serde::de::DeserializeOwned>(&self, what: &str, path: &str) -> Result<T, String> {
        match self.0.get(what, path).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(refused)) => Err(Refused::explain(&refused, what, "actions: read", &self.0.repository)),
            Err(error @ (CallError::Limited { .. } | CallError::Failed(_))) => Err(error.to_string()),
        }
    }
}

/// A time as GitHub reads it.
fn moment(seconds: u64) -> String {
    let time = chrono::DateTime::from_timestamp(i64::try_from(seconds).unwrap_or(0), 0).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
#[path = "runs_test.rs"]
mod tests;
