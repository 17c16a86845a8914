//! Assembles a key from its parts.

use std::ffi::OsString;

use super::escape::escape_input;
use super::{Key, KeyError, KeyRequest, MAX_KEY_BYTES, Part, current_system, extra, locks, system};

/// What is in a key and how it is written. To be raised whenever one of the two changes.
const FORMAT: &str = "v1";
/// The most bytes of an escaped prefix, so that a computed key stays below 200.
const MAX_PREFIX_BYTES: usize = 100;

/// The key that `request` asks for, with the environment of this process.
///
/// A computed key is six parts joined by `-`: the format, the prefix, the system, 12 digits of nixpkgs' fingerprint (or
/// `none`), 16 digits of the lock files' (or `nolock`), 12 digits of what the user adds (or `none`). Its restore prefixes
/// are: the same lock files with something else added, the same nixpkgs, the same system.
///
/// Each restore prefix ends with the `-` behind a part, and matches keys that have the same parts up to there, and no
/// others: a `-` in the prefix is written `--`, the system is two words, the other parts have a fixed length or are a word
/// that is not hexadecimal. The last part is always there, so no computed key is the start of another, and a key to which nothing is
/// added is found from one to which something is, and the other way round.
///
/// A given primary key is used as it is, nothing is read, and there are no restore prefixes but those that are given. Given
/// restore prefixes stand in the place of computed ones.
///
/// # Errors
/// [`KeyError`] when an input cannot be used, or a lock file that is there cannot be.
pub fn key(request: &KeyRequest) -> Result<Key, KeyError> {
    key_with(request, |name| std::env::var_os(name))
}

/// As [`key`], with the environment variables that `variable` knows.
fn key_with(request: &KeyRequest, variable: impl Fn(&str) -> Option<OsString>) -> Result<Key, KeyError> {
    for prefix in request.restore_prefixes.iter().flatten() {
        escape_input(prefix, "restore-prefixes", MAX_KEY_BYTES)?;
    }
    match &request.primary_key {
        Some(primary) => given(request, primary),
        None => computed(request, variable),
    }
}

fn given(request: &KeyRequest, primary: &str) -> Result<Key, KeyError> {
    escape_input(primary, "primary-key", MAX_KEY_BYTES)?;
    let mut from = vec!["given, and used as it is".to_owned()];
    if !request.key_files.is_empty() || !request.env_vars.is_empty() || request.extra.is_some() {
        from.push("key-files, env-vars and extra have no effect beside primary-key".to_owned());
    }
    Ok(Key {
        primary: primary.to_owned(),
        restore_prefixes: request.restore_prefixes.clone().unwrap_or_default(),
        parts: vec![Part::new("primary-key", primary, from)],
    })
}

fn computed(request: &KeyRequest, variable: impl Fn(&str) -> Option<OsString>) -> Result<Key, KeyError> {
    let (prefix, prefix_from) = match request.prefix.as_str() {
        "" => ("nix".to_owned(), "the default"),
        given => (given.replace('-', "--"), "given"),
    };
    escape_input(&prefix, "prefix", MAX_PREFIX_BYTES)?;
    let (system, system_from) = match request.system.as_str() {
        "" => (current_system(), "of this machine"),
        given => (given.to_owned(), "given"),
    };
    system::check(&system)?;
    let (nixpkgs, lock) = locks::parts(&request.base, &request.locks)?;
    let extra = extra::part(request, variable)?;
    let parts = vec![
        Part::new("format", FORMAT, vec!["how this release makes keys".to_owned()]),
        Part::new("prefix", prefix, vec![prefix_from.to_owned()]),
        Part::new("system", system, vec![system_from.to_owned()]),
        nixpkgs,
        lock,
        extra,
    ];
    let restore_prefixes = match &request.restore_prefixes {
        Some(given) => given.clone(),
        None => (3..parts.len()).rev().map(|count| join(&parts[..count]) + "-").collect(),
    };
    Ok(Key { primary: join(&parts), restore_prefixes, parts })
}

