//! The result of a build, for programs. `docs/report.md` describes each field for users.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::artifacts::Artifact;
use super::category::Category;
use super::checks::{Check, Verdict};
use super::failure::Failure;
use super::nix::Attempt;
use super::resources::Resources;
use super::text::name_of;
use super::watch::{Build, Ending, Transfer, Way};

/// Most derivations and paths that are listed, those that took longest.
const MOST: usize = 1_000;

/// How a build ended as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// All was built, and all checks that ran passed.
    #[default]
    Succeeded,
    /// Something failed.
    Failed,
    /// It was stopped from outside.
    Cancelled,
}

/// Everything about one build. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct BuildReport {
    /// The targets to build.
    pub targets: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed; null when it did not.
    pub category: Option<Category>,
    /// From start to end.
    pub ms: u64,
    /// How often Nix was run.
    pub attempts: u64,
    /// Builds that could run at once; null where Nix's configuration says.
    pub max_jobs: Option<u64>,
    /// Processes that each could use; null where Nix's configuration says.
    pub cores: Option<u64>,
    /// Store paths that were wanted and are there.
    pub paths: Vec<String>,
    /// Sums.
    pub totals: Totals,
    /// Derivations that were built here, the longest first.
    pub derivations: Vec<DerivationTime>,
    /// Paths that came from elsewhere, the longest first.
    pub transfers: Vec<TransferTime>,
    /// Failures of the last attempt.
    pub failures: Vec<Failure>,
    /// Failures of earlier attempts, which were retried.
    pub retried: Vec<Failure>,
    /// Substituters that were left out because they kept failing.
    pub substituters_left_out: Vec<String>,
    /// Machine usage; null if it could not be measured.
    pub resources: Option<Resources>,
    /// Files that were made of the outputs.
    pub artifacts: Vec<Artifact>,
    /// Checks that were run beside it.
    pub checks: Vec<Check>,
    /// Whether the step has written a summary of it itself.
    pub summarized: bool,
}

/// Sums over all attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Totals {
    /// Derivations that were built.
    pub built: u64,
    /// Derivations that failed.
    pub failed: u64,
    /// Paths from substituters.
    pub substituted: u64,
    /// Paths copied from other stores.
    pub copied: u64,
    /// Bytes downloaded.
    pub downloaded_bytes: u64,
    /// Until the first build or download began.
    pub evaluation_ms: u64,
    /// Times of all builds.
    pub build_ms: u64,
    /// Times of all substitutions.
    pub substitute_ms: u64,
    /// Times of all copies.
    pub copy_ms: u64,
}

/// How long a derivation took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct DerivationTime {
    pub name: String,
    /// Its store path.
    pub derivation: String,
    /// How it ended.
    pub ending: Ending,
    /// When it began, from the start of the build.
    pub start_ms: u64,
    /// How long it took.
    pub ms: u64,
    /// Its phases, in order.
    pub phases: Vec<PhaseTime>,
}

/// How long a phase took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct PhaseTime {
    pub name: String,
    /// How long.
    pub ms: u64,
}

/// How long a path took to come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct TransferTime {
    /// How it came.
    pub way: Way,
    /// The store path.
    pub path: String,
    /// Where from, without password.
    pub from: String,
    /// When it began, from the start of the build.
    pub start_ms: u64,
    /// How long it took.
    pub ms: u64,
    /// Size of its NAR, as far as Nix told.
    pub bytes: u64,
}

impl BuildReport {
    /// Adds what an attempt did that began so long after the start.
    pub(super) fn add(&mut self, attempt: &Attempt, began: Duration) {
        let watch = &attempt.watch;
        self.attempts += 1;
        if self.attempts == 1 {
            self.totals.evaluation_ms = ms(watch.first_work.unwrap_or(attempt.elapsed));
        }
        self.totals.downloaded_bytes += watch.downloaded;
        for build in &watch.builds {
            let time = derivation(build, began);
            self.totals.build_ms += time.ms;
            match time.ending {
                Ending::Built => self.totals.built += 1,
                Ending::Failed => self.totals.failed += 1,
                Ending::Stopped => {}
            }
            self.derivations.push(time);
        }
        for moved in &watch.transfers {
            let time = transfer(moved, began);
            // What comes at the second try has come once.
            if let Some(at) = self.transfers.iter().position(|known| known.path == time.path) {
                let failed = self.transfers.remove(at);
                match failed.way {
                    Way::Substituted => self.totals.substituted -= 1,
                    Way::Copied => self.totals.copied -= 1,
                }
            }
            match time.way {
                Way::Substituted => {
                    self.totals.substituted += 1;
                    self.totals.substitute_ms += time.ms;
                }
                Way::Copied => {
                    self.totals.copied += 1;
                    self.totals.copy_ms += time.ms;
                }
            }
            self.transfers.push(time);
        }
        self.derivations.sort_by_key(|time| std::cmp::Reverse(time.ms));
        self.derivations.truncate(MOST);
        self.transfers.sort_by_key(|time| std::cmp::Reverse(time.ms));
        self.transfers.truncate(MOST);
        self.paths.clone_from(&attempt.paths);
    }

    /// Works out how it ended from the failures and checks.
    pub(super) fn conclude(&mut self) {
        let is_cancelled = |failure: &Failure| failure.category == Category::Cancelled;
        // What lasts is why it failed, and what may pass is not.
        let why = self.failures.iter().find(|failure| !failure.transient).or_else(|| self.failures.first());
        self.category = why.map(|failure| failure.category);
        let checks_failed = self.checks.iter().any(|check| check.verdict == Verdict::Failed);
        self.outcome = if self.failures.iter().any(is_cancelled) {
            self.category = Some(Category::Cancelled);
            Outcome::Cancelled
        } else if self.failures.is_empty() && !checks_failed {
            Outcome::Succeeded
        } else {
            // A check is a test of the project.
            self.category = self.category.or(Some(Category::Test));
            Outcome::Failed
        };
    }

    /// Checks that failed.
    pub(crate) fn failed_checks(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.verdict == Verdict::Failed)
    }
}

fn derivation(build: &Build, began: Duration) -> DerivationTime {
    let ends = build.phases.iter().skip(1).map(|(_, start)| *start).chain([build.end]);
    let phases = build
        .phases
        .iter()
        .zip(ends)
        .map(|((name, start), end)| PhaseTime { name: name.clone(), ms: ms(end.saturating_sub(*start)) });
    DerivationTime {
        name: name_of(&build.derivation).to_owned(),
        derivation: build.derivation.clone(),
        ending: build.ending,
        start_ms: ms(began + build.start),
        ms: ms(build.end.saturating_sub(build.start)),
        phases: phases.collect(),
    }
}

fn transfer(moved: &Transfer, began: Duration) -> TransferTime {
    TransferTime {
        way: moved.way,
        path: moved.path.clone(),
        from: super::substituters::shown(&moved.from),
        start_ms: ms(began + moved.start),
        ms: ms(moved.end.saturating_sub(moved.start)),
        bytes: moved.bytes,
    }
}

/// Whole milliseconds.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
