//! A finding, and the one builder that makes them.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Subject;
use super::policy::{Level, Policy};
use super::rules::Rule;
use crate::base::note::Severity;

/// Most findings of one audit: GitHub shows 5,000 results of an upload.
pub(crate) const MOST: usize = 5000;

/// Most characters of one text of a finding: parts of it come from lock files, feeds and tools.
const LONGEST: usize = 1000;

/// How sure a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Confidence {
    /// It follows from what the file or package itself says.
    #[default]
    Exact,
    /// A product is taken for another one of the same name.
    Candidate,
    /// The name of a store path was split by a rule of thumb. Never more than a notice.
    Guess,
}

/// Where a finding is: a file of the repository, and a line where one is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The file, from the top of the repository.
    pub file: String,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl Place {
    /// A file as a whole.
    pub(crate) fn file(file: &str) -> Self {
        Self { file: file.to_owned(), line: None, column: None }
    }
}

/// A published advisory that a finding is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Advisory {
    /// Such as `CVE-2026-1234`.
    pub id: String,
    /// Its CVSS base score, 0 to 10; none where nobody has given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Where to read about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
}

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Finding {
    /// The identifier of the rule; with a slash and the tool's own name for what a tool found.
    pub rule: String,
    /// How much it matters, by the policy.
    pub severity: Severity,
    /// What it is about: `input home-manager/nixpkgs`, `openssl 3.0.1`.
    pub subject: String,
    /// What is wrong, as a sentence.
    pub message: String,
    /// What to do, as a sentence; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Where.
    pub place: Place,
    /// How sure it is.
    pub confidence: Confidence,
    /// The advisory, for a vulnerability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<Advisory>,
    /// The same for the same finding in another commit: made of the rule, the subject and what tells two findings of them apart.
    pub fingerprint: String,
    /// Whether the base lacks it; none where nothing was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_new: Option<bool>,
}

/// The findings of one audit, as the rules add them.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    /// What the rules go by.
    pub policy: &'a Policy,
    /// The day that ages are counted to.
    pub today: NaiveDate,
    /// The exceptions for vulnerabilities that something needed, by number.
    pub used: BTreeSet<usize>,
    /// At most twice [`MOST`].
    found: Vec<Finding>,
    left_out: u64,
}

impl<'a> Findings<'a> {
    /// None yet.
    pub(super) fn new(policy: &'a Policy, today: NaiveDate) -> Self {
        Self { policy, today, used: BTreeSet::new(), found: Vec::new(), left_out: 0 }
    }

    /// Lets a rule look at the subject, unless it is off.
    pub(super) fn run(&mut self, rule: &Rule, subject: &Subject) {
        if self.policy.level(rule) != Level::Off {
            (rule.check)(subject, self);
        }
    }

    /// Starts a finding of `rule` about `subject`; [`Builder::add`] ends it.
    pub(crate) fn of<'b>(&'b mut self, rule: &Rule, subject: &str) -> Builder<'a, 'b> {
        let severity = self.policy.level(rule).severity();
        let finding = Finding {
            rule: rule.id.to_owned(),
            severity: severity.unwrap_or_default(),
            subject: cut(subject),
            message: String::new(),
            remedy: String::new(),
            place: Place::file("flake.lock"),
            confidence: Confidence::Exact,
            advisory: None,
            fingerprint: String::new(),
            is_new: None,
        };
        Builder { findings: self, finding: severity.map(|_| finding), identity: String::new() }
    }

    /// The findings, the worst first, and how many are left out.
    pub(super) fn finish(mut self) -> (Vec<Finding>, u64) {
        self.found.sort_by(|one, other| {
            let key = |finding: &Finding| (std::cmp::Reverse(finding.severity), finding.rule.clone());
            key(one).cmp(&key(other)).then_with(|| (&one.place, &one.subject).cmp(&(&other.place, &other.subject)))
        });
        self.found.dedup_by(|one, other| one.fingerprint == other.fingerprint && one.place == other.place);
        self.left_out += self.found.len().saturating_sub(MOST) as u64;
        self.found.truncate(MOST);
        (self.found, self.left_out)
    }

    /// Leaves out the least of what was found where there is too much, so that a thousand notices never hide an error.
    fn shrink(&mut self) {
        if self.found.len() >= 2 * MOST {
            // Stable: of those that matter alike, the first stay.
            self.found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
            self.left_out += (self.found.len() - MOST) as u64;
            self.found.truncate(MOST);
        }
    }
}

