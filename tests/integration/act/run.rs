//! A run of act that ended, and what a person would look at.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use walkdir::WalkDir;

use crate::support::machine::TestStore;

/// One run of a workflow.
pub(super) struct ActRun {
    /// Whether all jobs were.
    pub green: bool,
    /// The lines of act's log.
    pub events: Vec<Value>,
    /// What they tell a person, with what act said on standard error.
    pub text: String,
    /// The store, or the folder of stores, of its jobs.
    pub store: TestStore,
    pub(super) folder: PathBuf,
    pub(super) secrets: Vec<String>,
}

impl ActRun {
    /// What became of a job: `success` or `failure`. Of a matrix, `row` chooses one by a value.
    pub(super) fn job(&self, row: &str) -> &str {
        let of_row = |event: &&Value| row.is_empty() || event["matrix"].to_string().contains(row);
        let ended = self.events.iter().filter(of_row).find_map(|event| event["jobResult"].as_str());
        ended.unwrap_or_else(|| panic!("the job did not end: {}", self.text))
    }

    /// What became of a step of the job: `success`, `failure` or `skipped`. A post step is named `Post NAME`.
    pub(super) fn step(&self, name: &str) -> &str {
        let (stage, name) = name.strip_prefix("Post ").map_or(("Main", name), |name| ("Post", name));
        let of_step = |event: &&Value| event["stage"] == stage && event["step"] == name;
        let ended = self.events.iter().filter(of_step).filter_map(|event| event["stepResult"].as_str()).next_back();
        ended.unwrap_or_else(|| panic!("there is no {stage} {name}: {}", self.text))
    }

    /// What the steps printed.
    pub(super) fn log(&self) -> String {
        let printed = self.events.iter().filter(|event| event["raw_output"] == true);
        printed.filter_map(|event| event["msg"].as_str()).collect()
    }

    /// The workflow commands of one kind that the steps gave: `warning`, `error`.
    pub(super) fn annotations(&self, kind: &str) -> Vec<&str> {
        let given = self.events.iter().filter(|event| event["command"] == kind);
        given.filter_map(|event| event["arg"].as_str()).collect()
    }

    /// The outputs of the step `cache`, as the job wrote them down.
    pub(super) fn outputs(&self) -> Value {
        self.result("outputs.json")
    }

    /// What the job wrote into a file.
    pub(super) fn result(&self, name: &str) -> Value {
        let file = self.folder.join("results").join(name);
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}: {}", self.text));
        serde_json::from_str(&text).unwrap()
    }

    /// The report as it was at the end of the job. Of a matrix, `lane` is a part of the right one's path.
    pub(super) fn report(&self, lane: &str) -> Value {
        let files = WalkDir::new(self.folder.join("results")).into_iter().map(Result::unwrap);
        let reports: Vec<PathBuf> = files
            .filter(|entry| entry.file_name() == "report.json" && entry.path().to_string_lossy().contains(lane))
            .map(walkdir::DirEntry::into_path)
            .collect();
        assert_eq!(reports.len(), 1, "{reports:?}: {}", self.text);
        serde_json::from_str(&fs::read_to_string(&reports[0]).unwrap()).unwrap()
    }

    /// The job's summary: what the action, and not once more the composite around it, wrote in all its steps.
    pub(super) fn summary(&self) -> String {
        let written = self.events.iter().filter(|event| event["command"] == "summary");
        let ours = written.filter(|event| event["stepID"].as_array().is_some_and(|path| path.len() == 2));
        ours.filter_map(|event| event["content"].as_str()).collect()
    }

    /// The words that stay the same of the notes in a report.
    pub(super) fn notes(report: &Value) -> Vec<&str> {
        report["notes"].as_array().unwrap().iter().map(|note| note["code"].as_str().unwrap()).collect()
    }

    /// No line of the log holds a token, but those that tell the runner what to hide; and no file that the run left behind.
    pub(super) fn assert_no_token_is_anywhere(&self) {
        for secret in &self.secrets {
            assert!(secret.len() > 20);
            let told = self.events.iter().filter(|event| event["command"] != "add-mask");
            let shown = told.map(Value::to_string).find(|line| line.contains(secret.as_str()));
            assert_eq!(shown, None, "a token is in the log");
            for entry in WalkDir::new(&self.folder).into_iter().map(Result::unwrap) {
                if entry.file_type().is_file() {
                    assert!(!holds(entry.path(), secret.as_bytes()), "a token is in {}", entry.path().display());
                }
            }
        }
    }
}

fn holds(file: &Path, bytes: &[u8]) -> bool {
    fs::read(file).is_ok_and(|content| content.windows(bytes.len()).any(|window| window == bytes))
}
