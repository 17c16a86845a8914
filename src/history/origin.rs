//! A record in an artifact against what GitHub says of the artifact's run. Whoever can open a pull request can write such a record, so what GitHub
//! knows is taken from GitHub, and a record that contradicts it is left out. The rest is the job's own word.

use super::{Run, artifact_name};

/// By how many seconds the clocks of GitHub and of a machine may differ.
const SLACK: u64 = 300;

/// What GitHub says of an artifact and its run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin<'a> {
    /// The name of the artifact.
    pub name: &'a str,
    pub run: u64,
    /// The number of attempts of the run.
    pub attempts: u64,
    pub event: &'a str,
    /// Short, and in another repository for a run of a fork.
    pub head_branch: &'a str,
    pub head_sha: &'a str,
    /// The pull requests from that branch; None if not all of them are known.
    pub pulls: Option<&'a [u64]>,
    pub is_foreign: bool,
    /// When the run began and the artifact was uploaded, in seconds since 1970.
    pub started: u64,
    pub uploaded: u64,
}

impl Origin<'_> {
    /// Whether the run is one for a pull request.
    pub(crate) fn is_pull(&self) -> bool {
        self.event.starts_with("pull_request") && self.event != "pull_request_target"
    }

    /// The record with what GitHub says.
    ///
    /// # Errors
    /// What it contradicts.
    pub(crate) fn confirm(&self, run: Run) -> Result<Run, &'static str> {
        let longest = self.uploaded.saturating_sub(self.started).saturating_add(SLACK).saturating_mul(1_000);
        let is_commit = self.is_pull() || self.is_foreign || run.sha == self.head_sha;
        match () {
            () if run.run != self.run => Err("it claims to be of another run"),
            () if artifact_name(&run) != self.name => Err("its attempt or lane is not that of its name"),
            () if !(1..=self.attempts).contains(&run.attempt) => Err("the run has no such attempt"),
            () if run.event != self.event => Err("another event started the run"),
            () if run.times().any(|ms| ms > longest) => Err("a time in it is longer than the run"),
            () if !is_commit => Err("it claims to be of another commit"),
            () => Ok(Run {
                git_ref: self.git_ref(&run.git_ref)?,
                sha: self.head_sha.to_owned(),
                time: self.uploaded,
                is_foreign: self.is_foreign,
                ..run
            }),
        }
    }

    /// The full ref, if GitHub confirms it; empty if nothing is known about it.
    fn git_ref(&self, claimed: &str) -> Result<String, &'static str> {
        if !self.is_pull() {
            let is_of_branch =
                ["refs/heads/", "refs/tags/"].iter().any(|kind| claimed.strip_prefix(kind) == Some(self.head_branch));
            return match (self.is_foreign, is_of_branch) {
                // Such a run is of a branch here, whose name GitHub does not say.
                (true, _) => Ok(String::new()),
                (_, true) => Ok(claimed.to_owned()),
                _ => Err("it claims to be of another branch"),
            };
        }
        let number = claimed.strip_prefix("refs/pull/").and_then(|rest| {
            let number = rest.strip_suffix("/merge").or_else(|| rest.strip_suffix("/head"))?;
            number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u64>().ok()).flatten()
        });
        match (number, self.pulls) {
            (None, _) => Err("its ref is not that of a pull request"),
            (Some(_), None) => Ok(String::new()),
            (Some(number), Some(pulls)) if pulls.contains(&number) => Ok(claimed.to_owned()),
            _ => Err("it claims to be of another pull request"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Run {
        Run {
            time: 7,
            run: 70,
            attempt: 2,
            lane: "CI/build".into(),
            git_ref: "refs/pull/7/merge".into(),
            event: "pull_request".into(),
            sha: "merge".into(),
            hit: "miss".into(),
            job_ms: Some(600_000),
            ..Run::default()
        }
    }

    fn confirm(run: Run, change: impl FnOnce(&mut Origin<'_>)) -> Result<Run, &'static str> {
        let name = artifact_name(&record());
        let mut origin = Origin {
            name: &name,
            run: 70,
            attempts: 2,
            event: "pull_request",
            head_branch: "main",
            head_sha: "head",
            pulls: Some(&[6, 7]),
            is_foreign: true,
            started: 1_790_000_000,
            uploaded: 1_790_000_600,
        };
        change(&mut origin);
        origin.confirm(run)
    }

    #[test]
    fn what_github_says_counts_and_what_contradicts_it_is_refused() {
        let taken = confirm(record(), |_| ()).unwrap();
        let expected = Run { time: 1_790_000_600, sha: "head".into(), is_foreign: true, ..record() };
        assert_eq!(taken, expected);
        for (wrong, why) in [
            (Run { run: 71, ..record() }, "another run"),
            (Run { attempt: 1, ..record() }, "attempt or lane"),
            (Run { lane: "CI/release".into(), ..record() }, "attempt or lane"),
            (Run { event: "push".into(), ..record() }, "another event"),
            (Run { git_ref: "refs/heads/main".into(), ..record() }, "not that of a pull request"),
            (Run { git_ref: "refs/pull/8/merge".into(), ..record() }, "another pull request"),
            (Run { git_ref: "refs/pull/7/merge/merge".into(), ..record() }, "not that of a pull request"),
            (Run { git_ref: "refs/pull/+7/merge".into(), ..record() }, "not that of a pull request"),
            (Run { restore_ms: Some(900_001), ..record() }, "longer than the run"),
        ] {
            let refused = confirm(wrong.clone(), |_| ()).unwrap_err();
            assert!(refused.contains(why), "{wrong:?}: {refused}");
        }
        assert!(confirm(record(), |origin| origin.attempts = 1).unwrap_err().contains("no such attempt"));
        // A pull request that cannot be checked is not named.
        assert_eq!(confirm(record(), |origin| origin.pulls = None).unwrap().git_ref, "");
    }

    #[test]
    fn a_run_of_this_repository_is_of_its_own_branch_and_commit() {
        let push = Run { event: "push".into(), git_ref: "refs/heads/main".into(), sha: "head".into(), ..record() };
        let here =
            |run: Run, is_foreign| confirm(run, |origin| (origin.event, origin.is_foreign) = ("push", is_foreign));
        assert_eq!(here(push.clone(), false).unwrap(), Run { time: 1_790_000_600, ..push.clone() });
        assert_eq!(
            here(Run { git_ref: "refs/tags/main".into(), ..push.clone() }, false).unwrap().git_ref,
            "refs/tags/main"
        );
        let other = Run { git_ref: "refs/heads/release".into(), ..push.clone() };
        assert_eq!(here(other, false), Err("it claims to be of another branch"));
        assert_eq!(here(Run { sha: "other".into(), ..push.clone() }, false), Err("it claims to be of another commit"));
        // For the head of a fork, neither the branch nor the commit can be checked.
        let foreign = here(push, true).unwrap();
        assert_eq!((&*foreign.git_ref, &*foreign.sha, foreign.is_foreign), ("", "head", true));
    }
}
