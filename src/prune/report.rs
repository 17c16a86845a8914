//! A plan and its result, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use super::execute::Done;
use super::plan::Reason;
use super::prepare::Prepared;
use super::view::Rules;
use crate::base::human;
use crate::remote::{ListError, Listed};

/// Number of entries in the table for each reason; JSON has all.
const SHOWN: usize = 20;

/// A plan and its result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PruneReport {
    /// Whether entries were deleted, or would be.
    pub applied: bool,
    pub rules: Rules,
    /// Of all entries, those of other tools included.
    pub total_entries: u64,
    pub total_bytes: u64,
    pub other_tools_bytes: u64,
    /// Our own, before and after the plan.
    pub own_bytes: u64,
    pub remaining_bytes: u64,
    /// The greatest size that our own entries may have.
    pub target_bytes: Option<u64>,
    /// What is to be deleted, in order.
    pub planned: Vec<Deletion>,
    /// Number and bytes of what was deleted.
    pub deleted_entries: u64,
    pub deleted_bytes: u64,
    /// Number of layers of current keys that were looked up, so that GitHub evicts others first.
    pub refreshed_layers: u64,
    /// Why not everything was deleted.
    #[serde(serialize_with = "as_text")]
    pub ended: Option<ListError>,
    /// Snapshots that stay and could not be read: everything that they may name stays too.
    pub unread: Vec<Unread>,
}

/// One entry to delete.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Deletion {
    pub reason: Reason,
    pub kind: &'static str,
    pub name: String,
    #[serde(rename = "ref")]
    pub scope: String,
    pub bytes: u64,
    /// In seconds since 1970.
    pub created: u64,
    pub accessed: Option<u64>,
}

/// A snapshot that could not be read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Unread {
    pub name: String,
    #[serde(rename = "ref")]
    pub scope: String,
    pub why: String,
}

impl PruneReport {
    /// The report of a plan that was not carried out.
    pub(crate) fn of(prepared: &Prepared, rules: &Rules) -> Self {
        let plan = &prepared.plan;
        let deletion = |(index, reason): &(usize, Reason)| {
            let Listed { kind, name, scope, size, created, accessed, .. } = prepared.entries[*index].clone();
            let kind = kind.map_or("", |kind| kind.word());
            Deletion { reason: *reason, kind, name, scope, bytes: size, created, accessed }
        };
        let unread = |index: &usize| {
            let entry = &prepared.entries[*index];
            let why = prepared.unread.get(&entry.id).cloned().unwrap_or_default();
            Unread { name: entry.name.clone(), scope: entry.scope.clone(), why }
        };
        Self {
            applied: false,
            rules: rules.clone(),
            total_entries: prepared.entries.len() as u64,
            total_bytes: plan.total,
            other_tools_bytes: plan.foreign,
            own_bytes: plan.total.saturating_sub(plan.foreign),
            remaining_bytes: plan.remaining,
            target_bytes: plan.target,
            planned: plan.deletions.iter().map(deletion).collect(),
            deleted_entries: 0,
            deleted_bytes: 0,
            refreshed_layers: 0,
            ended: None,
            unread: plan.unknown.iter().map(unread).collect(),
        }
    }

    /// Adds the result of the plan.
    pub(crate) fn carried_out(&mut self, done: Done) {
        self.applied = true;
        self.deleted_entries = done.deleted.len() as u64;
        self.deleted_bytes = done.deleted.iter().map(|(entry, _)| entry.size).sum();
        self.refreshed_layers = done.refreshed;
        self.ended = done.ended;
    }

    fn planned_bytes(&self) -> u64 {
        self.planned.iter().map(|deletion| deletion.bytes).sum()
    }

    /// Sentences about the whole.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut all = vec![format!(
            "The cache has {} in {}; {} of that are ours.",
            human::bytes(self.total_bytes),
            human::count(self.total_entries, "entry|entries"),
            human::bytes(self.own_bytes)
        )];
        let planned = self.planned.len() as u64;
        all.push(match (planned, self.applied) {
            (0, _) => "Nothing is to be deleted.".to_owned(),
            (_, false) => format!(
                "{} would be deleted ({}). This is a dry run: nothing was changed.",
                human::count(planned, "entry|entries"),
                human::bytes(self.planned_bytes())
            ),
            (_, true) => format!(
                "{} of {} deleted ({} of {}).",
                human::number(self.deleted_entries),
                human::count(planned, "entry|entries"),
                human::bytes(self.deleted_bytes),
                human::bytes(self.planned_bytes())
            ),
        });
        if self.applied && self.ended.is_none() && self.deleted_entries < planned {
            all.push("The others are in use by now, so they stay.".to_owned());
        }
        all.extend(self.ended.as_ref().map(ToString::to_string));
        if let Some(target) = self.target_bytes.filter(|target| self.remaining_bytes > *target) {
            all.push(format!(
                "{} of ours remain, which is more than the {} that `max-total` leaves them: the rest is in use or was used in the \
                 last 6 hours.",
                human::bytes(self.remaining_bytes),
                human::bytes(target)
            ));
        }
        if let Some(first) = self.unread.first() {
            all.push(format!(
                "{} cannot be read here, so every layer that could be theirs stays. For one: {}{}: {}.",
                human::count(self.unread.len() as u64, "snapshot"),
                first.name,
                of(&first.scope),
                first.why
            ));
        }
        all
    }

    /// The reasons with number and bytes of their entries.
    pub(crate) fn by_reason(&self) -> Vec<(Reason, u64, u64)> {
        let of = |reason: Reason| self.planned.iter().filter(move |deletion| deletion.reason == reason);
        let all = Reason::ALL
            .map(|reason| (reason, of(reason).count() as u64, of(reason).map(|deletion| deletion.bytes).sum::<u64>()));
        all.into_iter().filter(|(_, count, _)| *count > 0).collect()
    }
}

#[allow(clippy::ref_option, reason = "serde passes the field")]
fn as_text<S: serde::Serializer>(error: &Option<ListError>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().map(ToString::to_string).serialize(serializer)
}

fn of(scope: &str) -> String {
    if scope.is_empty() { String::new() } else { format!(" of {scope}") }
}

/// The report as text: a table of what is deleted, then sentences.
pub(crate) fn table(report: &PruneReport) -> String {
    let mut text = String::new();
    for (reason, count, bytes) in report.by_reason() {
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{}, {} ({}):", human::count(count, "entry|entries"), reason.text(), human::bytes(bytes));
        let rows = report.planned.iter().filter(|deletion| deletion.reason == reason);
        for Deletion { kind, name, scope, bytes, .. } in rows.clone().take(SHOWN) {
            let _ = writeln!(text, "  {:>10}  {kind:<8}  {name}{}", human::bytes(*bytes), self::of(scope));
        }
        if rows.count() > SHOWN {
            let _ = writeln!(text, "  and {} more", human::number(count - SHOWN as u64));
        }
    }
    for sentence in report.sentences() {
        let _ = writeln!(text, "{sentence}");
    }
    text
}
