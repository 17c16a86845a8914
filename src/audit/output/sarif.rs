//! SARIF 2.1.0, for GitHub's code scanning.
//!
//! GitHub shows only results with a place, so what has no line is at the file that brings it in, without a region. A vulnerability
//! is a rule of its own, with its score; a guess has none there, because GitHub can fail pull requests by it. The fingerprint of a result
//! has no hash of a store path, so that an alert stays the same alert from commit to commit.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::finding::{Advisory, Confidence, Finding, Place};
use super::super::report::Report;
use super::super::rules;
use crate::base::note::Severity;

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
const HOME: &str = "https://github.com/blazedots/nix-cache-action";

/// A whole file.
#[derive(Debug, Serialize)]
pub(crate) struct Sarif {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    column_kind: &'static str,
    results: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: &'static str,
    information_uri: &'static str,
    rules: Vec<Descriptor>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: String,
    short_description: Text,
    full_description: Text,
    help: Text,
    #[serde(skip_serializing_if = "String::is_empty")]
    help_uri: String,
    default_configuration: Configuration,
    properties: Properties,
}

#[derive(Debug, Serialize)]
struct Configuration {
    level: &'static str,
}

#[derive(Debug, Serialize)]
struct Properties {
    tags: Vec<&'static str>,
    #[serde(rename = "security-severity", skip_serializing_if = "Option::is_none")]
    security_severity: Option<String>,
}

#[derive(Debug, Serialize)]
struct Text {
    text: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    rule_id: String,
    rule_index: usize,
    level: &'static str,
    message: Text,
    locations: [Location; 1],
    partial_fingerprints: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_state: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Physical,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    uri: String,
    uri_base_id: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_column: Option<u32>,
}

/// The report as SARIF.
pub(crate) fn sarif(report: &Report) -> Sarif {
    let mut descriptors: Vec<Descriptor> = Vec::new();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut results = Vec::new();
    for finding in &report.findings {
        let id = match (scored(finding), &finding.advisory) {
            (Some(advisory), _) => advisory.id.clone(),
            (None, Some(_)) => format!("{}/guess", finding.rule),
            (None, None) => finding.rule.clone(),
        };
        let number = *numbers.entry(id.clone()).or_insert_with(|| {
            descriptors.push(descriptor(&id, finding));
            descriptors.len() - 1
        });
        results.push(item(id, number, finding));
    }
    let driver = Driver {
        name: "nix-cache audit",
        version: env!("CARGO_PKG_VERSION"),
        information_uri: HOME,
        rules: descriptors,
    };
    let run = Run { tool: Tool { driver }, column_kind: "unicodeCodePoints", results };
    Sarif { schema: SCHEMA, version: "2.1.0", runs: [run] }
}

/// The advisory of a finding that is more than a guess.
fn scored(finding: &Finding) -> Option<&Advisory> {
    finding.advisory.as_ref().filter(|_| finding.confidence != Confidence::Guess)
}

fn descriptor(id: &str, finding: &Finding) -> Descriptor {
    let (title, help) = rules::find(&finding.rule).map_or(("", ""), |rule| (rule.title, rule.help));
    let advisory = scored(finding);
    let title = if advisory.is_some() { format!("{id}: {title}") } else { title.to_owned() };
    Descriptor {
        id: id.to_owned(),
        short_description: Text { text: title },
        full_description: Text { text: help.to_owned() },
        help: Text { text: help.to_owned() },
        help_uri: advisory.map_or_else(String::new, |advisory| advisory.url.clone()),
        default_configuration: Configuration { level: level(finding) },
        properties: Properties {
            tags: if advisory.is_some() { vec!["nix", "security"] } else { vec!["nix"] },
            // GitHub reads 0.1 to 10.0 as a score, and shows nothing for 0.
            security_severity: advisory.and_then(|it| it.score).map(|score| format!("{:.1}", score.clamp(0.1, 10.0))),
        },
    }
}

fn item(id: String, number: usize, finding: &Finding) -> Item {
    let text = [finding.subject.as_str(), ": ", &finding.message, " ", &finding.remedy].concat();
    let mut fingerprints = BTreeMap::from([("nixCacheAudit/v1", finding.fingerprint.clone())]);
    if finding.place.line.is_none() {
        // The only one by which GitHub tells alerts of one rule in one file apart. Where there is a line, github/codeql-action computes it.
        fingerprints.insert("primaryLocationLineHash", format!("{}:1", finding.fingerprint));
    }
    Item {
        rule_id: id,
        rule_index: number,
        level: level(finding),
        message: Text { text: text.trim_end().to_owned() },
        locations: [Location { physical_location: physical(&finding.place) }],
        partial_fingerprints: fingerprints,
        baseline_state: finding.is_new.map(|new| if new { "new" } else { "unchanged" }),
    }
}

