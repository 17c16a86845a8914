//! What derivations say: the name, version and patches of all that a target is built from.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use nix_derivation::Derivation;

use crate::base::bounds::{MAX_TEXT, read_file};
use crate::store::{StoreDirs, StorePath};

/// Most derivations that are read: a machine has some ten thousand.
const MOST: usize = 200_000;

/// What a derivation says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub name: Option<String>,
    pub version: Option<String>,
    /// Advisories that names of its patches have in them.
    pub patched: BTreeSet<String>,
}

/// All outputs of `roots` and what they are built from, with what their derivations say. Derivations that are not in the store, and
/// outputs whose paths are not known before a build, are left out.
pub(super) fn outputs_below(dirs: &StoreDirs, roots: impl IntoIterator<Item = StorePath>) -> BTreeMap<StorePath, Said> {
    let mut all = BTreeMap::new();
    let mut waiting: Vec<StorePath> = roots.into_iter().collect();
    let mut seen: HashSet<StorePath> = waiting.iter().cloned().collect();
    while let Some(path) = waiting.pop() {
        let Some(derivation) = read(dirs, &path) else { continue };
        let said = said(&derivation);
        let name = path.name().strip_suffix(".drv").unwrap_or_default();
        for (output_name, output) in derivation.outputs() {
            let known = output.path(name, output_name).ok().flatten();
            if let Some(output) = known.and_then(|output| output.to_basename().parse::<StorePath>().ok()) {
                all.insert(output, said.clone());
            }
        }
        for input in derivation.input_derivations().keys() {
            if let Ok(input) = input.to_basename().parse::<StorePath>()
                && seen.len() < MOST
                && seen.insert(input.clone())
            {
                waiting.push(input);
            }
        }
    }
    all
}

fn read(dirs: &StoreDirs, path: &StorePath) -> Option<Derivation> {
    let bytes = read_file(&dirs.real(path), MAX_TEXT).ok()?;
    Derivation::from_aterm_bytes(&bytes, path.name().strip_suffix(".drv")?).ok()
}

fn said(derivation: &Derivation) -> Said {
    let of_attributes = |key: &str| {
        let attributes = derivation.structured_attrs()?;
        attributes.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let text = |key: &str| {
        let of_environment = derivation.environment().get(key);
        let of_environment = of_environment.and_then(|value| String::from_utf8(value.clone()).ok());
        of_environment.or_else(|| of_attributes(key)).filter(|text| !text.is_empty())
    };
    Said { name: text("pname"), version: text("version"), patched: advisories(&text("patches").unwrap_or_default()) }
}

/// The CVE identifiers in a text, in capitals. `CVE-2024-1+CVE-2024-2.patch` has two.
pub(crate) fn advisories(text: &str) -> BTreeSet<String> {
    let text = text.to_ascii_uppercase();
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("CVE-") {
        let rest = &text[at + 4..];
        let year = rest.get(..4).filter(|year| year.bytes().all(|byte| byte.is_ascii_digit()));
        let number: String = rest.get(5..).unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
        if let (Some(year), Some("-")) = (year, rest.get(4..5))
            && (4..=8).contains(&number.len())
        {
            found.insert(format!("CVE-{year}-{number}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_name_advisories() {
        let text = "/nix/store/x-CVE-2024-12345+cve-2023-4567.patch /nix/store/y-fix.patch CVE-20244-1 CVE-2024-12 CVE-2024_1 CVE-é024-1234";
        assert_eq!(advisories(text).into_iter().collect::<Vec<_>>(), ["CVE-2023-4567", "CVE-2024-12345"]);
    }
}
