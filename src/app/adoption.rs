//! Reads what GitHub knows of the jobs of the last days, for the comparison of the time before the cache with the time since.

use crate::base::clock::now;
use crate::base::human;
use crate::dashboard::{GithubJob, GithubJobs};
use crate::remote::github::{Requests, RunList, Runs, WorkflowJob};

/// Most runs whose jobs are read: one request each, of the 1,000 an hour that a job's token has for everything.
const MOST_READ: usize = 400;
/// In how many passes the runs are read, so that what was read at any time is spread over all of the days.
const PASSES: usize = 16;
/// Longest name, in characters.
const LONGEST: usize = 120;
const DAY: u64 = 86_400;

/// Reads the jobs of the last `days`. What cannot be read is said in the result.
pub(crate) async fn github_jobs(requests: Requests, days: u64) -> GithubJobs {
    let runs = Runs(requests);
    let to = now();
    tracing::info!("Reading the jobs of the last {days} days from GitHub.");
    let RunList { ids, total, why } = runs.list(to.saturating_sub(days * DAY), to).await;
    let mut found = GithubJobs { days, total, why, ..GithubJobs::default() };
    for id in spread(&ids) {
        match runs.jobs(id).await {
            Ok((jobs, more)) => {
                found.read += 1;
                found.unread_jobs += more;
                found.jobs.extend(jobs.iter().filter_map(job_of));
            }
            Err(why) => {
                found.why = Some(why);
                break;
            }
        }
    }
    if let Some(why) = &found.why {
        tracing::warn!("{}", unread(&found, why));
    } else if found.read < found.total {
        let why = format!("one page reads the jobs of at most {MOST_READ} runs, spread over all days.");
        tracing::info!("{}", unread(&found, &why));
        found.why = Some(why);
    }
    found
}

/// What was not read, in a sentence.
fn unread(found: &GithubJobs, why: &str) -> String {
    if found.read == 0 {
        return format!("The jobs of the last {} days were not read: {why}", found.days);
    }
    let (read, all) = (human::number(found.read), human::count(found.total, "run"));
    format!("The jobs of {read} of {all} were read: {why}")
}

/// At most [`MOST_READ`] of `ids`, in an order in which each part of the list is spread over all of it.
fn spread(ids: &[u64]) -> Vec<u64> {
    let kept: Vec<u64> = if ids.len() > MOST_READ {
        (0..MOST_READ).map(|index| ids[index * ids.len() / MOST_READ]).collect()
    } else {
        ids.to_vec()
    };
    (0..PASSES).flat_map(|pass| kept.iter().skip(pass).step_by(PASSES).copied().collect::<Vec<_>>()).collect()
}

/// A job that succeeded or failed, if its times make sense.
fn job_of(job: &WorkflowJob) -> Option<GithubJob> {
    let has_failed = match job.conclusion.as_deref()? {
        "success" => false,
        "failure" | "timed_out" => true,
        _ => return None,
    };
    let time = |text: &Option<String>| {
        let time = chrono::DateTime::parse_from_rfc3339(text.as_deref()?).ok()?;
        u64::try_from(time.timestamp()).ok()
    };
    let (started, ended) = (time(&job.started_at)?, time(&job.completed_at)?);
    let ms = ended.checked_sub(started)?.checked_mul(1000)?;
    let queued_ms = time(&job.created_at).and_then(|created| started.checked_sub(created)?.checked_mul(1000));
    let workflow = job.workflow_name.as_deref().unwrap_or_default();
    let name = if workflow.is_empty() { job.name.clone() } else { format!("{workflow} / {}", job.name) };
    Some(GithubJob { name: crate::report::text::cut(&name, LONGEST), ended, ms, queued_ms, has_failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_beginning_of_the_order_is_spread_over_all_days() {
        let ids: Vec<u64> = (0..5_000).collect();
        let order = spread(&ids);
        assert_eq!(order.len(), MOST_READ);
        let first: Vec<u64> = order[..25].to_vec();
        assert!(first.windows(2).all(|pair| pair[0] < pair[1]) && first[24] > 4_500 && first[0] < 200, "{first:?}");
        let few = spread(&[3, 4, 5]);
        assert_eq!(few, [3, 4, 5]);
        let unique: std::collections::BTreeSet<u64> = order.into_iter().collect();
        assert_eq!(unique.len(), MOST_READ);
    }

    #[test]
    fn only_jobs_with_possible_times_count() {
        let text = |text: &str| Some(text.to_owned());
        let job = WorkflowJob {
            name: "build".to_owned(),
            workflow_name: text("CI"),
            conclusion: text("success"),
            created_at: text("2026-11-01T10:00:00Z"),
            started_at: text("2026-11-01T10:00:30Z"),
            completed_at: text("2026-11-01T10:05:30Z"),
        };
        let found = job_of(&job).unwrap();
        assert_eq!((&*found.name, found.ms, found.queued_ms), ("CI / build", 300_000, Some(30_000)));
        let failed = job_of(&WorkflowJob { conclusion: text("timed_out"), ..job.clone() }).unwrap();
        assert_eq!((found.has_failed, failed.has_failed), (false, true));
        for wrong in [
            WorkflowJob { conclusion: text("skipped"), ..job.clone() },
            WorkflowJob { conclusion: None, ..job.clone() },
            WorkflowJob { started_at: None, ..job.clone() },
            WorkflowJob { started_at: text("2027-01-01T00:00:00Z"), ..job.clone() },
            WorkflowJob { completed_at: text("<script>"), ..job.clone() },
        ] {
            assert_eq!(job_of(&wrong), None, "{wrong:?}");
        }
        let early = WorkflowJob { created_at: text("2026-11-02T00:00:00Z"), ..job };
        assert_eq!(job_of(&early).unwrap().queued_ms, None);
    }
}
