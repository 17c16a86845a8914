//! Computes the store path and the outputs of a derivation from the bytes of its `.drv` file.

use std::collections::BTreeMap;

use nix_derivation::{Derivation, Output};

use super::address::to_address;
use super::{PathInfo, SharedMap, StorePath};

/// The outputs of a derivation whose store path was computed from its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outputs {
    /// Outputs whose paths are known before a build, by name: the rows of the table `DerivationOutputs`.
    pub paths: SharedMap<String, StorePath>,
    /// The content address of each fixed output.
    pub fixed: BTreeMap<StorePath, String>,
    /// Whether `paths` contains all outputs.
    pub is_complete: bool,
}

/// Reads the outputs of the derivation `info` from `content`, the bytes of its file.
///
/// # Errors
/// The reason that `content` is not this derivation, as part of a sentence.
pub(crate) fn outputs(info: &PathInfo, content: &[u8]) -> Result<Outputs, String> {
    // A copy of a .drv file that was added like any other file: its path follows from its `ca`, which the caller checks.
    let is_text = info.ca.as_ref().is_none_or(|ca| ca.starts_with("text:"));
    if is_text {
        let references: Option<Vec<_>> = info.references.iter().map(to_address).collect();
        let made = references.and_then(|references| {
            nix_derivation::store_path::build_text_path(info.path.name(), content, &references).ok()
        });
        if made.is_none_or(|made| made.to_basename() != info.path.as_str()) {
            return Err("its content and references belong to another store path".to_owned());
        }
    }
    let name = info.path.name().strip_suffix(".drv").unwrap_or_default();
    let derivation =
        Derivation::from_aterm_bytes(content, name).map_err(|error| format!("it cannot be read: {error}"))?;
    let mut outputs = Outputs { is_complete: true, ..Outputs::default() };
    for (output_name, output) in derivation.outputs() {
        let path = output.path(name, output_name).map_err(|error| format!("it has no valid outputs: {error}"))?;
        let Some(path) = path else {
            outputs.is_complete = false;
            continue;
        };
        let path: StorePath =
            path.to_basename().parse().map_err(|error| format!("it has no valid outputs: {error}"))?;
        if let Output::Fixed { ca } = output {
            outputs.fixed.insert(path.clone(), ca.to_nix_string());
        }
        outputs.paths.insert(output_name.clone(), path);
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NarHash, SharedMap};

    const OUT: &str = "/nix/store/1h0p2zsqmlmqrs2gmjzbhsdbdvrgpdl3-x";

    fn aterm(out: &str, ca: (&str, &str)) -> String {
        format!(
            r#"Derive([("out","{out}","{}","{}")],[],[],"x86_64-linux","/bin/sh",[],[("out","{out}")])"#,
            ca.0, ca.1
        )
    }

    fn info(content: &str) -> PathInfo {
        let path = nix_derivation::store_path::build_text_path("x.drv", content.as_bytes(), &[]).unwrap();
        PathInfo {
            nar_hash: NarHash([7; 32]),
            nar_size: 4096,
            outputs: SharedMap::from([("out".into(), format!("{}-evil", "0".repeat(32)).parse().unwrap())]),
            ..PathInfo::sample(path.to_basename().parse().unwrap())
        }
    }

    #[test]
    fn outputs_are_those_of_the_file() {
        let content = aterm(OUT, ("", ""));
        let found = outputs(&info(&content), content.as_bytes()).unwrap();
        assert_eq!(found.paths.values().next().unwrap().full("/nix/store"), OUT);
        assert!(found.is_complete && found.fixed.is_empty());
        let floating = aterm("", ("r:sha256", ""));
        let found = outputs(&info(&floating), floating.as_bytes()).unwrap();
        assert!(!found.is_complete && found.paths.is_empty());
    }

    #[test]
    fn a_file_that_is_another_derivation_or_none_is_refused() {
        let content = aterm(OUT, ("", ""));
        let honest = info(&content);
        assert!(outputs(&honest, content.replace("/bin/sh", "/evil").as_bytes()).unwrap_err().contains("another"));
        let mut refers = honest.clone();
        refers.references.insert(format!("{}-more", "1".repeat(32)).parse().unwrap());
        assert!(outputs(&refers, content.as_bytes()).unwrap_err().contains("another"));
        assert!(outputs(&info("no derivation"), b"no derivation").unwrap_err().contains("cannot be read"));
    }
}
