//! The packages of a closure: what is known of each path, and from where.
//!
//! 1. `evaluate` walks the derivation values of a target: name, version, licence, CPE, known vulnerabilities.
//! 2. `derivation` reads the `.drv` files below it: name, version, and the names of patches. It also finds what is only
//!    interpolated into a string, which no walk over values sees.
//! 3. `name` splits the name of a store path. That is a guess, and marked as one.
//! 4. `gather` follows the references of the target's outputs in the Nix database, and joins the three.

mod derivation;
mod evaluate;
mod gather;
mod name;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub(crate) use derivation::advisories;
pub(crate) use evaluate::{Evaluation, evaluate};
pub(crate) use gather::{Scope, from_evaluation, gather};

/// Where what is known of a path is from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// The evaluated package.
    Evaluation,
    /// Its derivation.
    Derivation,
    /// Its name, split by a rule of thumb.
    Name,
}

/// A path of a closure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Package {
    /// The base name of the store path.
    pub path: String,
    /// The name of the package.
    pub name: String,
    /// Its version; empty where none is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Where this is from.
    pub source: Source,
    /// The bytes of its NAR; 0 where it is not in the store.
    #[serde(default)]
    pub nar_size: u64,
    /// Its licence as an SPDX expression; none where none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Whether that was written as a list, which does not say whether all of them apply or one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub licence_is_list: bool,
    /// Its CPE, where the package says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpe: Option<String>,
    /// Vulnerabilities that the package itself names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_vulnerabilities: Vec<String>,
    /// Advisories that a patch names, by its file name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub patched: BTreeSet<String>,
}

impl Package {
    /// The package in messages: `openssl 3.0.1`.
    pub(crate) fn subject(&self) -> String {
        if self.version.is_empty() { self.name.clone() } else { format!("{} {}", self.name, self.version) }
    }
}

/// For how much of a closure something is known, and from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Coverage {
    /// All paths, and their bytes.
    pub paths: u64,
    pub bytes: u64,
    /// Those known from the evaluation.
    pub evaluated_paths: u64,
    pub evaluated_bytes: u64,
    /// Those known from a derivation only.
    pub derivation_paths: u64,
    pub derivation_bytes: u64,
}

impl Coverage {
    /// The coverage of these packages.
    pub(crate) fn of(packages: &[Package]) -> Self {
        let mut all = Self::default();
        for package in packages {
            all.paths += 1;
            all.bytes += package.nar_size;
            match package.source {
                Source::Evaluation => {
                    all.evaluated_paths += 1;
                    all.evaluated_bytes += package.nar_size;
                }
                Source::Derivation => {
                    all.derivation_paths += 1;
                    all.derivation_bytes += package.nar_size;
                }
                Source::Name => {}
            }
        }
        all
    }

    /// The coverage in a sentence.
    pub(crate) fn sentence(&self) -> String {
        let percent = |part: u64, all: u64| (part * 100).checked_div(all).unwrap_or(0);
        let names = self.paths - self.evaluated_paths - self.derivation_paths;
        format!(
            "Of {} ({}), {} % are known from the evaluation ({} % of the bytes), {} % from their derivation only, and {} by name only.",
            crate::base::human::count(self.paths, "path"),
            crate::base::human::bytes(self.bytes),
            percent(self.evaluated_paths, self.paths),
            percent(self.evaluated_bytes, self.bytes),
            percent(self.derivation_paths, self.paths),
            names
        )
    }
}
