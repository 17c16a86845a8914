//! The documentation: every file of the book is in its summary, and every link between files leads to a file and a heading.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = ["README.md", "SECURITY.md", "CONTRIBUTING.md"].map(|name| root().join(name)).into();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(docs.filter(|file| file.extension().is_some_and(|extension| extension == "md")));
    files
}

/// The text without what is code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut kept = String::new();
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if !is_code {
            // What is between backticks is code.
            kept.extend(line.split('`').step_by(2));
            kept.push('\n');
        }
    }
    kept
}

/// The targets of the links in a text.
fn links(text: &str) -> Vec<String> {
    prose(text).split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// How GitHub and mdBook name a heading in a link.
fn anchor(heading: &str) -> String {
    let words = heading.trim().to_lowercase().replace(' ', "-");
    words.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut count = 0;
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        for link in links(&text).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (name, heading) = link.split_once('#').unwrap_or((link, ""));
            // A page of the book stands in a folder of its own, where nothing else of the repository is.
            let is_page = file.parent().unwrap().ends_with("docs");
            assert!(!(is_page && name.contains("..")), "{} links to {link}, out of the book", file.display());
            let target = if name.is_empty() { file.clone() } else { file.parent().unwrap().join(name) };
            assert!(target.exists(), "{} links to {link}, which does not exist", file.display());
            if !heading.is_empty() {
                let there = fs::read_to_string(&target).unwrap();
                let mut headings =
                    there.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#')));
                assert!(
                    headings.any(|anchor| anchor == heading),
                    "{} links to {link}: no such heading",
                    file.display()
                );
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn the_summary_of_the_book_has_every_document_once() {
    let listed = links(&fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap());
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "{listed:?}");
    for file in documents().iter().filter(|file| file.starts_with(root().join("docs"))) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name == "SUMMARY.md" || listed.contains(&name), "docs/SUMMARY.md lacks {name}");
    }
}

#[test]
fn documents_that_the_readme_names_exist() {
    // Names in code, such as `docs/plan.md` or `examples/probe`, are no links.
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        for name in text
            .split('`')
            .filter(|name| name.starts_with("docs/") || name.starts_with("examples/") || name.starts_with("scripts/"))
        {
            let path = name.split([' ', ':', '#']).next().unwrap();
            let is_plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "./-_".contains(c));
            assert!(
                !is_plain || Path::new(&root()).join(path).exists(),
                "{} names {path}, which does not exist",
                file.display()
            );
        }
    }
}

#[test]
fn the_workflows_in_the_documentation_are_the_examples() {
    let fleet = fs::read_to_string(root().join("docs/fleet.md")).unwrap();
    let blocks: Vec<&str> =
        fleet.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("yaml\n")).collect();
    for name in ["quick-start.yml", "organisation.yml", "self-hosted.yml"] {
        let example = fs::read_to_string(root().join("examples").join(name)).unwrap();
        // The comment at its head is the text above the block.
        let lines = example.lines().skip_while(|line| line.starts_with('#'));
        let workflow: String = lines.flat_map(|line| [line, "\n"]).collect();
        assert!(workflow.contains("jobs:\n"), "{name}");
        assert!(blocks.contains(&&*workflow), "docs/fleet.md has another workflow than examples/{name}");
    }
}
