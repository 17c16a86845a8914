//! The floors: which folder of the sources may import from which.
//!
//! Each folder imports only from its own floor or lower ones; no two import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From the top.
const FLOORS: [&[&str]; 9] = [
    &["cli", "lib", "main"],
    &["action"],
    &["app"],
    &["init"],
    &["cache", "comment", "dashboard", "plan", "prune", "push"],
    &["attach", "snapshot", "files", "history", "report", "upstream"],
    &["series", "layer", "nix", "building", "audit"],
    &["store", "remote", "flake", "github"],
    &["base"],
];

/// The floor of a folder, 0 for the top.
fn floor(folder: &str) -> usize {
    let found = FLOORS.iter().position(|folders| folders.contains(&folder));
    found.unwrap_or_else(|| panic!("{folder} stands on no floor: add it to the table"))
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("mod tests {")).collect();
    lines.join("\n")
}

/// The folders that a text names behind `crate::`, one name or several in braces.
fn used(code: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut used = BTreeSet::new();
    for behind in code.split("crate::").skip(1) {
        let list = behind.strip_prefix('{').and_then(|list| list.split_once('}'));
        let names = list.map_or(vec![behind], |(list, _)| list.split(',').collect());
        for name in names {
            let name = name.trim_start();
            let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
            // Macros and types at the top belong to no folder.
            if end > 0 && !name[end..].starts_with('!') {
                used.insert(&name[..end]);
            }
        }
    }
    used
}

fn is_test(file: &Path) -> bool {
    let name = file.file_stem().unwrap().to_string_lossy();
    name.ends_with("_test")
        || name == "simulation"
        || name == "testing"
        || file.components().any(|part| part.as_os_str() == "tests")
}

/// Which folder uses which, with a file that does.
fn uses() -> BTreeMap<(String, String), String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&src) {
        let entry = entry.unwrap();
        let file = entry.path().strip_prefix(&src).unwrap();
        if file.extension().is_none_or(|ending| ending != "rs")
            || is_test(file)
            || file.file_name().unwrap() == "tests.rs"
        {
            continue;
        }
        let first = Path::new(file.components().next().unwrap().as_os_str()).file_stem().unwrap();
        let folder = first.to_str().unwrap();
        for other in used(&code(&fs::read_to_string(entry.path()).unwrap())) {
            if other != folder {
                found.insert((folder.to_owned(), other.to_owned()), file.display().to_string());
            }
        }
    }
    found
}

#[test]
fn no_folder_uses_one_above_it() {
    let uses = uses();
    assert!(uses.len() > 30, "{uses:?}");
    for ((folder, other), file) in &uses {
        assert!(floor(folder) <= floor(other), "src/{file} uses {other}, which stands above {folder}");
        let back = uses.get(&(other.clone(), folder.clone()));
        assert!(back.is_none(), "src/{file} uses {other}, and src/{} uses {folder}", back.unwrap());
    }
}

#[test]
fn what_a_file_uses_is_found() {
    let text = "use crate::base::note::Note;\n// crate::cli\nuse crate::{remote, store::StorePath};\nfn f() { crate::cache::now() }
        /// [`crate::app`]\nmod tests {\nuse crate::action;\n}";
    assert_eq!(used(&code(text)), BTreeSet::from(["base", "remote", "store", "cache"]));
    assert_eq!((floor("cli"), floor("base")), (0, 8));
}
