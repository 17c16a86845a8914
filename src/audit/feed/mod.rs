//! Vulnerability feeds: NVD JSON 2.0, read one advisory at a time, and what of them is needed.
//!
//! 1. `nvd` reads the files of the National Vulnerability Database, as they are or compressed with gzip.
//! 2. `reduced` writes and reads what is left of them without texts and hardware: one advisory a line, for the cache.
//! 3. `cpe` reads names of products, `version` compares as Nix does, `range` says whether a version is affected.
//! 4. `folder` reads all files of a folder, and says how old the data is.

pub(crate) mod cpe;
mod folder;
mod known;
mod nvd;
mod range;
pub(crate) mod reduced;
pub(crate) mod version;

use serde::{Deserialize, Serialize};

pub(crate) use folder::{Feeds, is_nvd, read_folder};
pub(crate) use known::products;
pub(crate) use nvd::read as read_nvd;
pub(crate) use range::Range;

/// An advisory, as far as it is needed here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Such as `CVE-2026-1234`.
    pub id: String,
    /// Its CVSS base score; none where nobody has given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What it is, in the words of the feed, cut.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What is affected; nothing where it was withdrawn, or is about hardware alone. Such an advisory still replaces an older record of it.
    pub affected: Vec<Affected>,
}

impl Entry {
    /// The bytes of all texts in it.
    fn bytes(&self) -> usize {
        let range = |range: &Range| {
            let bounds =
                [&range.exact, &range.from_including, &range.from_excluding, &range.to_including, &range.to_excluding];
            bounds.into_iter().flatten().map(String::len).sum::<usize>()
        };
        let names = |one: &Affected| one.vendor.len() + one.product.len() + one.inside.len();
        let affected = self.affected.iter().map(|one| names(one) + range(&one.range));
        self.id.len() + self.text.len() + affected.sum::<usize>()
    }
}

/// A product and its affected versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Affected {
    pub vendor: String,
    pub product: String,
    /// The software that it is a part of, such as `jenkins` or `python`; empty for what stands alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inside: String,
    #[serde(flatten)]
    pub range: Range,
    /// Whether it is affected only together with something else, which is not looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_with: bool,
}

/// Where to read about an advisory.
pub(crate) fn address(id: &str) -> String {
    format!("https://nvd.nist.gov/vuln/detail/{id}")
}
