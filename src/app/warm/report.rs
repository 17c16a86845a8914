//! What a run of warming did, for the log, the job summary and programs.

use serde::{Deserialize, Serialize};

use super::touch::Touched;
use crate::base::human;

/// A run of warming.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct WarmReport {
    /// The pull request whose lock file was used; null for that of the branch.
    pub pull_request: Option<Pull>,
    /// Why nothing was warmed; null if something was.
    pub skipped: Option<String>,
    /// What was to be warmed.
    pub targets: Vec<Warmed>,
    /// Number of targets for other systems, which are left out.
    pub elsewhere: u64,
    /// What was read so that it stays; null if nothing was to be.
    pub touched: Option<Touched>,
}

/// A pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Pull {
    pub number: u64,
    /// Its newest commit, whose lock file is meant.
    pub commit: String,
    pub author: String,
}

/// One thing that was to be warmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Warmed {
    /// Its attribute path, or `inputs` or `feeds`.
    pub name: String,
    pub state: State,
    /// Why it failed or was left; for feeds, what there is.
    pub why: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    #[default]
    Warmed,
    Failed,
    /// The time was over.
    Left,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Warmed => "warmed",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }
}

impl Warmed {
    pub(super) fn new(name: &str, state: State, why: &str) -> Self {
        Self { name: name.to_owned(), state, why: why.trim_end_matches('.').to_owned() }
    }
}

impl WarmReport {
    /// A run that did nothing, and why.
    pub(crate) fn skipped(why: &str) -> Self {
        Self { skipped: Some(why.to_owned()), ..Self::default() }
    }

    /// The names in this state.
    pub(crate) fn names(&self, state: State) -> Vec<&str> {
        self.targets.iter().filter(|target| target.state == state).map(|target| &*target.name).collect()
    }

    /// What was done, in sentences.
    pub(crate) fn sentences(&self) -> Vec<String> {
        if let Some(why) = &self.skipped {
            return vec![format!("Nothing was warmed: {why}")];
        }
        let count = |state| self.names(state).len() as u64;
        let mut all = Vec::new();
        if let Some(Pull { number, commit, author }) = &self.pull_request {
            let commit = commit.get(..12).unwrap_or(commit);
            all.push(format!("With the lock file of pull request {number} of {author}, commit {commit}."));
        }
        let mut first =
            format!("{} of {} warmed", count(State::Warmed), human::count(self.targets.len() as u64, "target"));
        for (state, word) in [(State::Failed, "failed"), (State::Left, "left, because the time was over")] {
            if count(state) > 0 {
                first = format!("{first}, {} {word}", human::number(count(state)));
            }
        }
        if self.elsewhere > 0 {
            first = format!("{first}; {} for other systems left out", human::count(self.elsewhere, "target"));
        }
        all.push(format!("{first}."));
        all.extend(self.touched.iter().map(Touched::sentence));
        all
    }

    /// What was done, as text for a terminal or a log.
    pub(crate) fn text(&self) -> String {
        let width = self.targets.iter().map(|target| target.name.len()).max().unwrap_or(0);
        let line = |Warmed { name, state, why }: &Warmed| {
            format!("{:6}  {name:width$}  {why}", state.word()).trim_end().to_owned() + "\n"
        };
        let mut out: String = self.targets.iter().map(line).collect();
        out.extend(self.sentences().iter().map(|sentence| format!("{sentence}\n")));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_warmed_failed_and_touched_is_said() {
        let mut report = WarmReport {
            targets: vec![
                Warmed::new("inputs", State::Warmed, ""),
                Warmed::new("packages.x.a", State::Failed, "it failed."),
                Warmed::new("checks.x.b", State::Left, "no time"),
            ],
            elsewhere: 1,
            ..WarmReport::default()
        };
        let text = report.text();
        assert!(
            text.starts_with("warmed  inputs\nfailed  packages.x.a  it failed\nleft    checks.x.b    no time\n"),
            "{text}"
        );
        let said =
            "1 of 3 targets warmed, 1 failed, 1 left, because the time was over; 1 target for other systems left out.";
        assert_eq!(report.sentences(), [said]);
        report.pull_request = Some(Pull { number: 7, commit: "c".repeat(40), author: "bot".into() });
        report.touched = Some(Touched { snapshots: 2, entries: 5, ..Touched::default() });
        let said = report.sentences();
        assert_eq!(said[0], "With the lock file of pull request 7 of bot, commit cccccccccccc.");
        assert!(said[2].contains("2 snapshots") && said[2].contains('5'), "{said:?}");
        assert_eq!(WarmReport::skipped("x.").sentences(), ["Nothing was warmed: x."]);
    }
}
