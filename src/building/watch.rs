//! Follows Nix through its events: which builds run, how long each took, and how it ended.
//!
//! A build's `stop` is not its end: Nix 2.8 sends that of a wanted derivation when all is over. The counts of all builds
//! together tell of each end when it happens, and not whose it is; both are brought together here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Activity, Event, Message};
use super::log::Log;
use super::text::name_of;

/// Addresses that are remembered, for messages that name none.
const MOST_ASKED: usize = 256;
/// Lines outside of Nix's log that are remembered, for errors that only name the program that printed them.
const MOST_HEARD: usize = 100;

/// How a build ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    /// Its outputs are there.
    Built,
    /// It failed.
    Failed,
    /// It was given up because something else ended.
    #[default]
    Stopped,
}

/// One build. Times count from the start of the attempt.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    /// The derivation's store path.
    pub derivation: String,
    /// When it began.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
    /// Its phases and when each began.
    pub phases: Vec<(String, Duration)>,
    /// What it printed.
    pub log: Log,
    /// How it ended.
    pub ending: Ending,
    /// How sure that is.
    pub known: Known,
}

/// How it is known which build an end belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was the only one, or an error named it.
    #[default]
    Surely,
    /// Its stop came right after.
    ByOrder,
    /// Several had ended by the time that Nix stopped any: its outputs and its log have to tell.
    Not,
}

impl Build {
    /// What people call it.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        name_of(&self.derivation)
    }

    /// Sets when it ended: not before it began, whosever end that was.
    fn end_at(&mut self, at: Duration) {
        self.end = at.max(self.start);
    }

    /// The phase it came to.
    #[must_use]
    pub(crate) fn phase(&self) -> Option<&str> {
        self.phases.last().map(|(name, _)| name.as_str())
    }
}

/// How a path came here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// From a substituter.
    #[default]
    Substituted,
    /// Copied from another store.
    Copied,
}

/// A path that came from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    /// How.
    pub way: Way,
    /// The store path.
    pub path: String,
    /// Where from.
    pub from: String,
    /// When it began.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
    /// Bytes of its NAR, as far as Nix told.
    pub bytes: u64,
}

/// What an event gives to show.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing.
    Nothing,
    /// A build began.
    Began { name: String },
    /// A build printed a line.
    Line {
        name: String,
        /// The line.
        text: String,
    },
    /// A build ended: the one at this place of [`Watch::builds`].
    Ended(usize),
    /// Nix says something.
    Said(Message),
}

/// All that was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    running: BTreeMap<u64, Build>,
    moving: BTreeMap<u64, Transfer>,
    downloads: BTreeMap<u64, u64>,
    /// Done, expected, running and failed, for each count of builds.
    counts: BTreeMap<u64, [u64; 4]>,
    /// Ends that nobody has been found for.
    ends: VecDeque<(Duration, Ending)>,
    /// Whether those that are left may be anybody's.
    unknown: bool,
    /// Builds that ended.
    pub builds: Vec<Build>,
    /// Paths that came from elsewhere.
    pub transfers: Vec<Transfer>,
    /// Errors and warnings.
    pub messages: Vec<Message>,
    /// What was asked of servers last.
    pub asked: VecDeque<String>,
    /// Lines outside of Nix's log since the last error.
    heard: VecDeque<String>,
    /// Bytes downloaded.
    pub downloaded: u64,
    /// When the first build or download began.
    pub first_work: Option<Duration>,
    /// Derivations that are to be built in all, as far as Nix knows.
    pub expected: u64,
}

