//! Tests of [`super`]: the list is complete, and the user documentation has the variables for users.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Words that look like variables but are not.
const OTHERS: [&str; 1] = ["FETCH_HEAD"];

const LIST: &str = include_str!("env_vars.rs");

/// The names in the list, by section.
fn sections() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let (mut section, mut found) = ("", BTreeMap::<_, BTreeSet<_>>::new());
    for line in LIST.lines() {
        if let Some(title) = line.strip_prefix("// == ") {
            section = title;
        } else if line.starts_with("pub(crate) const ") {
            found.entry(section).or_default().extend(literals(line));
        }
    }
    found
}

/// The capitalised words between adjacent quotation marks in a line of source.
fn literals(line: &str) -> impl Iterator<Item = &str> {
    let count = line.matches('"').count();
    let capital = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let is_word = move |text: &&str| text.starts_with(|c: char| c.is_ascii_uppercase()) && text.chars().all(capital);
    line.split('"').skip(1).take(count.saturating_sub(1)).filter(is_word)
}

/// The lines of a source file that name a variable without its constant.
fn strays(source: &str, known: &BTreeSet<&str>) -> Vec<String> {
    // Tests spell out the names that GitHub and Nix use, so that a wrong name in the list is found.
    let program = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let calls = ["env::var(", "env::var_os(", ".env(", ".env_remove("];
    let is_stray = |line: &&str| {
        let compiled = line.contains("env!(");
        let called =
            calls.iter().any(|call| line.contains(&format!("{call}\"")) || line.contains(&format!("{call}format!(\"")));
        let named = |text: &str| known.contains(text) || (text.contains('_') && !OTHERS.contains(&text));
        called || (!compiled && literals(line).any(named))
    };
    program.lines().filter(|line| !line.trim_start().starts_with("//")).filter(is_stray).map(str::to_owned).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_test = matches!(name, "tests" | "tests.rs" | "testing.rs" | "simulation" | "simulation.rs")
            || name.ends_with("_test.rs");
        if path.is_dir() && !is_test {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !is_test {
            found.push(path);
        }
    }
}

#[test]
fn no_other_file_names_a_variable() {
    let known: BTreeSet<&str> = sections().into_values().flatten().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 100, "{} files of source", files.len());
    let own = root.join("base/env_vars.rs");
    let wrong: Vec<String> = files
        .iter()
        .filter(|file| **file != own)
        .flat_map(|file| {
            let lines = strays(&std::fs::read_to_string(file).unwrap(), &known);
            lines.into_iter().map(|line| format!("{}: {}", file.display(), line.trim()))
        })
        .collect();
    assert!(wrong.is_empty(), "these belong in src/base/env_vars.rs:\n{}", wrong.join("\n"));
}

#[test]
fn a_stray_name_is_found() {
    let known: BTreeSet<&str> = sections().into_values().flatten().collect();
    for line in [
        r#"let home = std::env::var_os("home");"#,
        r#"let token = lookup("GITHUB_NEW");"#,
        r#"const A: [&str; 2] = ["a", "NIX_CACHE_B"];"#,
        r#"if name.starts_with("RUNNER_") {"#,
        r#"folder("HOME")"#,
        r#"command.env("Debug", "1");"#,
        r#"command.env(format!("X{number}"), "1");"#,
    ] {
        assert_eq!(strays(line, &known), [line]);
    }
    for line in [
        r#"let version = env!("CARGO_PKG_VERSION");"#,
        r#"// lookup("GITHUB_NEW")"#,
        r#""ACTIONS_RESULTS_URL is not set, so nothing is cached.""#,
        r#"let sum = "a" + A_B + "c";"#,
        "#[cfg(test)]\nmod tests {\n    lookup(\"GITHUB_NEW\")\n}",
    ] {
        assert_eq!(strays(line, &known), [""; 0], "{line}");
    }
}

#[test]
fn every_constant_is_named_as_its_variable_and_explained() {
    let lines: Vec<&str> = LIST.lines().collect();
    for (before, line) in lines.iter().zip(&lines[1..]).filter(|(_, line)| line.starts_with("pub(crate) const ")) {
        assert!(before.starts_with("/// "), "{line} is not explained");
        let name = line["pub(crate) const ".len()..].split(':').next().unwrap();
        let values: Vec<&str> = literals(line).collect();
        let is_prefix =
            values.iter().all(|value| value.ends_with('_') && name.starts_with(value.trim_end_matches('_')));
        assert!(values == [name] || is_prefix || values.len() > 1, "{line}");
    }
}

#[test]
fn the_documentation_has_what_is_for_users() {
    let sections = sections();
    let documentation = include_str!("../../docs/environment.md");
    let listed = |heading: &str| -> BTreeSet<&str> {
        let part = documentation.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.filter_map(|row| row.split('`').next()).collect()
    };
    assert_eq!(listed("Settings"), sections["Set by users"]);
    let all: BTreeSet<&str> = sections.values().flatten().copied().collect();
    let read = listed("What else is read");
    assert!(read.is_subset(&all), "{:?} are not read", read.difference(&all));
    let ours = |name: &&str| name.starts_with("NIX_CACHE_") && *name != "NIX_CACHE_HOME";
    assert!(!read.iter().any(ours), "what the hook and tests set is not for users");
}
