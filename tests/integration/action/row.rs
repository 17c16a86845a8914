//! One row of the table: what happens to a job, and the expected result.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::job::{Job, Step};
use super::place::Place;
use crate::support::fake::{Fake, FakeConfig, Fault, RestPermission, Stats};

/// What happens, and what is to come of it.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "a row of a table: each is a column of its own")]
pub(super) struct Row {
    pub name: &'static str,
    /// Whether an earlier job has saved everything.
    warm: bool,
    at_restore: Vec<Fault>,
    at_save: Vec<Fault>,
    variables: Vec<(&'static str, &'static str)>,
    inputs: Vec<(&'static str, &'static str)>,
    rest: RestPermission,
    small_quota: bool,
    lag: bool,
    before: Duration,
    work: Duration,
    hit: &'static str,
    outcome: &'static str,
    reason: Option<&'static str>,
    notes: Vec<&'static str>,
    says: &'static str,
    stays_cold: bool,
}

fn row(name: &'static str, warm: bool) -> Row {
    Row {
        name,
        warm,
        at_restore: Vec::new(),
        at_save: Vec::new(),
        variables: Vec::new(),
        inputs: Vec::new(),
        rest: RestPermission::Read,
        small_quota: false,
        lag: false,
        before: Duration::ZERO,
        work: Duration::ZERO,
        hit: "miss",
        outcome: "skipped",
        reason: None,
        notes: Vec::new(),
        says: "",
        stays_cold: false,
    }
}

/// A job that finds what an earlier one saved, but for what happens to it.
pub(super) fn warm(name: &'static str) -> Row {
    row(name, true)
}

/// The first job.
pub(super) fn cold(name: &'static str) -> Row {
    row(name, false)
}

impl Row {
    /// In the main step.
    pub(super) fn at_restore(mut self, fault: Fault) -> Self {
        self.at_restore.push(fault);
        self
    }

    /// In the post step.
    pub(super) fn at_save(mut self, fault: Fault) -> Self {
        self.at_save.push(fault);
        self
    }

    /// In both.
    pub(super) fn all_along(self, fault: Fault) -> Self {
        self.at_restore(fault.clone()).at_save(fault)
    }

    /// With another variable of the runner's.
    pub(super) fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    /// With an input of the action's.
    pub(super) fn input(mut self, name: &'static str, value: &'static str) -> Self {
        self.inputs.push((name, value));
        self
    }

    /// With a token that may do this over REST.
    pub(super) fn rest(mut self, permission: RestPermission) -> Self {
        self.rest = permission;
        self
    }

    /// The repository's cache has room for a layer, and not for its snapshot too.
    pub(super) fn quota_of_one_layer(mut self) -> Self {
        self.small_quota = true;
        self
    }

    /// What the earlier job saved is not found in this one, though its names are taken.
    pub(super) fn not_found_yet(mut self) -> Self {
        self.lag = true;
        self
    }

    /// So long after the earlier job.
    pub(super) fn days_later(mut self, days: u64) -> Self {
        self.before = Duration::from_hours(24 * days);
        self
    }

    /// So long between its two steps.
    pub(super) fn hours_of_work(mut self, hours: u64) -> Self {
        self.work = Duration::from_hours(hours);
        self
    }

    /// It finds the store of the earlier job, whole.
    pub(super) fn exact(mut self) -> Self {
        self.hit = "exact";
        self
    }

