//! The log while a build runs. On a runner, the output of a builder is kept until it ends and then folded separately, because folds
//! cannot interleave; output of failed builders stays open. On a terminal, lines are printed as they come.

use std::io::Write;
use std::time::{Duration, Instant};

use super::event::Message;
use super::watch::{Build, Ending, Shown, Watch};
use crate::base::printing::{self, safe};

/// How long nothing may be printed while something runs.
const SILENCE: Duration = Duration::from_secs(10);
/// Builds that a line of progress names.
const NAMED: usize = 4;

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A runner, which folds.
    Groups,
    /// A terminal.
    Plain,
}

/// Writes the log.
pub(crate) struct Live {
    out: Box<dyn Write + Send>,
    style: Style,
    /// When something was printed last.
    last: Instant,
}

impl Live {
    /// A log that goes to `out`.
    #[must_use]
    pub(crate) fn new(out: Box<dyn Write + Send>, style: Style) -> Self {
        Self { out, style, last: Instant::now() }
    }

    /// A line of ours.
    pub(crate) fn line(&mut self, text: &str) {
        // A log that cannot be written does not stop the build.
        let _ = writeln!(self.out, "{}", safe(text)).and_then(|()| self.out.flush());
    }

    /// Lines that belong together, folded on a runner.
    pub(crate) fn group(&mut self, title: &str, lines: impl Iterator<Item = String>) {
        self.open(title);
        for line in lines {
            let _ = writeln!(self.out, "{}", safe(&line));
        }
        self.close();
    }

    /// Lines that belong together and are not to be overlooked.
    pub(crate) fn open_group(&mut self, title: &str, lines: impl Iterator<Item = String>) {
        self.line(title);
        for line in lines {
            let _ = writeln!(self.out, "{}", safe(&line));
        }
        let _ = self.out.flush();
    }

    /// Shows what an event gave.
    pub(crate) fn show(&mut self, shown: &Shown, watch: &Watch) {
        match (shown, self.style) {
            (Shown::Began { name }, Style::Plain) => self.line(&format!("building {name}")),
            (Shown::Line { name, text }, Style::Plain) => self.line(&format!("{name}> {text}")),
            (Shown::Ended(index), _) => {
                if let Some(build) = watch.builds.get(*index) {
                    self.ended(build);
                }
            }
            (Shown::Said(message), _) => self.said(message),
            _ => return,
        }
        self.last = Instant::now();
    }

    /// A line on how it goes, where nothing was printed for a while.
    pub(crate) fn tick(&mut self, watch: &Watch, at: Duration) {
        if self.last.elapsed() < SILENCE {
            return;
        }
        if let Some(line) = progress(watch, at) {
            self.line(&line);
            self.last = Instant::now();
        }
    }

    fn ended(&mut self, build: &Build) {
        let (name, time) = (build.name(), seconds(build.end.saturating_sub(build.start)));
        let title = match build.ending {
            Ending::Built => format!("{name}: built in {time}"),
            Ending::Failed => match build.phase() {
                Some(phase) => format!("{name}: failed after {time}, in {phase}"),
                None => format!("{name}: failed after {time}"),
            },
            Ending::Stopped => format!("{name}: stopped after {time}"),
        };
        let lines = build.log.lines().map(|line| format!("{name}> {line}"));
        match (self.style, build.ending) {
            (Style::Plain, _) => self.line(&title),
            (Style::Groups, Ending::Failed) => self.open_group(&title, lines),
            (Style::Groups, _) if build.log.is_empty() => self.line(&title),
            (Style::Groups, _) => self.group(&title, lines),
        }
    }

    fn said(&mut self, message: &Message) {
        // Above that it is for people who look into Nix.
        if message.level <= 3 {
            for line in message.text.lines() {
                self.line(line);
            }
        }
    }

    fn open(&mut self, title: &str) {
        let _ = match self.style {
            Style::Groups => {
                let command = actions_rs::WorkflowCommand::new("group").message(printing::line(title));
                writeln!(self.out, "{command}")
            }
            Style::Plain => writeln!(self.out, "{}", safe(title)),
        };
    }