impl Watch {
    /// Takes in an event that came `at` this time after the start.
    pub(crate) fn observe(&mut self, event: Event, at: Duration) -> Shown {
        match event {
            Event::Start { id, activity } => self.start(id, activity, at),
            Event::Stop { id } => self.stop(id, at),
            Event::Line { id, text } => match self.running.get_mut(&id) {
                Some(build) => {
                    build.log.push(text.clone());
                    Shown::Line { name: build.name().to_owned(), text }
                }
                None => Shown::Nothing,
            },
            Event::Phase { id, name } => {
                if let Some(build) = self.running.get_mut(&id) {
                    build.phases.push((name, at));
                }
                Shown::Nothing
            }
            Event::Progress { id, counts } => self.progress(id, counts, at),
            Event::Said(message) => self.said(message),
            Event::Other => Shown::Nothing,
        }
    }

    /// Takes in a line that is not of Nix's log: of a program that Nix runs, which says more than Nix does of its failure.
    pub(crate) fn hear(&mut self, line: String) {
        if self.heard.len() == MOST_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back(line);
    }

    /// The lines outside of Nix's log since the last error.
    pub(crate) fn heard(&self) -> impl Iterator<Item = &str> {
        self.heard.iter().map(String::as_str)
    }

    /// The substituter that was asked last for a path.
    #[must_use]
    pub(crate) fn last_source(&self) -> Option<&str> {
        let all = self.transfers.iter().chain(self.moving.values()).filter(|moved| moved.way == Way::Substituted);
        all.max_by_key(|moved| moved.start).map(|moved| moved.from.as_str())
    }

    /// Builds that run, the one that began first in front.
    #[must_use]
    pub(crate) fn running(&self) -> Vec<&Build> {
        let mut all: Vec<_> = self.running.values().collect();
        all.sort_by_key(|build| build.start);
        all
    }

    /// Paths that are under way.
    #[must_use]
    pub(crate) fn moving(&self) -> usize {
        self.moving.len()
    }

