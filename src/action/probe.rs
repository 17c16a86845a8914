//! The contract with the cache service, played against the real one: for `probe.yml`, and for whoever doubts it.

use super::job::Job;
use crate::app::Failure;
use crate::app::print::print;
use crate::base::secrets;
use crate::remote::github::{GithubConfig, probe};

/// Plays the contract and prints the table, in the log and in the job summary.
pub(super) async fn probe(job: &Job) -> Result<(), Failure> {
    let config = GithubConfig::from_env(secrets::var).map_err(Failure::work)?;
    let run = (job.facts.run_id.unwrap_or(0), job.facts.run_attempt.unwrap_or(0));
    // Outside of a run, the clock and the process tell one probe from the next.
    let nonce = format!("{}-{}-{}-{}", run.0, run.1, crate::base::clock::now(), std::process::id());
    let table = probe::probe(&config, &nonce).await.map_err(Failure::work)?;
    let text = table.markdown();
    print(&text);
    let summary = format!("### The cache service\n\n{text}");
    if std::env::var_os("GITHUB_STEP_SUMMARY").is_some()
        && let Err(error) = actions_rs::Summary::new().raw(summary, true).write()
    {
        tracing::warn!("The job summary could not be written: {error}.");
    }
    match table.differences() {
        0 => Ok(()),
        count => Err(Failure::work(format!(
            "The cache service differs from what this program relies on in {}.",
            crate::base::human::count(count as u64, "row")
        ))),
    }
}