/// A finding that is being made.
#[derive(Debug)]
#[must_use = "nothing is found before `add`"]
pub(crate) struct Builder<'a, 'b> {
    findings: &'b mut Findings<'a>,
    /// None where the rule is off.
    finding: Option<Finding>,
    identity: String,
}

impl Builder<'_, '_> {
    /// What is wrong, and what to do.
    pub(crate) fn says(mut self, message: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.message = cut(message.as_ref());
            finding.remedy = cut(remedy.as_ref());
        }
        self
    }

    /// Where.
    pub(crate) fn at(mut self, place: Place) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.place = place;
        }
        self
    }

    /// Under a name of a tool's own, behind a slash.
    pub(crate) fn named(mut self, name: &str) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.rule = format!("{}/{}", finding.rule, cut(name));
        }
        self
    }

    /// With another severity than the rule has; off stays off.
    pub(crate) fn severity(mut self, severity: Severity) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.severity = severity;
        }
        self
    }

    /// With a lower severity than the rule has, where it is lower.
    pub(crate) fn at_most(mut self, severity: Severity) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.severity = finding.severity.min(severity);
        }
        self
    }

    /// How sure it is. A guess is a notice at most.
    pub(crate) fn confidence(mut self, confidence: Confidence) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.confidence = confidence;
        }
        self
    }

    /// What tells it apart from others of the same rule about the same subject, and stays the same from commit to commit: no line
    /// number and no hash of a store path.
    pub(crate) fn identity(mut self, identity: impl Into<String>) -> Self {
        self.identity = identity.into();
        self
    }

    /// The advisory it is about.
    pub(crate) fn advisory(mut self, advisory: Advisory) -> Self {
        self.identity.clone_from(&advisory.id);
        if let Some(finding) = &mut self.finding {
            finding.advisory = Some(advisory);
        }
        self
    }

    pub(crate) fn add(self) {
        let Some(mut finding) = self.finding else { return };
        if finding.confidence == Confidence::Guess {
            finding.severity = Severity::Notice;
        }
        finding.fingerprint = fingerprint(&[&finding.rule, &finding.subject, &self.identity]);
        self.findings.found.push(finding);
        self.findings.shrink();
    }
}

fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// `text` in one line of bounded length, without control characters.
pub(crate) fn cut(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut characters = text.chars().map(clean);
    let mut shown: String = characters.by_ref().take(LONGEST).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::rules::lock_age::RULE;
    use crate::audit::testing::day;

    #[test]
    fn a_guess_is_a_notice_and_what_is_off_is_not_found() {
        let mut policy = Policy::default();
        let mut findings = Findings::new(&policy, day("2026-11-26"));
        findings.of(&RULE, "a").confidence(Confidence::Guess).severity(Severity::Error).add();
        assert_eq!(findings.finish().0[0].severity, Severity::Notice);
        policy.severity.insert(RULE.id.to_owned(), Level::Off);
        let mut findings = Findings::new(&policy, day("2026-11-26"));
        findings.of(&RULE, "a").severity(Severity::Error).add();
        assert_eq!(findings.finish(), (Vec::new(), 0));
    }

    #[test]
    fn findings_are_bounded_in_number_and_length() {
        let policy = Policy::default();
        let mut findings = Findings::new(&policy, day("2026-11-26"));
        for number in 0..MOST + 3 {
            findings.of(&RULE, &format!("{number}\n{}", "x".repeat(5000))).says("é\u{1b}".repeat(5000), "").add();
        }
        let (found, left_out) = findings.finish();
        assert_eq!((found.len(), left_out), (MOST, 3));
        assert!(found.iter().all(|finding| finding.subject.chars().count() <= LONGEST + 1));
        assert!(
            found.iter().all(|finding| !format!("{}{}", finding.subject, finding.message).contains(char::is_control))
        );
    }

    #[test]
    fn many_notices_hide_no_error() {
        let policy = Policy::default();
        let mut findings = Findings::new(&policy, day("2026-11-26"));
        for number in 0..3 * MOST {
            findings.of(&RULE, &number.to_string()).severity(Severity::Notice).add();
            assert!(findings.found.len() < 2 * MOST, "memory is bounded");
        }
        findings.of(&RULE, "the worst").severity(Severity::Error).add();
        let (found, left_out) = findings.finish();
        assert_eq!((found.len(), left_out), (MOST, (2 * MOST + 1) as u64));
        assert_eq!((found[0].subject.as_str(), found[0].severity), ("the worst", Severity::Error));
    }

    #[test]
    fn a_fingerprint_tells_parts_apart() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(fingerprint(&["a"]).len(), 32);
    }
}
