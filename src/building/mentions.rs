//! Lines that only mention a failure: a test that passes may be about a full disk, and a compiler's error is what ends the build.

use super::category::Category;
use super::patterns::{Meaning, Place, look_up};

/// The lines that say why a build failed: not those of tests that pass, and nothing about the machine before a compiler's error.
pub(super) fn telling<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let last = lines.iter().rposition(|line| is_compile_error(line)).unwrap_or(0);
    let kept = lines.iter().enumerate().filter(|(at, line)| !passes(line) && (*at >= last || !is_of_machine(line)));
    kept.map(|(_, line)| *line).collect()
}

/// Whether a line is about a test that passes, in the words of TAP, cargo, Go, pytest, mocha, jest and `GoogleTest`.
fn passes(line: &str) -> bool {
    let line = line.trim();
    let starts = ["ok ", "--- PASS", "PASS", "✓", "✔", "√", "[       OK ]"].iter().any(|start| line.starts_with(start));
    starts || [" ... ok", " PASSED", " passed"].iter().any(|end| line.ends_with(end))
}

fn is_of_machine(line: &str) -> bool {
    let meaning = look_up(&[Place::Log], line).map(|row| row.meaning);
    matches!(meaning, Some(Meaning::Fails(Category::DiskFull | Category::OutOfMemory)))
}

/// Whether a compiler speaks of a place in the code. What it says of the machine in the same line counts for that.
fn is_compile_error(line: &str) -> bool {
    let is_place = |before: &str| before.contains(':') && before.ends_with(|c: char| c.is_ascii_digit());
    let at_place = [": error: ", ": fatal error: ", ": error TS"]
        .iter()
        .any(|mark| line.split_once(mark).is_some_and(|(before, _)| is_place(before) || before.ends_with(')')));
    at_place || line.starts_with("error[E")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_mentioned_says_nothing() {
        let mention = "dd: No space left on device";
        for error in ["a.c:1:25: error: 'x' undeclared", "error[E0308]: mismatched types", "a.ts(3,5): error TS1005: x"]
        {
            assert_eq!(telling(&[mention, error]), [error]);
            assert_eq!(telling(&[error, mention]), [error, mention], "what comes after it may be why");
        }
        assert_eq!(telling(&["ok 3 - Out of memory is told", "test full_disk ... ok", mention]), [mention]);
        let own = "a.c:1:1: fatal error: error writing to /tmp/x.s: No space left on device";
        assert_eq!(telling(&[own]), [own]);
    }
}
