//! `exception-stale`

use super::super::Subject;
use super::super::finding::{Findings, Place};
use super::super::policy::Level;
use super::{Rule, Topic};

pub(in super::super) const RULE: Rule = Rule {
    id: "exception-stale",
    title: "An exception of the policy has ended, or is of no use any more",
    help: "Exceptions that nobody needs hide what comes later. Remove it, or give it another end. Whether one is of use is only known where packages and feeds were looked at.",
    level: Level::Warning,
    topic: Topic::Policy,
    check,
};

fn check(subject: &Subject, findings: &mut Findings<'_>) {
    let (policy, today) = (findings.policy, findings.today);
    let known = subject.feeds.is_some() && !subject.packages.is_empty();
    for (number, exception) in policy.vulnerabilities.exceptions.iter().enumerate() {
        let ended = exception.until.filter(|day| day.0 < today).map(|day| day.0);
        let used = findings.used.contains(&number);
        let message = match ended {
            Some(day) => format!("It ended on {day}."),
            None if known && !used => "Nothing that was found needs it.".to_owned(),
            None => continue,
        };
        stale(findings, &exception.show(), &message, &exception.reason);
    }
    for exception in &policy.licenses.exceptions {
        let has_it = subject.packages.iter().any(|package| package.name == exception.name);
        let message = match exception.until.filter(|day| day.0 < today) {
            Some(day) => format!("It ended on {}.", day.0),
            None if !subject.packages.is_empty() && !has_it => "There is no such package.".to_owned(),
            None => continue,
        };
        stale(findings, &format!("{} (licence)", exception.name), &message, &exception.reason);
    }
}

fn stale(findings: &mut Findings<'_>, name: &str, message: &str, reason: &str) {
    let reason = if reason.is_empty() { String::new() } else { format!(" Its reason was: {reason}") };
    findings
        .of(&RULE, &format!("exception {name}"))
        .at(Place::file(super::super::policy::FILE))
        .says(format!("{message}{reason}"), "Remove it from [audit], or give it another end.")
        .add();
}
