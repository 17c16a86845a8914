//! The table `[audit.licenses]`, in the form of cargo-deny's.

use serde::Deserialize;

use super::day::Day;
use crate::audit::licence::LicenceList;

/// How a plain list of licences is read. Nixpkgs has never said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Lists {
    /// All of them apply.
    #[default]
    And,
    /// One may be chosen.
    Or,
}

/// Which licences are allowed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LicencePolicy {
    /// Those that may be used; empty for all that are not denied.
    allow: Vec<String>,
    /// Those that may not.
    deny: Vec<String>,
    /// How lists are read.
    pub lists: Lists,
    /// What else some packages may use.
    pub exceptions: Vec<LicenceException>,
    /// What the licence of some packages really is.
    pub clarify: Vec<Clarification>,
    #[serde(skip)]
    pub allowed: LicenceList,
    #[serde(skip)]
    pub denied: LicenceList,
}

/// What else a package may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LicenceException {
    /// The name of the package.
    pub name: String,
    /// Licences that it may use.
    allow: Vec<String>,
    /// Why.
    pub reason: String,
    /// The last day of the exception.
    #[serde(default)]
    pub until: Option<Day>,
    #[serde(skip)]
    pub allowed: LicenceList,
}

/// What the licence of a package really is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Clarification {
    /// The name of the package.
    pub name: String,
    /// An SPDX expression.
    pub expression: String,
}

impl LicencePolicy {
    /// Whether there is anything to check licences against.
    pub(crate) fn is_given(&self) -> bool {
        !(self.allowed.is_empty() && self.denied.is_empty())
    }

    /// Reads the identifiers.
    ///
    /// # Errors
    /// The text that is not a licence, and why.
    pub(super) fn prepare(&mut self) -> Result<(), (String, String)> {
        let list = |texts: &[String]| {
            LicenceList::parse(texts.iter().map(String::as_str)).map_err(|text| {
                let why = format!("{text:?} is not an SPDX licence identifier; a licence without one is written LicenseRef-nixpkgs-NAME");
                (text, why)
            })
        };
        self.allowed = list(&self.allow)?;
        self.denied = list(&self.deny)?;
        for exception in &mut self.exceptions {
            exception.allowed = list(&exception.allow)?;
        }
        for Clarification { expression, .. } in &self.clarify {
            if !crate::audit::licence::is_expression(expression) {
                return Err((expression.clone(), format!("{expression:?} is not an SPDX expression")));
            }
        }
        Ok(())
    }
}