    /// Whether Nix has come as far as to build or fetch.
    #[must_use]
    pub(crate) fn has_begun(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Nix has ended: whatever still ran was stopped.
    pub(crate) fn finish(&mut self, at: Duration) -> Vec<usize> {
        let ids: Vec<u64> = self.running.keys().copied().collect();
        let ended = ids.into_iter().filter_map(|id| match self.stop(id, at) {
            Shown::Ended(index) => Some(index),
            _ => None,
        });
        ended.collect()
    }

    fn start(&mut self, id: u64, activity: Activity, at: Duration) -> Shown {
        let (way, path, from) = match activity {
            Activity::Build { derivation } => {
                self.first_work.get_or_insert(at);
                let build = Build {
                    derivation,
                    start: at,
                    end: at,
                    phases: Vec::new(),
                    log: Log::default(),
                    ending: Ending::Stopped,
                    known: Known::Surely,
                };
                let name = build.name().to_owned();
                self.running.insert(id, build);
                return Shown::Began { name };
            }
            Activity::Builds => {
                self.counts.insert(id, [0; 4]);
                return Shown::Nothing;
            }
            Activity::Download { url } => {
                self.downloads.insert(id, 0);
                if self.asked.len() == MOST_ASKED {
                    self.asked.pop_front();
                }
                self.asked.push_back(url);
                return Shown::Nothing;
            }
            Activity::Substitute { path, from } => (Way::Substituted, path, from),
            // Inside of a substitution, the same path is copied.
            Activity::Copy { path, .. } if self.moving.values().any(|known| known.path == path) => {
                return Shown::Nothing;
            }
            Activity::Copy { path, from } => (Way::Copied, path, from),
            Activity::Other => return Shown::Nothing,
        };
        self.first_work.get_or_insert(at);
        self.moving.insert(id, Transfer { way, path, from, start: at, end: at, bytes: 0 });
        Shown::Nothing
    }

    fn stop(&mut self, id: u64, at: Duration) -> Shown {
        if let Some(bytes) = self.downloads.remove(&id) {
            self.downloaded += bytes;
        }
        if let Some(mut transfer) = self.moving.remove(&id) {
            transfer.end = at;
            self.transfers.push(transfer);
        }
        if !self.running.contains_key(&id) {
            return Shown::Nothing;
        }
        let several = self.ends.len() > 1 || self.unknown;
        let known = match self.running.len() {
            _ if several => Known::Not,
            1 => Known::Surely,
            _ => Known::ByOrder,
        };
        // Once one of them is handed out, the rest is as uncertain.
        self.unknown = several && self.ends.len() > 1;
        let (end, ending) = self.ends.pop_front().unwrap_or((at, Ending::Stopped));
        self.end(id, end, ending, known)
    }

    fn progress(&mut self, id: u64, counts: [u64; 4], at: Duration) -> Shown {
        let [done, expected, running, failed] = counts;
        if let Some(bytes) = self.downloads.get_mut(&id) {
            *bytes = done;
        }
        if let Some(transfer) = self.moving.get_mut(&id) {
            transfer.bytes = done;
        }
        let Some(known) = self.counts.get_mut(&id) else { return Shown::Nothing };
        // What fails because of another failure is counted too, and did not run.
        let ending = match *known {
            [_, _, before, _] if running >= before => Ending::Stopped,
            [_, _, _, before] if failed > before => Ending::Failed,
            [before, ..] if done > before => Ending::Built,
            _ => Ending::Stopped,
        };
        *known = counts;
        self.expected = self.expected.max(expected);
        if ending == Ending::Stopped || self.running.len() <= self.ends.len() {
            return Shown::Nothing;
        }
        let mut running = self.running.keys().copied();
        if let (Some(only), None) = (running.next(), running.next()) {
            return self.end(only, at, ending, Known::Surely);
        }
        self.ends.push_back((at, ending));
        Shown::Nothing
    }

    /// An error names the derivation that failed: that is whose end was counted.
    fn said(&mut self, mut message: Message) -> Shown {
        if message.is_error() {
            message.heard = std::mem::take(&mut self.heard).into();
        }
        if message.level <= 1 {
            self.messages.push(message.clone());
        }
        if message.level == 0
            && let Some(place) = self.ends.iter().position(|(_, ending)| *ending == Ending::Failed)
        {
            let named = self.running.iter().find(|(_, build)| names(&message.text, &build.derivation));
            if let Some(id) = named.map(|(id, _)| *id)
                && let Some((at, ending)) = self.ends.remove(place)
            {
                self.end(id, at, ending, Known::Surely);
            }
        }
        if message.level == 0 {
            self.claim(&message.text);
        }
        Shown::Said(message)
    }

    /// An error names a build to which another end was given: the two change places.
    fn claim(&mut self, text: &str) {
        let is_named = |build: &Build| names(text, &build.derivation);
        let unsure = |build: &Build| build.known != Known::Surely || build.ending == Ending::Stopped;
        let wrong = |build: &Build| unsure(build) && build.ending != Ending::Failed && is_named(build);
        let Some(named) = self.builds.iter().position(wrong) else { return };
        let told = |build: &Build| self.messages.iter().any(|message| names(&message.text, &build.derivation));
        let instead = |build: &Build| build.known == Known::ByOrder && build.ending == Ending::Failed && !told(build);
        if let Some(other) = self.builds.iter().position(instead) {
            let (one, two, ending) = (self.builds[named].end, self.builds[other].end, self.builds[named].ending);
            self.builds[named].end_at(two);
            self.builds[other].end_at(one);
            self.builds[other].ending = ending;
        }
        self.builds[named].ending = Ending::Failed;
    }

    fn end(&mut self, id: u64, at: Duration, ending: Ending, known: Known) -> Shown {
        let Some(mut build) = self.running.remove(&id) else { return Shown::Nothing };
        build.end_at(at);
        self.builds.push(Build { ending, known, ..build });
        Shown::Ended(self.builds.len() - 1)
    }
}

/// Whether `text` names this derivation.
#[must_use]
pub(crate) fn names(text: &str, derivation: &str) -> bool {
    !derivation.is_empty() && text.contains(derivation)
}

#[cfg(test)]
#[path = "watch_test.rs"]
mod tests;