    fn close(&mut self) {
        if self.style == Style::Groups {
            let _ = writeln!(self.out, "::endgroup::");
        }
        let _ = self.out.flush();
    }
}

/// `4 of 10 built, 12 fetched; building a (95 s, buildPhase), b (3 s) and 2 more`. None while nothing runs.
fn progress(watch: &Watch, at: Duration) -> Option<String> {
    let running = watch.running();
    if running.is_empty() && watch.moving() == 0 {
        return None;
    }
    let built = watch.builds.iter().filter(|build| build.ending == Ending::Built).count();
    let mut parts =
        vec![format!("{built} of {} built, {} fetched", watch.expected.max(built as u64), watch.transfers.len())];
    if watch.moving() > 0 {
        parts.push(format!("fetching {}", watch.moving()));
    }
    let names = running.iter().take(NAMED).map(|build| {
        let time = seconds(at.saturating_sub(build.start));
        let phase = build.phase().map(|phase| format!(", {phase}")).unwrap_or_default();
        format!("{} ({time}{phase})", build.name())
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let more = running.len().saturating_sub(NAMED);
    match (names.is_empty(), more) {
        (true, _) => {}
        (false, 0) => parts.push(format!("building {names}")),
        (false, more) => parts.push(format!("building {names} and {more} more")),
    }
    Some(parts.join("; "))
}

/// A time for a log: `0.4 s`, `95 s`, `12 min 05 s`.
#[must_use]
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..600 => format!("{} s", time.as_secs()),
        all => format!("{} min {:02} s", all / 60, all % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::event::{Activity, Event};
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn told(style: Style, failed: u64) -> String {
        let shared = Shared::default();
        let mut live = Live::new(Box::new(shared.clone()), style);
        let mut watch = Watch::default();
        let at = Duration::from_secs(1);
        let activity = Activity::Build { derivation: "/nix/store/x-a.drv".into() };
        let printed = |id| Event::Line { id, text: format!("::error::of {id}") };
        for event in [
            Event::Start { id: 1, activity: Activity::Builds },
            Event::Start { id: 2, activity },
            Event::Phase { id: 2, name: "checkPhase".into() },
            printed(2),
            Event::Progress { id: 1, counts: [0, 1, 1, 0] },
            Event::Progress { id: 1, counts: [1 - failed, 1, 0, failed] },
            Event::Said(Message { level: 3, text: "this derivation\n::warning::x".into(), ..Message::default() }),
            Event::Said(Message { level: 4, text: "nobody sees this".into(), ..Message::default() }),
        ] {
            let shown = watch.observe(event, at);
            live.show(&shown, &watch);
        }
        let bytes = shared.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_runner_folds_what_was_built_and_opens_what_failed() {
        let said = "this derivation\n: :warning::x\n";
        assert_eq!(
            told(Style::Groups, 0),
            format!("::group::x-a: built in 0.0 s\nx-a> ::error::of 2\n::endgroup::\n{said}")
        );
        assert_eq!(
            told(Style::Groups, 1),
            format!("x-a: failed after 0.0 s, in checkPhase\nx-a> ::error::of 2\n{said}")
        );
    }

    #[test]
    fn a_terminal_sees_lines_as_they_come() {
        let expected = "building x-a\nx-a> ::error::of 2\nx-a: built in 0.0 s\nthis derivation\n: :warning::x\n";
        assert_eq!(told(Style::Plain, 0), expected);
    }

    #[test]
    fn progress_says_what_runs() {
        let mut watch = Watch::default();
        assert_eq!(progress(&watch, Duration::ZERO), None);
        for id in 0..6 {
            let activity = Activity::Build { derivation: format!("/nix/store/p{id}.drv") };
            watch.observe(Event::Start { id, activity }, Duration::from_secs(id));
        }
        watch.observe(Event::Phase { id: 0, name: "buildPhase".into() }, Duration::from_secs(1));
        let line = progress(&watch, Duration::from_secs(20)).unwrap();
        let names = "p0 (20 s, buildPhase), p1 (19 s), p2 (18 s), p3 (17 s)";
        assert_eq!(line, format!("0 of 0 built, 0 fetched; building {names} and 2 more"));
        assert_eq!(seconds(Duration::from_secs(725)), "12 min 05 s");
    }
}
