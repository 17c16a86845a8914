//! Job summaries and drawings in the documentation, shown in a real browser with Mermaid's own library.
//!
//! `NIX_CACHE_TEST_PICTURES` may name a folder for a picture of a summary. See [`crate::dashboard`] for the browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::dashboard::browser;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the browser saw of each file.
fn shown(files: &[PathBuf], picture: Option<&Path>) -> Option<Vec<Value>> {
    let chromium = browser()?;
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("node");
    command.arg(project().join("tests/node/summary.mjs")).args(files);
    if let Some(picture) = picture {
        command.arg("--picture").arg(picture);
    }
    let output = command.env("CHROMIUM", chromium).env("HOME", home.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The Markdown files in a folder of the project.
fn markdown_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(project().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    files.sort();
    files
}

#[test]
fn every_drawing_of_summaries_and_of_the_documentation_is_drawn() {
    let summaries = markdown_in("src/report/testdata");
    let files = [&summaries[..], &markdown_in(""), &markdown_in("docs")].concat();
    let picture = std::env::var_os("NIX_CACHE_TEST_PICTURES").map(|folder| Path::new(&folder).join("summary.png"));
    let Some(shown) = shown(&files, picture.as_deref()) else { return };
    let mut drawings = 0;
    for (file, page) in files.iter().zip(&shown) {
        assert_eq!(page["errors"], serde_json::json!([]), "{}", file.display());
        for drawn in page["drawn"].as_array().unwrap() {
            assert!(drawn["width"].as_f64() > Some(100.0) && drawn["error"].is_null(), "{}: {drawn}", file.display());
            drawings += 1;
        }
    }
    assert!(summaries.len() >= 3 && drawings >= summaries.len() + 2, "{drawings}");
    // The escapes mean in a browser what they stand for.
    let failed =
        shown[summaries.iter().position(|path| path.ends_with("failed-build.md")).unwrap()]["text"].to_string();
    assert!(failed.contains("nix build of this target") && !failed.contains("&#"), "{failed}");
}

#[test]
fn a_drawing_that_is_not_mermaid_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.md");
    fs::write(&file, "```mermaid\nxychart-beta\n    line [1, null]\n```\n").unwrap();
    let Some(shown) = shown(&[file], None) else { return };
    assert!(shown[0]["drawn"][0]["error"].is_string(), "{shown:?}");
}
