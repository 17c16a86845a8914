//! Runs in files: JSON Lines as `nix-cache history export` prints them, artifacts of jobs as zip archives, and folders with both.

use std::path::Path;

use super::Failure;
use crate::base::bounds::{MAX_TEXT, read_file, read_text};
use crate::base::folder::{self, Limits};
use crate::history::{Bounds, Run, texts_in};

/// What is looked at in a folder. `gh run download` makes a folder for each artifact.
const LIMITS: Limits = Limits { entries: 20_000, depth: 4, files: usize::MAX };
/// Largest artifact in bytes.
const LARGEST: u64 = 16 << 20;

/// The runs in a file or folder. In a folder, which may have artifacts of forks, files that have none are left out with a warning.
pub(crate) fn read_runs(place: &Path) -> Result<Vec<Run>, Failure> {
    if !place.is_dir() {
        return read_one(place);
    }
    let files = folder::files(&[place.to_owned()], &["jsonl", "zip"], LIMITS);
    if files.is_cut {
        let most = LIMITS.entries;
        tracing::warn!("{} has more than {most} files and folders, so some are left out.", place.display());
    }
    let mut runs = Vec::new();
    for file in files.found {
        match read_one(&file) {
            Ok(some) => runs.extend(some),
            Err(failure) => tracing::warn!("{} It is left out.", failure.message),
        }
    }
    Ok(runs)
}

fn read_one(file: &Path) -> Result<Vec<Run>, Failure> {
    let place = file.display();
    let unread = |error: &dyn std::fmt::Display| Failure::usage(format!("Cannot read {place}: {error}."));
    let texts = if file.extension().is_some_and(|ending| ending == "zip") {
        let archive = read_file(file, LARGEST).map_err(|error| unread(&error))?;
        texts_in(&archive, Bounds::FILE).map_err(|error| unread(&error))?
    } else {
        vec![read_text(file, MAX_TEXT).map_err(|error| unread(&error))?]
    };
    let wrong = |(number, why): (usize, String)| {
        Failure::usage(format!("Line {number} of {place} is not a run: {why}. Export it with `--format jsonl`."))
    };
    let runs: Result<Vec<_>, _> = texts.iter().map(|text| runs_in(text)).collect();
    Ok(runs.map_err(wrong)?.concat())
}

/// The runs in JSON Lines, or the first line that is none, with a reason.
pub(super) fn runs_in(text: &str) -> Result<Vec<Run>, (usize, String)> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let run = |(line, number): (&str, usize)| {
        let run: Run = serde_json::from_str(line).map_err(|error| (number, error.to_string()))?;
        let why = "a text or list in it is too long, a number is impossible, or its hit is unknown";
        if run.is_sound() { Ok(run) } else { Err((number, why.to_owned())) }
    };
    lines.map(run).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::history::artifact;

    fn run(number: u64) -> Run {
        Run { run: number, lane: "CI/build".into(), hit: "miss".into(), ..Run::default() }
    }

    #[test]
    fn a_folder_has_artifacts_in_any_form_and_hostile_ones_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, content).unwrap();
            file
        };
        let line = |number| serde_json::to_string(&run(number)).unwrap();
        let zip = write("one.zip", &artifact(&run(1)));
        write("nix-cache-history-2-1-ab/run.jsonl", line(2).as_bytes());
        write("other.json", b"no run");
        let long = Run { lane: "x".repeat(300), ..run(3) };
        let hostile = [
            write("long/run.jsonl", serde_json::to_string(&long).unwrap().as_bytes()),
            write("hit/run.jsonl", line(4).replace("miss", "all").as_bytes()),
            write("text/run.jsonl", b"text"),
            write("cut.zip", &artifact(&run(5))[..60]),
            write("bad.zip", &artifact(&long)),
        ];
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.jsonl")).unwrap();
        assert_eq!(read_runs(folder.path()).unwrap(), [run(2), run(1)]);
        assert_eq!(read_runs(&zip).unwrap(), [run(1)]);
        for file in hostile {
            assert!(read_runs(&file).unwrap_err().message.contains(&file.display().to_string()), "{file:?}");
        }
    }
}