fn join(parts: &[Part]) -> String {
    parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::super::escape;
    use super::*;

    const SEVEN: &str = include_str!("testdata/v7.json");

    fn project(lock: &str) -> (tempfile::TempDir, KeyRequest) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("flake.lock"), lock).unwrap();
        let request = KeyRequest { system: "x86_64-linux".to_owned(), ..KeyRequest::new(folder.path()) };
        (folder, request)
    }

    fn make(request: &KeyRequest) -> Key {
        key_with(request, |_| None).unwrap()
    }

    #[test]
    fn a_key_goes_from_stable_to_unstable_and_prefixes_from_near_to_far() {
        let (_folder, request) = project(SEVEN);
        let Key { primary, restore_prefixes, parts } = make(&request);
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["format", "prefix", "system", "nixpkgs", "lock", "extra"]);
        let (nixpkgs, lock) = (&parts[3].value, &parts[4].value);
        assert!(nixpkgs.len() == 12 && lock.len() == 16, "{primary}");
        assert_eq!(primary, format!("v1-nix-x86_64-linux-{nixpkgs}-{lock}-none"));
        let expected = [
            format!("v1-nix-x86_64-linux-{nixpkgs}-{lock}-"),
            format!("v1-nix-x86_64-linux-{nixpkgs}-"),
            "v1-nix-x86_64-linux-".to_owned(),
        ];
        assert_eq!(restore_prefixes, expected);
        assert!(parts[3].from[0].starts_with("nixpkgs github:NixOS/nixpkgs/"), "{:?}", parts[3].from);
    }

    #[test]
    fn keys_with_and_without_an_addition_find_each_other_and_are_told_apart() {
        let (_folder, request) = project(SEVEN);
        let plain = make(&request);
        let added = make(&KeyRequest { extra: Some("x".to_owned()), ..request });
        assert!(added.primary.starts_with(&plain.restore_prefixes[0]));
        assert!(plain.primary.starts_with(&added.restore_prefixes[0]));
        assert!(!added.primary.starts_with(&plain.primary) && !plain.primary.starts_with(&added.primary));
    }

    #[test]
    fn without_a_lock_file_there_is_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let request = KeyRequest { system: "aarch64-darwin".to_owned(), ..KeyRequest::new(folder.path()) };
        assert_eq!(make(&request).primary, "v1-nix-aarch64-darwin-none-nolock-none");
        let here = KeyRequest { system: String::new(), ..request };
        assert!(make(&here).primary.starts_with(&format!("v1-nix-{}-", current_system())));
    }

    #[test]
    fn a_given_key_wins_and_reads_nothing() {
        let (_folder, request) = project("this is not a lock file");
        assert!(key_with(&request, |_| None).is_err());
        let given = KeyRequest { primary_key: Some("my key".to_owned()), extra: Some("x".to_owned()), ..request };
        let made = make(&given);
        assert_eq!((made.primary.as_str(), made.restore_prefixes.len()), ("my key", 0));
        assert!(made.parts[0].from[1].contains("no effect"));
        let both = KeyRequest { restore_prefixes: Some(vec!["my ".to_owned()]), ..given };
        assert_eq!(make(&both).restore_prefixes, ["my "]);
    }

    #[test]
    fn given_prefixes_stand_in_the_place_of_computed_ones() {
        let (_folder, request) = project(SEVEN);
        let computed = make(&request).primary;
        let given = KeyRequest { restore_prefixes: Some(vec!["b".to_owned(), "a".to_owned()]), ..request };
        let made = make(&given);
        assert_eq!((made.primary, made.restore_prefixes), (computed, vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(make(&KeyRequest { restore_prefixes: Some(vec![]), ..given }).restore_prefixes, [""; 0]);
    }

    #[test]
    fn wrong_inputs_are_named() {
        let (_folder, request) = project(SEVEN);
        let long = "é".repeat(100);
        for (input, wrong) in [
            ("primary-key", KeyRequest { primary_key: Some(String::new()), ..request.clone() }),
            ("primary-key", KeyRequest { primary_key: Some(long.clone()), ..request.clone() }),
            ("restore-prefixes", KeyRequest { restore_prefixes: Some(vec![String::new()]), ..request.clone() }),
            ("restore-prefixes", KeyRequest { restore_prefixes: Some(vec![long.clone()]), ..request.clone() }),
            ("prefix", KeyRequest { prefix: "x".repeat(101), ..request.clone() }),
            ("system", KeyRequest { system: "linux".to_owned(), ..request.clone() }),
            ("key-files", KeyRequest { key_files: vec!["[".to_owned()], ..request.clone() }),
            ("env-vars", KeyRequest { env_vars: vec!["A=1".to_owned()], ..request.clone() }),
        ] {
            let message = key_with(&wrong, |_| None).unwrap_err().to_string();
            assert!(message.contains(&format!("input {input}")), "{input}: {message}");
        }
    }

    #[test]
    fn the_json_and_the_description_hold_everything() {
        let (_folder, request) = project(SEVEN);
        let made = make(&request);
        let json = serde_json::to_value(&made).unwrap();
        assert_eq!(json["primary-key"], made.primary);
        assert_eq!(json["restore-prefixes"].as_array().unwrap().len(), 3);
        assert_eq!(json["parts"][2]["value"], "x86_64-linux");
        assert_eq!(json["parts"][2]["from"][0], "given");
        let text = made.describe();
        let near_to_far = made.restore_prefixes.iter().map(|prefix| text.find(&format!("  {prefix}\n")).unwrap());
        assert!(near_to_far.is_sorted());
        assert!(text.starts_with(&format!("key: {}\n", made.primary)) && text.ends_with('\n'));
        assert!(made.parts.iter().flat_map(|part| &part.from).all(|line| text.contains(line)));
    }

    proptest! {
        /// The texts are made to look like parts, so that a prefix that ended within one would be found out.
        #[test]
        fn a_restore_prefix_matches_only_keys_with_the_same_parts(
            one in "(-|nix|x86_64-linux|none|é ){0,4}",
            other in "(-|nix|x86_64-linux|none|é ){0,4}",
            extends: bool,
            systems in ("(x86_64|nix)-(linux|none)", "(x86_64|nix)-(linux|none|linux2)"),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let make = |prefix: &str, system: &str| make(&KeyRequest {
                prefix: prefix.to_owned(),
                system: system.to_owned(),
                ..KeyRequest::new(folder.path())
            });
            // A prefix that goes on where the other key has its system.
            let start = if one.is_empty() { "nix" } else { one.as_str() };
            let other = if extends { format!("{start}-{}{other}", systems.0) } else { other };
            // A longer prefix is refused.
            prop_assume!(escape(&other).map_or(true, |prefix| prefix.len() <= 100));
            let (one, other) = (make(&one, &systems.0), make(&other, &systems.1));
            let same = one.parts[..3].iter().zip(&other.parts).all(|(one, other)| one.value == other.value);
            for prefix in &one.restore_prefixes {
                let found = escape(&other.primary).unwrap().starts_with(&escape(prefix).unwrap());
                prop_assert_eq!(found, same, "{} and {}", prefix, other.primary);
            }
            prop_assert!(escape(&one.primary).unwrap().len() < 200);
        }
    }
}
