//! Notices, warnings and errors on the run's page, within GitHub's limits: ten of a kind per step, 4,096 characters each.
//! Further messages are merged into the last one.

use std::collections::BTreeSet;
use std::io::Write;

use actions_rs::{Annotation, AnnotationKind, WorkflowCommand};

use crate::base::note::Severity;
use crate::base::printing::{self, Raw, safe};

/// Number of annotations of a kind that we may use. GitHub allows ten for an action with all its steps; the hook needs one.
pub(crate) const MOST: usize = 9;

/// Longest message that GitHub shows, in UTF-16 units.
pub(crate) const LONGEST: usize = 4096;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As workflow commands, for a runner.
    Workflow,
    /// As plain lines, for a terminal.
    Plain,
}

/// A line of a file in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// The file, relative to the workspace.
    pub file: &'a str,
    /// The line, starting at 1.
    pub line: u32,
    /// The column, starting at 1.
    pub column: Option<u32>,
}

/// Writes annotations and counts them. Call [`Annotator::finish`] at the end, or drop it.
#[derive(Debug)]
pub(crate) struct Annotator<W: Write> {
    writer: W,
    style: Style,
    kinds: [Kind; 3],
}

#[derive(Debug, Default)]
struct Kind {
    written: usize,
    seen: BTreeSet<String>,
    waiting: Vec<(String, String)>,
}

impl<W: Write> Annotator<W> {
    /// Creates an annotator that writes to `writer`; on a runner this is standard output.
    pub(crate) fn new(writer: W, style: Style) -> Self {
        Self { writer, style, kinds: Default::default() }
    }

    /// Reports a problem that does not stop the job.
    pub(crate) fn warning(&mut self, title: &str, message: &str) {
        self.add(AnnotationKind::Warning, title, message);
    }

    /// Reports why the job stops.
    pub(crate) fn error(&mut self, title: &str, message: &str) {
        self.add(AnnotationKind::Error, title, message);
    }

    /// Reports why the job stops, at a line of a file in the repository.
    pub(crate) fn error_at(&mut self, place: &Place<'_>, title: &str, message: &str) {
        self.add_at(AnnotationKind::Error, Some(place), title, message);
    }

    /// Something at a line of a file of the repository, as much as it matters.
    pub(crate) fn at(&mut self, severity: Severity, place: &Place<'_>, title: &str, message: &str) {
        let kind = match severity {
            Severity::Notice => AnnotationKind::Notice,
            Severity::Warning => AnnotationKind::Warning,
            Severity::Error => AnnotationKind::Error,
        };
        self.add_at(kind, Some(place), title, message);
    }

    /// Writes the messages that are still held back. Later messages would exceed GitHub's limit.
    pub(crate) fn finish(&mut self) {
        for kind in [AnnotationKind::Notice, AnnotationKind::Warning, AnnotationKind::Error] {
            let waiting = std::mem::take(&mut self.kinds[index(kind)].waiting);
            match waiting.as_slice() {
                [] => {}
                [(title, message)] => self.write(kind, None, title, message),
                several => {
                    let all: Vec<_> = several.iter().map(|(title, message)| format!("{title}: {message}")).collect();
                    self.write(kind, None, &format!("{} more", several.len()), &all.join("\n"));
                }
            }
        }
        let _ = self.writer.flush(); // nobody is left to tell
    }

    /// A repeated message is written only once. The last annotation of a kind is held back until all messages that must share it are
    /// known.
    fn add(&mut self, kind: AnnotationKind, title: &str, message: &str) {
        self.add_at(kind, None, title, message);
    }

    fn add_at(&mut self, kind: AnnotationKind, place: Option<&Place<'_>>, title: &str, message: &str) {
        let known = &mut self.kinds[index(kind)];
        if !known.seen.insert(format!("{title}\n{message}")) {
            return;
        }
        if known.written + 1 >= MOST {
            known.waiting.push((title.to_owned(), message.to_owned()));
        } else {
            self.write(kind, place, title, message);
        }
    }

    fn write(&mut self, kind: AnnotationKind, place: Option<&Place<'_>>, title: &str, message: &str) {
        self.kinds[index(kind)].written += 1;
        let line = match self.style {
            Style::Workflow => {
                let mut annotation = Annotation::new().title(cut(&printing::line(title), 100));
                if let Some(place) = place {
                    annotation = annotation.file(printing::line(place.file)).line(place.line);
                    if let Some(column) = place.column {
                        annotation = annotation.col(column);
                    }
                }
                annotation.command(kind, cut(&safe(message), LONGEST)).to_string()
            }
            Style::Plain => safe(&match place {
                Some(Place { file, line, .. }) => format!("{}: {title}: {file}:{line}: {message}", word(kind)),
                None => format!("{}: {title}: {message}", word(kind)),
            }),
        };
        let _ = writeln!(self.writer, "{line}"); // a log that cannot be written stops nothing
    }
}

