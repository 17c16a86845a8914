//! The formatter: files that it would write in another way. Each reads a file on its standard input and prints it as it should be; the first
//! line that differs is the place.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Input, Spot, Tool};
use crate::base::bounds::{MAX_TEXT, open_file, read_file};
use crate::base::child::{output, without_secrets};

/// The formatters, each with its arguments: the first that is on PATH is used.
const FORMATTERS: [(&str, &[&str]); 3] = [("nixfmt", &["-"]), ("alejandra", &["--quiet", "-"]), ("nixpkgs-fmt", &[])];

pub(crate) const TOOL: Tool =
    Tool { program: "formatter", arguments: &[], input: Input::Formatter, parse: |_, _| Ok(Vec::new()) };

/// The files of `folder` that the formatter would change, and why some could not be looked at, as a clause; none where there is no formatter.
pub(super) fn run(folder: &Path, files: &[&str]) -> Option<(Vec<Spot>, Option<String>)> {
    let mut spots = Vec::new();
    let mut trouble = (0_u64, String::new());
    let mut of_machine = FORMATTERS.iter();
    let &(mut program, mut arguments) = of_machine.next()?;
    for file in files {
        // Files that Git lists and the work tree lacks, and those that are not text.
        let Ok(before) = read_file(&folder.join(file), MAX_TEXT) else { continue };
        let done = loop {
            match formatted(folder, file, program, arguments) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && spots.is_empty() && trouble.0 == 0 => {
                    (program, arguments) = *of_machine.next()?;
                }
                done => break done,
            }
        };
        match done {
            Ok(after) if after == before => {}
            Ok(after) => spots.push(Spot {
                code: program.to_owned(),
                message: format!("{program} would write it in another way."),
                file: (*file).to_owned(),
                line: first_difference(&before, &after),
                column: 1,
                severity: None,
            }),
            Err(error) => {
                trouble.0 += 1;
                if trouble.1.is_empty() {
                    trouble.1 = format!("{file}: {error}");
                }
            }
        }
    }
    let trouble = (trouble.0 > 0).then(|| {
        let count = crate::base::human::count(trouble.0, "file");
        format!("{program} could not format {count}, first {}", trouble.1)
    });
    Some((spots, trouble))
}

/// A file as the formatter has it.
fn formatted(folder: &Path, file: &str, program: &str, arguments: &[&str]) -> std::io::Result<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::from(open_file(&folder.join(file))?));
    let output = output(without_secrets(&mut command))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = crate::building::text::plain(&String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(std::io::Error::other(super::super::finding::cut(line)))
}

/// The number of the first line that differs.
fn first_difference(before: &[u8], after: &[u8]) -> u32 {
    let same = before.split(|byte| *byte == b'\n').zip(after.split(|byte| *byte == b'\n'));
    let same = same.take_while(|(one, other)| one == other).count();
    // Where only the end of the last line differs, that line is the place.
    let same = same.min(before.split_inclusive(|byte| *byte == b'\n').count().saturating_sub(1));
    u32::try_from(same + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_first_line_that_differs() {
        for (before, after, line) in [
            ("a\nb\n", "a\nc\n", 2),
            ("a\nb", "a\nb\n", 2),
            ("a\nb\n\n", "a\nb\n", 3),
            ("", "a\n", 1),
            ("a", "", 1),
            ("\n\na\n", "a\n", 1),
        ] {
            assert_eq!(first_difference(before.as_bytes(), after.as_bytes()), line, "{before:?}");
        }
    }
}
