//! Running the tools.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{ALL, Input, Spot, Tool, formatter};
use crate::base::bounds::open_file;
use crate::base::child::{output, without_secrets};
use crate::base::env_vars;

/// Most files that are given to a tool one by one.
const MOST_FILES: usize = 5000;

/// The result of one tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolRun {
    /// The program.
    pub program: String,
    /// What it found.
    pub spots: Vec<Spot>,
    /// Why it could not be used, in a sentence.
    pub note: Option<String>,
}

/// Runs those of the tools `wanted` (all, where none is named) that are there, on the Nix files `files` of `folder`. The folder stands
/// at `within` in its repository.
pub(crate) fn run_all(folder: &Path, within: &str, files: &[String], wanted: Option<&[String]>) -> Vec<ToolRun> {
    let is_wanted = |tool: &&&Tool| wanted.is_none_or(|wanted| wanted.iter().any(|name| name == tool.program));
    let has_workflows = folder.join(".github/workflows").is_dir() || folder.join("action.yml").is_file();
    let has_work = |tool: &&&Tool| match tool.input {
        Input::Workflows => has_workflows,
        Input::Folder | Input::EachFile | Input::Formatter => !files.is_empty(),
    };
    ALL.iter()
        .filter(is_wanted)
        .filter(has_work)
        .filter_map(|tool| one(tool, folder, within, files, wanted.is_some()))
        .collect()
}

/// None where the tool is not there, and nobody asked for it by name.
fn one(tool: &Tool, folder: &Path, within: &str, files: &[String], is_named: bool) -> Option<ToolRun> {
    let mut run = ToolRun { program: tool.program.to_owned(), ..ToolRun::default() };
    let each = || files.iter().take(MOST_FILES).map(String::as_str);
    let inputs: Vec<Option<&str>> = match tool.input {
        Input::EachFile => each().map(Some).collect(),
        Input::Folder | Input::Workflows => vec![None],
        Input::Formatter => {
            match formatter::run(folder, &each().collect::<Vec<_>>()) {
                Some((spots, trouble)) => (run.spots, run.note) = (spots, trouble.map(|why| format!("{why}."))),
                None if !is_named => return None,
                None => run.note = Some("No formatter for Nix files is on PATH, and none was run.".to_owned()),
            }
            Vec::new()
        }
    };
    for file in inputs {
        match printed(tool, folder, file) {
            Ok(Some(spots)) => run.spots.extend(spots),
            Ok(None) if !is_named => return None,
            Ok(None) => {
                run.note = Some(format!("{} is not on PATH, and was not run.", tool.program));
                break;
            }
            Err(why) => {
                run.note = Some(format!("{} could not be used: {why}.", tool.program));
                break;
            }
        }
    }
    for spot in &mut run.spots {
        let file = spot.file.trim_start_matches("./");
        let file =
            Path::new(file).strip_prefix(folder).map_or_else(|_| file.to_owned(), |file| file.display().to_string());
        spot.file = if within.is_empty() { file } else { format!("{within}/{file}") };
    }
    run.spots.sort_by(|one, other| {
        (&one.file, one.line, one.column, &one.code).cmp(&(&other.file, other.line, other.column, &other.code))
    });
    Some(run)
}

/// What the tool finds; none where it is not there. Its exit code says whether it found something, differently for each.
fn printed(tool: &Tool, folder: &Path, file: Option<&str>) -> Result<Option<Vec<Spot>>, String> {
    let mut command = Command::new(tool.program);
    command.args(tool.arguments).current_dir(folder).env(env_vars::NO_COLOR, "1").stdin(Stdio::null());
    if let Some(file) = file {
        match open_file(&folder.join(file)) {
            Ok(open) => drop(command.stdin(open)),
            // Listed by Git and removed from the work tree.
            Err(_) => return Ok(Some(Vec::new())),
        }
    }
    let output = match output(without_secrets(&mut command)) {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    (tool.parse)(text.trim(), file.unwrap_or_default()).map(Some).map_err(|why| {
        let said = crate::building::text::plain(&String::from_utf8_lossy(&output.stderr));
        let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        if line.is_empty() {
            format!("what it printed cannot be read ({why})")
        } else {
            super::super::finding::cut(line)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_not_there_is_told_only_to_who_asked_for_it() {
        let tool = Tool { program: "no-such-tool", arguments: &[], input: Input::Folder, parse: |_, _| Ok(Vec::new()) };
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(one(&tool, folder.path(), "", &[], false), None);
        assert!(one(&tool, folder.path(), "", &[], true).unwrap().note.unwrap().contains("not on PATH"));
        let broken = Tool {
            program: "sh",
            arguments: &["-c", "echo no JSON; echo because >&2; exit 3"],
            input: Input::Folder,
            parse: |text, _| Err(text.to_owned()),
        };
        assert_eq!(
            one(&broken, folder.path(), "", &[], false).unwrap().note.unwrap(),
            "sh could not be used: because."
        );
    }

    #[test]
    fn places_are_from_the_top_of_the_repository() {
        #[allow(clippy::unnecessary_wraps, reason = "it is one of the functions of a tool")]
        fn parse(_: &str, file: &str) -> Result<Vec<Spot>, String> {
            Ok(vec![Spot { file: format!("./{file}"), ..Spot::default() }])
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.nix"), "x").unwrap();
        let tool = Tool { program: "cat", arguments: &[], input: Input::EachFile, parse };
        let run = one(&tool, folder.path(), "sub", &["a.nix".to_owned(), "gone.nix".to_owned()], false).unwrap();
        assert_eq!(run.spots.iter().map(|spot| spot.file.as_str()).collect::<Vec<_>>(), ["sub/a.nix"]);
    }
}