impl<W: Write> Drop for Annotator<W> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Makes the runner replace `value` with `***` in every log from now on, line by line. Texts of fewer than four characters are
/// not masked: this would make the log unreadable and protect nothing.
pub(crate) fn mask(value: &str) {
    for line in value.lines().map(str::trim).filter(|line| line.len() >= 4) {
        command(&WorkflowCommand::new("add-mask").message(line));
    }
}

/// Runs `work` with its log lines folded under `title` on a runner, or otherwise under a heading.
pub(crate) fn group<T>(style: Style, title: &str, work: impl FnOnce() -> T) -> T {
    match style {
        Style::Workflow => {
            command(&WorkflowCommand::new("group").message(printing::line(title)));
            let done = work();
            command(&WorkflowCommand::new("endgroup"));
            done
        }
        Style::Plain => {
            printing::out(&format!("{title}:\n"));
            work()
        }
    }
}

/// Prints `text` as a [`group`].
pub(crate) fn fold(style: Style, title: &str, text: &str) {
    group(style, title, || printing::out(&format!("{text}\n")));
}

/// Sends a command to the runner.
fn command(command: &WorkflowCommand) {
    let _ = command.issue_to(Raw::out()); // a log that cannot be written stops nothing
}

fn index(kind: AnnotationKind) -> usize {
    match kind {
        AnnotationKind::Notice => 0,
        AnnotationKind::Warning => 1,
        AnnotationKind::Error => 2,
    }
}

fn word(kind: AnnotationKind) -> &'static str {
    ["notice", "warning", "error"][index(kind)]
}

/// Shortens `text` to at most `most` UTF-16 units, which is what GitHub counts.
fn cut(text: &str, most: usize) -> String {
    if text.encode_utf16().count() <= most {
        return text.to_owned();
    }
    let mut units = 1; // the ellipsis
    let fits = |c: &char| {
        units += c.len_utf16();
        units <= most
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(style: Style, messages: &[(&str, String)]) -> Vec<String> {
        let mut out = Vec::new();
        let mut annotator = Annotator::new(&mut out, style);
        for (title, message) in messages {
            annotator.warning(title, message);
        }
        drop(annotator);
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    fn numbered(count: usize) -> Vec<(&'static str, String)> {
        (0..count).map(|number| ("t", format!("m{number}"))).collect()
    }

    #[test]
    fn what_would_be_too_many_shares_the_last_one() {
        assert_eq!(written(Style::Workflow, &numbered(2)), ["::warning title=t::m0", "::warning title=t::m1"]);
        assert_eq!(written(Style::Workflow, &numbered(MOST)).last().unwrap(), "::warning title=t::m8");
        let lines = written(Style::Workflow, &numbered(30));
        assert_eq!(lines.len(), MOST);
        assert!(lines[8].starts_with("::warning title=22 more::t: m8%0At: m9%0A"), "{}", lines[8]);
        assert!(lines[8].ends_with("t: m29"));
    }

    #[test]
    fn kinds_are_counted_apart_and_repeats_once() {
        let mut out = Vec::new();
        let mut annotator = Annotator::new(&mut out, Style::Workflow);
        for _ in 0..50 {
            annotator.warning("w", "same");
            annotator.error("e", "same");
        }
        drop(annotator);
        assert_eq!(String::from_utf8(out).unwrap(), "::warning title=w::same\n::error title=e::same\n");
    }

    #[test]
    fn an_error_may_have_a_place() {
        for (style, expected) in [
            (Style::Workflow, "::error title=t,file=a%2Cb.nix,line=3,col=5,endColumn=5::m\n"),
            (Style::Plain, "error: t: a,b.nix:3: m\n"),
        ] {
            let mut out = Vec::new();
            Annotator::new(&mut out, style).error_at(&Place { file: "a,b.nix", line: 3, column: Some(5) }, "t", "m");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_terminal_gets_plain_lines() {
        assert_eq!(written(Style::Plain, &[("t", "a".into())]), ["warning: t: a"]);
    }

    proptest! {
        #[test]
        fn any_text_is_one_line_within_the_limits(title in any::<String>(), message in "(?s).{0,6000}") {
            let lines = written(Style::Workflow, &[(title.as_str(), message)]);
            prop_assert_eq!(lines.len(), 1);
            let shown = lines[0].split_once("::").and_then(|(_, rest)| rest.split_once("::")).unwrap().1;
            let decoded = shown.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%");
            prop_assert!(decoded.encode_utf16().count() <= LONGEST);
        }
    }
}
