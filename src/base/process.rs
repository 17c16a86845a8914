//! This process and others, as `/proc` shows them. Sources: `proc_pid_stat(5)`, `proc_stat(5)`, `sched(7)`.

use std::fs;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

/// Ticks per second in `/proc`: the same on every Linux, whatever its kernel uses.
const TICKS: u64 = 100;
/// The lowest priority.
const NICE: i32 = 19;

/// A process. Its start distinguishes it from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    number: u32,
    start: u64,
}

impl Process {
    /// The process with this number; None if there is none, or the system has no `/proc`.
    pub(crate) fn of(number: u32) -> Option<Self> {
        let start = *Stat::of(&number.to_string())?.0.get(19)?;
        Some(Self { number, start })
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Its parent.
    pub(crate) fn parent(&self) -> Option<Self> {
        let parent = u32::try_from(*Stat::of(&self.number.to_string())?.0.get(1)?).ok()?;
        Self::of(parent)
    }

    /// Returns whether it has not ended.
    pub(crate) fn lives(&self) -> bool {
        Self::of(self.number) == Some(*self)
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, self.start)
    }
}

impl FromStr for Process {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, start) = text.split_once(':').ok_or(())?;
        Ok(Self { number: number.parse().map_err(|_| ())?, start: start.parse().map_err(|_| ())? })
    }
}

/// The numbers in a `stat` file from the state on, which is the third field and counts as 0.
struct Stat(Vec<u64>);

impl Stat {
    fn of(process: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    /// A process that has ended and waits for its parent has none.
    fn parse(text: &str) -> Option<Self> {
        // The name of the program is in parentheses and may contain anything.
        let (_, fields) = text.rsplit_once(") ")?;
        let has_ended = fields.starts_with(['Z', 'X']);
        (!has_ended).then(|| Self(fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect()))
    }
}

/// CPU time of this process so far, of all its threads.
pub(crate) fn cpu_time() -> Duration {
    let ticks = Stat::of("self").map_or(0, |stat| stat.0.iter().skip(11).take(2).sum());
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Sets the priority of this process to the lowest, in a session of its own so that signals to the step that started it do not end it. Call this
/// before there is a second thread: a thread inherits its priority.
pub(crate) fn step_back() {
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!("no session of its own: {error}");
    }
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!("The priority cannot be lowered: {error}.");
    }
    // Where sessions share the processor evenly, the priority within one says nothing. Not every kernel does that.
    if let Err(error) = fs::write("/proc/self/autogroup", NICE.to_string()) {
        tracing::debug!("the session keeps its priority: {error}");
    }
}

/// What the processors of the machine did since its start. Guest time is part of user time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticks {
    pub idle: u64,
    pub all: u64,
    /// Number of processors.
    pub processors: usize,
}

impl Ticks {
    /// Reads `/proc/stat`; None where there is none.
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let first = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // After the eighth come those of guests, which are part of others.
        let ticks: Vec<u64> =
            first.split_whitespace().take(8).map(|field| field.parse().ok()).collect::<Option<_>>()?;
        let is_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
        Some(Self {
            idle: ticks.get(3)?.saturating_add(*ticks.get(4)?),
            all: ticks.iter().fold(0, |sum, tick| sum.saturating_add(*tick)),
            processors: text.lines().filter(is_one).count(),
        })
    }
}

/// Measures how many processors were idle since the last look.
#[derive(Debug, Default)]
pub(crate) struct IdleMeter(Option<Ticks>);

impl IdleMeter {
    /// Returns how many of the processors that this process may use were idle since the last look; None if that cannot be measured, as
    /// where a container may use fewer than there are.
    pub(crate) fn look(&mut self) -> Option<f64> {
        let now = Ticks::now()?;
        let before = self.0.replace(now)?;
        let (idle, total) = (now.idle.checked_sub(before.idle)?, now.all.checked_sub(before.all)?);
        let count = now.processors;
        (total > 0 && count == cores()).then(|| idle as f64 / total as f64 * count as f64)
    }
}

/// Number of processors that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_may_contain_anything() {
        let stat = Stat::parse("7 (a) R 1 2) S 41 7 7 0 -1 0 0 0 0 0 250 30 0 0 20 0 1 0 9999 0").unwrap();
        assert_eq!((stat.0[1], stat.0[11], stat.0[12], stat.0[19]), (41, 250, 30, 9999));
        assert!(Stat::parse("7 (a) Z 1 7").is_none());
        assert!(Stat::parse("").is_none());
    }

    #[test]
    fn a_process_lives_until_it_ends() {
        let Some(own) = Process::own() else { return };
        assert!(own.lives() && own.parent().is_some());
        assert_eq!(own.to_string().parse(), Ok(own));
        assert!("".parse::<Process>().is_err() && "1".parse::<Process>().is_err());
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert_eq!(process.parent(), Some(own));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.lives());
        assert!(!Process { start: own.start + 1, ..own }.lives(), "another one has its number");
    }

    #[test]
    fn idle_processors_are_counted() {
        let text = "cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1\ncpu1 1\nintr 1 2\n";
        assert_eq!(Ticks::parse(text), Some(Ticks { idle: 80, all: 100, processors: 2 }));
        let text = "cpu  10 0 5 80 5 0 0 0 7 0\ncpu0 1 1 1 1 1\n";
        assert_eq!(Ticks::parse(text), Some(Ticks { idle: 85, all: 100, processors: 1 }));
        assert_eq!(Ticks::parse("cpu  x\n"), None);
        assert_eq!(Ticks::parse("cpu0 1 1 1 1 1\n"), None);
        assert_eq!(Ticks::parse(""), None);
        let mut meter = IdleMeter::default();
        assert_eq!(meter.look(), None);
    }
}
