//! The table `[audit.vulnerabilities]`, and exceptions in the form of vulnix's whitelists.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::day::Day;
use crate::base::globs::matcher;

/// Why an exception for every advisory of every package is refused.
pub(super) const BOUNDLESS: &str = "an exception for every package has to name the advisories that it is for";

/// What is done about vulnerabilities.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct VulnerabilityPolicy {
    /// The folder with NVD feeds, from the top of the repository; none for no feeds.
    pub feeds: Option<String>,
    /// From which CVSS score on a vulnerability is an error.
    pub error_score: Option<f64>,
    /// Whether a product is also taken for the package of the same name, whoever made it. Never more than a notice.
    pub match_by_name: bool,
    /// A file in the form of vulnix's whitelists, from the top of the repository.
    pub exceptions_file: Option<String>,
    /// What is known and accepted.
    pub exceptions: Vec<Exception>,
}

/// A vulnerability that is known and accepted for a while.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Exception {
    /// The package, as `openssl` or `openssl-3.0.1`; `*` stands for any text.
    pub package: String,
    /// The advisories; empty for all of the package.
    #[serde(default)]
    pub ids: Vec<String>,
    /// The last day of the exception.
    #[serde(default)]
    pub until: Option<Day>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

impl Exception {
    /// Whether this is about an advisory of a package.
    pub(crate) fn covers(&self, name: &str, version: &str, id: &str) -> bool {
        let whole = format!("{name}-{version}");
        let is_it = |text: &str| {
            self.package == text
                || (self.package.contains('*') && matcher(&self.package).is_ok_and(|glob| glob.is_match(text)))
        };
        (is_it(name) || is_it(&whole)) && (self.ids.is_empty() || self.ids.iter().any(|known| known == id))
    }

    /// Whether it would accept everything, so that nothing is ever found.
    pub(super) fn is_boundless(&self) -> bool {
        self.ids.is_empty() && self.package.chars().all(|c| c == '*')
    }

    /// The exception in messages.
    pub(crate) fn show(&self) -> String {
        if self.ids.is_empty() { self.package.clone() } else { format!("{} ({})", self.package, self.ids.join(", ")) }
    }
}

/// A section of a whitelist of vulnix.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Section {
    cve: Vec<String>,
    until: Option<Day>,
    comment: Texts,
    issue_url: Texts,
}

#[derive(Default, Deserialize)]
#[serde(untagged, expecting = "a text, or a list of texts")]
enum Texts {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Texts {
    fn all(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

/// The exceptions in a whitelist of vulnix: a section for each package, `["pcre-8.41"]`.
///
/// # Errors
/// Where it is wrong (a position in the text), and why.
pub(super) fn whitelist(text: &str) -> Result<Vec<Exception>, (usize, String)> {
    let sections: BTreeMap<String, Section> = toml::from_str(text)
        .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().replace('\n', ", ")))?;
    let exception = |(package, section): (String, Section)| Exception {
        package,
        ids: section.cve,
        // There, it is the first day on which the rule does not hold any more.
        until: section.until.and_then(|day| day.0.pred_opt()).map(Day),
        reason: [section.comment.all(), section.issue_url.all()].concat().join(" "),
    };
    let all: Vec<Exception> = sections.into_iter().map(exception).collect();
    match all.iter().find(|exception| exception.is_boundless()) {
        Some(exception) => {
            let at = text.find(&format!("[\"{}\"]", exception.package)).unwrap_or(0);
            Err((at, BOUNDLESS.to_owned()))
        }
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whitelist_of_vulnix_is_read() {
        let text = "[\"pcre-8.41\"]\ncve = [\"CVE-2017-1\", \"CVE-2017-2\"]\nuntil = \"2027-01-01\"\ncomment = [\"a\", \"b\"]\nissue_url = \"https://x\"\n\n[\"*\"]\ncve = [\"CVE-2015-2503\"]\n\n[libxml2]\nuntil = 2027-02-03\n";
        let all = whitelist(text).unwrap();
        assert_eq!(all.len(), 3);
        let of = |package: &str| all.iter().find(|exception| exception.package == package).unwrap();
        assert!(of("pcre-8.41").covers("pcre", "8.41", "CVE-2017-2"));
        assert!(
            !of("pcre-8.41").covers("pcre", "8.42", "CVE-2017-2")
                && !of("pcre-8.41").covers("pcre", "8.41", "CVE-2017-3")
        );
        assert_eq!(of("pcre-8.41").reason, "a b https://x");
        assert!(of("*").covers("anything", "1", "CVE-2015-2503"));
        assert!(
            of("libxml2").covers("libxml2", "2", "CVE-1") && of("libxml2").until.unwrap().0.to_string() == "2027-02-02"
        );
        assert_eq!(whitelist("[a]\nuntil = \"soon\"\n").unwrap_err().0, 12);
        assert!(whitelist("x").is_err());
        // As in vulnix, what would accept everything is wrong.
        let (at, why) = whitelist("[a]\n\n[\"*\"]\ncomment = \"all\"\n").unwrap_err();
        assert!(at == 5 && why.contains("has to name"), "{at} {why}");
    }
}