    /// It finds nothing that it can use, and says why.
    pub(super) fn miss(self, notes: &[&'static str], says: &'static str) -> Self {
        self.says(notes, says)
    }

    /// Its notes have these codes, and its log these words.
    pub(super) fn says(mut self, notes: &[&'static str], says: &'static str) -> Self {
        self.notes.extend(notes);
        self.says = says;
        self
    }

    /// It writes a new generation.
    pub(super) fn saved(mut self) -> Self {
        self.outcome = "saved";
        self
    }

    /// It saves nothing, and no harm is done.
    pub(super) fn skipped(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// It should have saved and could not.
    pub(super) fn failed(mut self) -> Self {
        self.outcome = "failed";
        self
    }

    /// No later job finds anything either.
    pub(super) fn stays_cold(mut self) -> Self {
        self.stays_cold = true;
        self
    }

    /// Plays it.
    pub(super) fn play(&self, place: &Place) {
        let quota = if self.small_quota { place.layer + 20 } else { 10 << 30 };
        let fake = Fake::start(FakeConfig { quota, ..FakeConfig::default() });
        if self.warm {
            let earlier = place.job(&fake, &format!("{}-earlier", self.folder()), RestPermission::Read);
            place.work(&earlier);
            assert_eq!(earlier.post().report["save"]["outcome"], "saved");
        }
        fake.advance(self.before);
        if self.lag {
            fake.set_lookup_lag(Duration::from_hours(1));
        }
        let mut job = place.job_unstarted(&fake, &self.folder(), self.rest);
        self.variables.iter().for_each(|(name, value)| job.set(name, value));
        self.inputs.iter().for_each(|(name, value)| job.input(name, value));
        let restored = self.step(&fake, &self.at_restore, || job.restore());
        self.check_restore(&job, &restored, place);
        place.work(&job);
        fake.advance(self.work);
        let saved = self.step(&fake, &self.at_save, || job.post());
        self.check_save(&job, &restored, &saved);
        fake.set_lookup_lag(Duration::ZERO);
        self.check_recovery(&fake, place);
    }

    fn folder(&self) -> String {
        let kind = if self.warm { "warm" } else { "cold" };
        format!("{kind}-{}", self.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
    }

    /// A step during which these faults are switched on. Each of them must have struck.
    fn step(&self, fake: &Fake, faults: &[Fault], step: impl Fn() -> Step) -> Step {
        fake.clear_faults();
        let struck = |stats: &Stats| faults.iter().map(|fault| stats.struck(fault.name)).sum::<u64>();
        let before = struck(&fake.stats());
        for fault in faults {
            fake.fault(fault.clone());
        }
        let done = step();
        fake.clear_faults();
        assert_eq!(done.code, Some(0), "the job is red: {}", done.log);
        assert!(!done.log.contains("::error"), "{}", done.log);
        assert!(!done.log.contains("panicked"), "{}", done.log);
        // Once everything was refused, the post step need not ask again; the main step always asks.
        let must_strike = !faults.is_empty() && self.at_restore != self.at_save;
        assert!(!must_strike || struck(&fake.stats()) > before, "nothing went wrong: {}", done.log);
        done
    }

    fn check_restore(&self, job: &Job, step: &Step, place: &Place) {
        let outputs = job.outputs();
        assert_eq!(outputs["hit"], self.hit, "{}", step.log);
        let valid = if job.store.dirs().db_path().exists() { job.store.valid() } else { BTreeSet::default() };
        if self.hit == "exact" {
            assert_eq!(valid, place.paths, "{}", step.log);
            assert_eq!(outputs["paths-restored"], place.paths.len().to_string());
        } else {
            assert_eq!((valid.len(), &*outputs["paths-restored"]), (0, "0"), "{}", step.log);
        }
        if !valid.is_empty() {
            job.store.assert_sound();
            job.store.assert_verifies();
            job.store.assert_tidy();
        }
    }

    fn check_save(&self, job: &Job, restored: &Step, saved: &Step) {
        let save = &saved.report["save"];
        assert_eq!(save["outcome"], self.outcome, "{save}: {}", saved.log);
        if let Some(reason) = self.reason {
            assert_eq!(save["reason"], reason, "{}", saved.log);
        }
        assert!(save["entries-created"].as_u64() <= Some(3), "{save}");
        let log = format!("{}{}", restored.log, saved.log);
        assert!(log.contains(self.says), "it does not say {:?}: {log}", self.says);
        let summary = job.summary();
        assert_eq!(summary.matches("### Nix store cache").count(), 1, "{summary}");
        let of_restore = ["lookup-", "layer-", "snapshot-", "no-cache"];
        let trouble = self.notes.iter().any(|code| of_restore.iter().any(|start| code.starts_with(start)));
        let is_plain_miss = self.hit == "miss" && !trouble;
        assert_eq!(summary.contains("no snapshot matches yet"), is_plain_miss, "{summary}");
        for code in &self.notes {
            assert!(saved.notes().contains(code), "{code} is missing: {:?}: {log}", saved.notes());
            assert!(summary.contains(&format!("<sub>{code}</sub>")), "{code} is missing: {summary}");
        }
        let knows = |field: &Value| !field.is_null();
        assert_eq!(knows(&saved.report["quota"]), self.knows_usage(), "{}", saved.report);
        job.store.assert_sound();
    }

    /// Whether REST can be asked how full the cache is.
    fn knows_usage(&self) -> bool {
        let fails = self.at_save.iter().any(|fault| fault.on == Some(crate::support::fake::Operation::Usage));
        self.rest >= RestPermission::Read && !fails && self.reason != Some("no-cache")
    }

    /// When all is well again, a job or two later everything is found.
    fn check_recovery(&self, fake: &Fake, place: &Place) {
        for number in 0..2 {
            let later = place.job_unstarted(fake, &format!("{}-later-{number}", self.folder()), RestPermission::Read);
            let step = later.restore();
            assert_eq!(step.code, Some(0), "{}", step.log);
            if later.outputs()["hit"] == "exact" {
                assert!(!self.stays_cold);
                assert_eq!(later.store.valid(), place.paths);
                later.store.assert_sound();
                return;
            }
            place.work(&later);
            assert_eq!(later.post().report["save"]["outcome"], "saved");
        }
        assert!(self.stays_cold, "no later job finds anything");
    }
}
