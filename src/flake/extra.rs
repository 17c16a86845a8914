//! The part of a key that the user adds.

use std::collections::BTreeSet;
use std::ffi::OsString;

use sha2::{Digest, Sha256};

use super::canon::{Canon, hex};
use super::{KeyError, KeyRequest, Part, hash_files};

/// The digits of this part in a key.
const DIGITS: usize = 12;
/// The most files that are listed one by one.
const LISTED: usize = 50;

/// The part `extra`: the hash of files, of environment variables as `variable` knows them, and of a free text. `none` when
/// the user asks for none of these.
///
/// Values of variables and the free text are hashed with the rest and never shown, not even as a digest of their own: a
/// short secret can be found from its digest.
///
/// # Errors
/// [`KeyError`] for a pattern, a file or a name that cannot be used.
pub(super) fn part(request: &KeyRequest, variable: impl Fn(&str) -> Option<OsString>) -> Result<Part, KeyError> {
    let names = names(&request.env_vars)?;
    let text = request.extra.as_deref().filter(|text| !text.is_empty());
    let asks_for_files = request.key_files.iter().any(|pattern| !pattern.trim().is_empty());
    if !asks_for_files && names.is_empty() && text.is_none() {
        return Ok(Part::new("extra", "none", vec!["nothing was added with key-files, env-vars or extra".to_owned()]));
    }
    let mut canon = Canon::new("extra-1");
    let mut from = Vec::new();
    add_files(&mut canon, &mut from, request, asks_for_files)?;
    canon.count(names.len());
    for name in names {
        canon.bytes(name.as_bytes());
        let value = variable(name);
        from.push(format!("{name} {}", if value.is_some() { "set" } else { "unset" }));
        add_optional(&mut canon, value.map(|value| Sha256::digest(value.as_encoded_bytes()).into()));
    }
    add_optional(&mut canon, text.map(|text| Sha256::digest(text).into()));
    from.extend(text.map(|text| format!("a text of {} bytes", text.len())));
    Ok(Part::new("extra", hex(&canon.finish(), DIGITS), from))
}

fn add_files(
    canon: &mut Canon,
    from: &mut Vec<String>,
    request: &KeyRequest,
    asks_for_files: bool,
) -> Result<(), KeyError> {
    let hashed = if asks_for_files { Some(hash_files(&request.base, &request.key_files, "key-files")?) } else { None };
    add_optional(canon, hashed.as_ref().map(|hashed| hashed.digest));
    if let Some(hashed) = hashed {
        let listed = hashed.files.iter().take(LISTED);
        from.extend(listed.map(|file| format!("{} (sha256 {})", file.path.display(), hex(&file.digest, 64))));
        if hashed.files.len() > LISTED {
            from.push(format!("and {} more files", hashed.files.len() - LISTED));
        }
        from.extend(hashed.unmatched.iter().map(|pattern| format!("no file matches {pattern}")));
    }
    Ok(())
}

fn add_optional(canon: &mut Canon, digest: Option<[u8; 32]>) {
    match digest {
        None => canon.number(0),
        Some(digest) => {
            canon.number(1);
            canon.bytes(&digest);
        }
    }
}

/// The names, each once, in order.
fn names(given: &[String]) -> Result<BTreeSet<&str>, KeyError> {
    let names = given.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    names
        .map(|name| match name.split_once(['=', '\0']) {
            // What is after the sign may be a secret.
            Some((before, _)) => Err(KeyError::VariableName { name: before.to_owned() }),
            None => Ok(name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn value(request: &KeyRequest, variables: &[(&str, &str)]) -> Part {
        let variable = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into());
        part(request, variable).unwrap()
    }

    fn request() -> KeyRequest {
        KeyRequest::new("/nowhere")
    }

    #[test]
    fn nothing_given_is_none() {
        assert_eq!(value(&request(), &[("A", "1")]).value, "none");
        let empty = KeyRequest {
            key_files: vec![" ".to_owned()],
            env_vars: vec![String::new()],
            extra: Some(String::new()),
            ..request()
        };
        assert_eq!(value(&empty, &[]).value, "none");
    }

    #[test]
    fn variables_count_by_name_and_value_and_show_neither_value_nor_digest() {
        let ask = |names: &[&str]| KeyRequest {
            env_vars: names.iter().map(|name| (*name).to_owned()).collect(),
            ..request()
        };
        let one = value(&ask(&["B", "A", "B"]), &[("A", "hunter2")]);
        assert_eq!(one.from, ["A set", "B unset"]);
        assert_eq!(value(&ask(&["A", "B"]), &[("A", "hunter2")]), one);
        for (names, variables) in [
            (&["A", "B"][..], &[("A", "hunter3")][..]),
            (&["A", "B"], &[("A", "hunter2"), ("B", "")]),
            (&["A", "B"], &[("B", "hunter2")]),
            (&["A"], &[("A", "hunter2")]),
            (&["A", "C"], &[("A", "hunter2")]),
        ] {
            assert_ne!(value(&ask(names), variables).value, one.value, "{names:?} {variables:?}");
        }
    }

    #[test]
    fn a_value_in_the_place_of_a_name_is_not_repeated() {
        let wrong = KeyRequest { env_vars: vec!["TOKEN=hunter2".to_owned()], ..request() };
        let message = part(&wrong, |_| None).unwrap_err().to_string();
        assert!(message.contains("env-vars") && message.contains("TOKEN") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn a_text_counts_and_is_not_shown() {
        let ask = |text: &str| KeyRequest { extra: Some(text.to_owned()), ..request() };
        let one = value(&ask("hunter2"), &[]);
        assert_eq!(one.from, ["a text of 7 bytes"]);
        assert_ne!(value(&ask("hunter3"), &[]).value, one.value);
        let as_variable = KeyRequest { env_vars: vec!["hunter2".to_owned()], ..request() };
        assert_ne!(value(&as_variable, &[]).value, one.value);
    }

    #[test]
    fn files_are_listed_and_what_is_missing_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.nix"), "b").unwrap();
        let ask = |patterns: &[&str]| KeyRequest {
            key_files: patterns.iter().map(|text| (*text).to_owned()).collect(),
            ..KeyRequest::new(folder.path())
        };
        let one = value(&ask(&["*.nix", "gone/**"]), &[]);
        assert!(one.from[0].starts_with("a.nix (sha256 3e23e816"), "{:?}", one.from);
        assert_eq!(one.from[1], "no file matches gone/**");
        let missing = value(&ask(&["gone/**"]), &[]);
        assert_ne!(missing.value, "none");
        assert_ne!(missing.value, one.value);
        (0..60).for_each(|file| fs::write(folder.path().join(format!("{file}.nix")), "").unwrap());
        let many = value(&ask(&["*.nix"]), &[]);
        assert_eq!((many.from.len(), many.from[50].as_str()), (51, "and 11 more files"));
    }
}
