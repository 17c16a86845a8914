//! Tools that look at Nix files and workflows: each is run where it is on PATH, and what it prints becomes findings. One file a tool.

pub(crate) mod deadnix;
pub(crate) mod formatter;
pub(crate) mod nixf;
mod run;
pub(crate) mod statix;
pub(crate) mod zizmor;

use super::finding::{Findings, Place};
use super::rules::Rule;
use crate::base::note::Severity;

pub(crate) use run::{ToolRun, run_all};

/// A tool.
#[derive(Debug)]
pub(crate) struct Tool {
    /// The program, which is the identifier of its rule, too.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: &'static [&'static str],
    /// What it is given.
    pub input: Input,
    /// Reads what it printed; for one that reads standard input, of the file named.
    pub parse: fn(&str, &str) -> Result<Vec<Spot>, String>,
}

/// What a tool is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The folder that it is started in.
    Folder,
    /// Each Nix file on its standard input.
    EachFile,
    /// The folder, where it has workflows.
    Workflows,
    /// Each Nix file, to see what would be written in its place: see [`formatter`].
    Formatter,
}

/// All tools.
pub(crate) const ALL: &[&Tool] = &[&deadnix::TOOL, &formatter::TOOL, &nixf::TOOL, &statix::TOOL, &zizmor::TOOL];

/// Something that a tool found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The tool's name for its kind.
    pub code: String,
    /// What it says.
    pub message: String,
    /// The file, from the folder that the tool was started in.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// How much it matters, where the tool says that; otherwise as much as its rule.
    pub severity: Option<Severity>,
}

/// Adds what the tool of `rule` found.
pub(super) fn add(rule: &Rule, runs: &[ToolRun], findings: &mut Findings<'_>) {
    for run in runs.iter().filter(|run| run.program == rule.id) {
        for spot in &run.spots {
            let place =
                Place { file: spot.file.clone(), line: Some(spot.line.max(1)), column: Some(spot.column.max(1)) };
            let mut finding = findings.of(rule, &spot.file).at(place).named(&spot.code).identity(&spot.message);
            // What the policy says of the tool as a whole is the most that it can say.
            if let Some(severity) = spot.severity {
                finding = finding.at_most(severity);
            }
            finding.says(&spot.message, "").add();
        }
    }
}
