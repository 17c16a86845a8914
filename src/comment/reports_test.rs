//! Files that may be reports, and what is refused.

use std::fs;

use super::comment_test::{HEAD, LANE, report};
use super::reports::{Expected, files, read};
use crate::report::Report;

fn expected() -> Expected {
    Expected { repository: "Octo/Clock".to_owned(), head_sha: HEAD.to_owned(), run: Some(99) }
}

/// Reads a file with this text.
fn read_text(text: &str) -> Result<Report, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    fs::write(&file, text).unwrap();
    read(&file, &expected())
}

#[test]
fn reports_of_something_else_and_impossible_ones_are_refused() {
    let sound = serde_json::to_value(report()).unwrap();
    assert_eq!(read_text(&sound.to_string()).map(|report| report.job.lane), Ok(LANE.to_owned()));
    let with = |pointer: &str, value: serde_json::Value| {
        let mut changed = sound.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        read_text(&changed.to_string()).err().unwrap_or_default()
    };
    assert!(with("/job/head-sha", "3".repeat(40).into()).contains("another commit"));
    assert!(with("/job/run-id", 98.into()).contains("another run"));
    assert!(with("/job/run-id", serde_json::Value::Null).contains("another run"));
    assert!(with("/job/repository", "eve/clock".into()).contains("another repository"));
    assert!(with("/job/lane", "<b>".into()).contains("lane"));
    assert!(with("/job/lane", "a".repeat(500).into()).contains("lane"));
    assert!(with("/schema", 2.into()).contains("schema"));
    assert!(with("/paths/built-here", (-1).into()).contains("not a report"));
    assert!(with("/paths/built-here", 1.5.into()).contains("not a report"));
    assert!(with("/key/hit", "perfect".into()).contains("not a report"));
    assert!(with("/job/status", "<script>".into()).contains("not a report"));
    let text = sound.to_string();
    for number in ["NaN", "1e400", "99999999999999999999", "\"7\"", "Infinity"] {
        let changed = text.replace("\"built-here\":30", &format!("\"built-here\":{number}"));
        assert!(changed != text && read_text(&changed).is_err(), "{number}");
    }
    for text in ["", "[]]", "null", "\u{0}", &"[".repeat(100_000)] {
        assert!(read_text(text).is_err());
    }
}

#[test]
fn files_are_bounded_and_links_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..1_000 {
        let lane = folder.path().join(format!("lane-{number:04}"));
        fs::create_dir(&lane).unwrap();
        fs::write(lane.join("report.json"), "{}").unwrap();
    }
    let found = files(&[folder.path().to_path_buf()]);
    assert!(found.is_cut && found.found.len() == 300, "{}", found.found.len());
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("secret.json"), "{}").unwrap();
    std::os::unix::fs::symlink(other.path().join("secret.json"), other.path().join("link.json")).unwrap();
    std::os::unix::fs::symlink(folder.path(), other.path().join("folder")).unwrap();
    fs::write(other.path().join("notes.txt"), "").unwrap();
    let found = files(&[other.path().to_path_buf()]);
    assert!(!found.is_cut);
    assert_eq!(found.found, [other.path().join("secret.json")]);
    assert!(files(&[other.path().join("absent")]).found.is_empty());
    let large = other.path().join("large.json");
    fs::write(&large, " ".repeat((16 << 20) + 1)).unwrap();
    assert!(read(&large, &expected()).unwrap_err().contains("larger"));
}
