//! What a plan says of targets that were evaluated already: their derivations, which can be built without evaluating again.

use std::collections::BTreeMap;
use std::fmt;

use crate::store::{STORE_DIR, StorePath};

/// Stands for a derivation that the plan does not know.
const UNKNOWN: &str = "-";
/// So many characters of a wrong word are shown.
const LONGEST: usize = 120;

/// A derivation and the outputs to build of it, as a plan writes them: `/nix/store/…-x.drv^out,man`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// The derivation.
    pub path: StorePath,
    /// The names of outputs between commas, or `*` for all.
    outputs: String,
}

/// The derivations of targets.
pub(crate) type Drvs = BTreeMap<String, Planned>;

/// A list of derivations that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DrvsError {
    /// A word of it is not a derivation.
    #[error(
        "{0:?} is neither a derivation with its outputs, such as /nix/store/HASH-NAME.drv^out, nor `-`. Give the `drvs` of a plan's \
         matrix as they are."
    )]
    Word(String),
    /// It belongs to other targets.
    #[error(
        "There are {targets} targets and {drvs} derivations. Give the `attrs` and the `drvs` of the same job of a plan."
    )]
    Count {
        /// Targets given.
        targets: usize,
        /// Derivations given.
        drvs: usize,
    },
}

/// The derivations of `targets`, of which `text` says one for each, with white space between them. Without any text, none is known.
///
/// # Errors
/// [`DrvsError`] when it is not such a list.
pub(crate) fn parse(targets: &[String], text: &str) -> Result<Drvs, DrvsError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return Ok(Drvs::new());
    }
    if words.len() != targets.len() {
        return Err(DrvsError::Count { targets: targets.len(), drvs: words.len() });
    }
    let pairs = targets.iter().zip(words).filter(|(_, word)| *word != UNKNOWN);
    pairs.map(|(target, word)| Ok((target.clone(), planned(word)?))).collect()
}

fn planned(word: &str) -> Result<Planned, DrvsError> {
    let wrong = || DrvsError::Word(word.chars().take(LONGEST).collect());
    let (path, outputs) = word.split_once('^').unwrap_or((word, "*"));
    let path = StorePath::from_full(path, STORE_DIR).ok().filter(StorePath::is_derivation).ok_or_else(wrong)?;
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte))
    };
    if outputs != "*" && !outputs.split(',').all(is_name) {
        return Err(wrong());
    }
    Ok(Planned { path, outputs: outputs.to_owned() })
}

impl Planned {
    /// It as `nix build` takes it: a Nix that cannot be told which outputs are wanted builds all.
    #[must_use]
    pub(crate) fn installable(&self, names_outputs: bool) -> String {
        if names_outputs { self.to_string() } else { self.path.full(STORE_DIR) }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}^{}", self.path.full(STORE_DIR), self.outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_target_has_its_derivation() {
        let drv = |name: &str| format!("/nix/store/{}-{name}.drv", "0".repeat(32));
        let text = format!("{}^out,man\n- {} {}^*", drv("a"), drv("c"), drv("d"));
        let found = parse(&targets(&["a", "b", "c", "d"]), &text).unwrap();
        let shown: Vec<_> = found.iter().map(|(target, drv)| (target.as_str(), drv.to_string())).collect();
        assert_eq!(shown, [("a", drv("a") + "^out,man"), ("c", drv("c") + "^*"), ("d", drv("d") + "^*")]);
        assert_eq!(found["a"].installable(true), drv("a") + "^out,man");
        assert_eq!(found["a"].installable(false), drv("a"));
        assert_eq!(parse(&targets(&["a"]), " \n").unwrap(), Drvs::new());
    }

    #[test]
    fn what_is_no_list_of_derivations_is_refused() {
        let drv = format!("/nix/store/{}-a.drv", "0".repeat(32));
        for wrong in ["x", "/etc/passwd", "--impure", "/nix/store/x.drv^out", &drv.replace(".drv", "")] {
            let error = parse(&targets(&["a"]), wrong).unwrap_err();
            assert!(error.to_string().contains("plan's"), "{error}");
        }
        for outputs in ["^", "^out,", "^a b", "^$(x)", "^out^man", "^*,out"] {
            assert!(parse(&targets(&["a"]), &format!("{drv}{outputs}")).is_err(), "{outputs}");
        }
        let error = parse(&targets(&["a", "b"]), &drv).unwrap_err();
        assert_eq!(error, DrvsError::Count { targets: 2, drvs: 1 });
    }
}