/// By the score where there is one, as GitHub's own scanners have it: error from 7, warning from 4.
fn level(finding: &Finding) -> &'static str {
    match (scored(finding).and_then(|advisory| advisory.score), finding.severity) {
        (Some(score), _) if score >= 7.0 => "error",
        (Some(score), _) if score >= 4.0 => "warning",
        (Some(_), _) | (None, Severity::Notice) => "note",
        (None, Severity::Warning) => "warning",
        (None, Severity::Error) => "error",
    }
}

fn physical(place: &Place) -> Physical {
    let region = place.line.filter(|line| *line > 0);
    Physical {
        artifact_location: Artifact { uri: address(&place.file), uri_base_id: "%SRCROOT%" },
        region: region.map(|line| Region { start_line: line, start_column: place.column.filter(|column| *column > 0) }),
    }
}

/// A relative path as a URI reference.
fn address(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::finding::{Advisory, Confidence};

    fn finding(score: Option<f64>) -> Finding {
        Finding {
            rule: "lock-age".into(),
            severity: Severity::Notice,
            subject: "openssl 3.0.1".into(),
            message: "It is old.".into(),
            remedy: String::new(),
            place: Place { file: "a b.nix".into(), line: Some(3), column: None },
            confidence: Confidence::Exact,
            advisory: score.map(|score| Advisory { id: "CVE-1".into(), score: Some(score), url: String::new() }),
            fingerprint: "f".into(),
            is_new: None,
        }
    }

    #[test]
    fn levels_follow_the_score_and_else_the_severity() {
        for (score, expected) in [
            (None, "note"),
            (Some(0.0), "note"),
            (Some(3.9), "note"),
            (Some(4.0), "warning"),
            (Some(6.9), "warning"),
            (Some(7.0), "error"),
        ] {
            assert_eq!(level(&finding(score)), expected, "{score:?}");
        }
    }

    #[test]
    fn alerts_of_one_file_are_told_apart_where_nobody_else_does() {
        let mut all = vec![finding(None), finding(None)];
        all[1].place.line = None;
        all[1].fingerprint = "g".into();
        let json = serde_json::to_value(sarif(&Report { findings: all, ..Report::default() })).unwrap();
        let of = |number: usize| json["runs"][0]["results"][number]["partialFingerprints"].clone();
        assert_eq!(of(0), serde_json::json!({"nixCacheAudit/v1": "f"}));
        assert_eq!(of(1), serde_json::json!({"nixCacheAudit/v1": "g", "primaryLocationLineHash": "g:1"}));
    }

    #[test]
    fn a_guess_is_a_note_without_a_score() {
        let guess = Finding { confidence: Confidence::Guess, ..finding(Some(9.8)) };
        let report = Report { findings: vec![finding(Some(9.8)), guess], ..Report::default() };
        let json = serde_json::to_value(sarif(&report)).unwrap();
        let rules = &json["runs"][0]["tool"]["driver"]["rules"];
        assert_eq!((&rules[0]["id"], &rules[1]["id"]), (&"CVE-1".into(), &"lock-age/guess".into()));
        assert_eq!(rules[0]["properties"]["security-severity"], "9.8");
        assert!(rules[1]["properties"]["security-severity"].is_null(), "{rules}");
        assert_eq!(json["runs"][0]["results"][1]["level"], "note");
    }

    #[test]
    fn one_advisory_is_one_rule_with_a_score_as_github_reads_it() {
        let report =
            Report { findings: vec![finding(Some(0.0)), finding(Some(0.0)), finding(None)], ..Report::default() };
        let json = serde_json::to_value(sarif(&report)).unwrap();
        let rules = &json["runs"][0]["tool"]["driver"]["rules"];
        assert_eq!(rules.as_array().unwrap().len(), 2);
        assert_eq!(rules[0]["properties"]["security-severity"], "0.1");
        assert_eq!(json["runs"][0]["results"][2]["ruleIndex"], 1);
        let place = &json["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(
            (&place["artifactLocation"]["uri"], &place["region"]["startLine"]),
            (&"a%20b.nix".into(), &3.into())
        );
    }
}
