//! Explains failures from the errors of Nix, the logs of the builds that they name, and the table of patterns.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nix_derivation::{Derivation, Output};
use serde::{Deserialize, Serialize};

use super::category::Category;
use super::event::Message;
use super::files::missing_file;
use super::hashes::mismatch;
use super::mentions::telling;
use super::patterns::{Meaning, Place, Row, look_up, look_up_in};
use super::position::{Position, Project};
use super::remedies;
use super::substituters::Substituters;
use super::text::name_of;
use super::watch::{Build, Ending, Watch, names};
use crate::base::bounds::{MAX_TEXT, read_file};

/// Last lines of a log that are looked at.
const LOOKED_AT: usize = 200;
/// Last lines of a log that are shown and kept.
pub(crate) const SHOWN: usize = 40;
/// Longest message that is kept, in characters.
const LONGEST: usize = 4_000;
/// Most failures that are told apart.
const MOST: usize = 100;

/// One failure. Texts are empty where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Failure {
    /// Why.
    pub category: Category,
    /// Nix's message.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The target that it is of, where only this one cannot be evaluated.
    pub target: String,
    /// The derivation that failed.
    pub derivation: String,
    /// The phase in which it failed.
    pub phase: String,
    /// The substituter that failed.
    pub substituter: String,
    /// The file of the project that it is about, from the workspace on.
    pub file: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// The last lines of the derivation's log.
    pub log: Vec<String>,
    /// Whether it may be temporary.
    pub transient: bool,
}

impl Failure {
    /// A failure of which nothing else is known.
    #[must_use]
    pub(crate) fn new(category: Category, message: &str) -> Self {
        let remedy = category.remedy().to_owned();
        Self { category, message: cut(message), remedy, ..Self::default() }
    }

    /// What it is called in a heading: the derivation's name, the target, or else the category.
    #[must_use]
    pub(crate) fn subject(&self) -> &str {
        match (self.derivation.as_str(), self.target.as_str()) {
            ("", "") => self.category.title(),
            ("", target) => target,
            (derivation, _) => name_of(derivation),
        }
    }

    pub(super) fn at(mut self, position: Option<Position>) -> Self {
        if let Some(position) = position {
            (self.file, self.line, self.column) = (Some(position.file), Some(position.line), position.column);
        }
        self
    }
}

/// The context for explaining a failure.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The project's files.
    pub project: Project,
    /// The root of the store; none for the machine's own.
    pub store_root: Option<PathBuf>,
    pub substituters: Substituters,
}

/// The failures that Nix told of.
#[must_use]
pub(crate) fn explain(watch: &Watch, scene: &Scene) -> Vec<Failure> {
    let errors = || watch.messages.iter().filter(|message| message.is_error());
    let mut seen = BTreeSet::new();
    let failures = errors()
        .filter_map(|message| of_error(message, watch, scene))
        .filter(|failure| seen.insert((failure.category, failure.derivation.clone(), failure.message.clone())));
    let mut failures: Vec<_> = failures.take(MOST).collect();
    if failures.is_empty() {
        // Some errors end Nix before it can put them into its log.
        let stray =
            watch.heard().filter(|line| line.starts_with("error:") || line.starts_with("GC Warning: Out of Memory"));
        let messages = stray.map(|line| Message { text: line.to_owned(), ..Message::default() });
        failures.extend(messages.into_iter().find_map(|message| of_error(&message, watch, scene)));
    }
    let is_download = |failure: &Failure| matches!(failure.category, Category::Substituter | Category::Network);
    if !failures.iter().any(is_download) {
        failures.extend(errors().find_map(|message| missing(message, watch, scene)));
    }
    let silent = |build: &&Build| {
        let named = |message: &&Message| names(&message.text, &build.derivation);
        build.ending == Ending::Failed && !errors().any(|message| named(&message))
    };
    let silent: Vec<&Build> = watch.builds.iter().filter(silent).collect();
    // Some errors do not say whose they are; Nix 2.34 does not say which build timed out.
    let is_nameless =
        |failure: &&mut Failure| failure.derivation.is_empty() && failure.category != Category::Evaluation;
    let mut nameless = failures.iter_mut().filter(is_nameless);
    if let (Some(failure), None, [build]) = (nameless.next(), nameless.next(), &silent[..]) {
        add_build(failure, build);
        return failures;
    }
    // Nix 2.8 tells of one failure among those that were wanted.
    let more = silent.into_iter().map(|build| of_log("Its builder failed.", Some(build), None, scene));
    failures.extend(more.take(MOST));
    failures
}

/// Substituters that failed although the build went on.
#[must_use]
pub(crate) fn troubled(watch: &Watch, scene: &Scene) -> BTreeSet<String> {
    let final_warning = |message: &&Message| message.level == 1 && !message.text.contains("retrying in");
    let warnings = watch.messages.iter().filter(final_warning);
    let failed = warnings.filter(|message| {
        message.text.contains("disabling binary cache")
            || matches!(meaning(&message.text), Some(Meaning::Passes(Category::Substituter)))
    });
    failed.filter_map(|message| scene.substituters.named_in(&message.text, &watch.asked)).collect()
}

fn meaning(text: &str) -> Option<Meaning> {
    look_up(&[Place::Message], text).map(|row| row.meaning)
}

/// The row for an error: by the error alone where Nix parts it from its trace, or else by all of it. The lines of code in a trace say
/// nothing.
fn row_of(message: &Message) -> Option<&'static Row> {
    let is_code = |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('|');
    let without = |text: &str| text.lines().filter(|line| !is_code(line)).collect::<Vec<_>>().join("\n");
    let alone = Some(&message.error).filter(|error| !error.is_empty());
    alone
        .and_then(|error| look_up(&[Place::Message], &without(error)))
        .or_else(|| look_up(&[Place::Message], &without(&message.text)))
}

fn of_error(message: &Message, watch: &Watch, scene: &Scene) -> Option<Failure> {
    let row = row_of(message);
    let failure = match row.map(|row| row.meaning) {
        Some(Meaning::Consequence | Meaning::Missing) => return None,
        Some(Meaning::Builder) => return Some(of_builder(message, watch, scene)),
        Some(Meaning::Fetcher) => return Some(of_fetcher(message, scene)),
        Some(Meaning::File) => return Some(missing_file(message, watch, scene)),
        Some(Meaning::Fails(category)) => known(category, message, watch, scene),
        Some(Meaning::Passes(category)) => Failure { transient: true, ..known(category, message, watch, scene) },
        // Before anything is built or fetched, only the Nix code can be wrong.
        None if !watch.has_begun() || message.line.is_some() => known(Category::Evaluation, message, watch, scene),
        None => known(Category::Unknown, message, watch, scene),
    };
    let is_own = failure.remedy == failure.category.remedy();
    Some(match row.filter(|row| !row.remedy.is_empty() && is_own) {
        Some(row) => Failure { remedy: row.remedy.to_owned(), ..failure },
        None => failure,
    })
}

/// A path that no substituter has and nothing builds: what was said of substituters before tells why.
fn missing(message: &Message, watch: &Watch, scene: &Scene) -> Option<Failure> {
    if row_of(message)?.meaning != Meaning::Missing {
        return None;
    }
    let warnings = watch.messages.iter().filter(|message| message.level == 1);
    let why = warnings.rev().find_map(|warning| {
        let row = look_up(&[Place::Message], &warning.text)?;
        let (category, transient) = match row.meaning {
            Meaning::Passes(category) => (category, true),
            Meaning::Fails(category) => (category, false),
            _ => return None,
        };
        let text = format!("{}\n{}", said(message), warning.text.trim());
        let failure = known(category, &Message { text, ..Message::default() }, watch, scene);
        let remedy = if row.remedy.is_empty() { failure.remedy } else { row.remedy.to_owned() };
        Some(Failure { remedy, transient, ..failure })
    });
    let alone =
        || Failure { remedy: remedies::MISSING.to_owned(), ..known(Category::Substituter, message, watch, scene) };
    Some(why.unwrap_or_else(alone))
}

/// A program that Nix runs to fetch an input: its lines say why.
fn of_fetcher(message: &Message, scene: &Scene) -> Failure {
    let lines: Vec<&str> = message.heard.iter().map(String::as_str).collect();
    let row = look_up_in(&[Place::Download], &lines);
    let (category, transient) = match row.map(|row| row.meaning) {
        Some(Meaning::Fails(category)) => (category, false),
        Some(Meaning::Passes(category)) => (category, true),
        _ => (Category::Network, false),
    };
    let mut failure = Failure { transient, ..Failure::new(category, &said(message)) };
    if let Some(row) = row.filter(|row| !row.remedy.is_empty()) {
        row.remedy.clone_into(&mut failure.remedy);
    }
    failure.log = message.heard.iter().rev().take(SHOWN).rev().cloned().collect();
    failure.at(scene.project.of_message(message))
}

pub(super) fn known(category: Category, message: &Message, watch: &Watch, scene: &Scene) -> Failure {
    let named = scene.substituters.named_in(&message.text, &watch.asked);
    // Of an archive that is damaged, Nix does not say where it is from.
    let last = || Some(super::substituters::shown(watch.last_source()?)).filter(|_| category == Category::Substituter);
    let substituter = named.or_else(last).unwrap_or_default();
    let category = match category {
        Category::Network if !substituter.is_empty() => Category::Substituter,
        other => other,
    };
    let mut failure = Failure::new(category, &said(message));
    if category == Category::Substituter {
        failure.substituter = substituter;
    }
    if let Some(build) = watch.builds.iter().find(|build| names(&message.text, &build.derivation)) {
        add_build(&mut failure, build);
    } else if let Some(derivation) = derivation_in(&message.text) {
        failure.derivation = derivation;
    }
    if category == Category::HashMismatch {
        return mismatch(failure, message, scene);
    }
    failure.at(scene.project.of_message(message))
}

/// A builder that failed: its log says why.
fn of_builder(message: &Message, watch: &Watch, scene: &Scene) -> Failure {
    let build = watch.builds.iter().rev().find(|build| names(&message.text, &build.derivation));
    of_log(&said(message), build, derivation_in(&message.text), scene)
}

/// A build that failed, of which this was said, explained by its log.
fn of_log(said: &str, build: Option<&Build>, named: Option<String>, scene: &Scene) -> Failure {
    let derivation = build.map(|build| build.derivation.clone()).or(named);
    let lines = build.map(|build| build.log.tail(LOOKED_AT)).unwrap_or_default();
    let is_download = derivation.as_ref().is_some_and(|derivation| is_download(derivation, scene));
    let places = if is_download { &[Place::Log, Place::Download][..] } else { &[Place::Log] };
    let row = look_up_in(places, &telling(&lines));
    let in_check = build.and_then(Build::phase).is_some_and(|phase| phase.to_lowercase().contains("check"));
    // NixOS tests have no phases.
    let in_check = in_check || derivation.as_deref().is_some_and(|path| name_of(path).starts_with("vm-test-run-"));
    let (category, transient) = match row.map(|row| row.meaning) {
        Some(Meaning::Fails(category)) => (category, false),
        Some(Meaning::Passes(category)) => (category, true),
        _ if in_check => (Category::Test, false),
        _ => (Category::Build, false),
    };
    let mut failure = Failure { transient, ..Failure::new(category, said) };
    failure.derivation = derivation.unwrap_or_default();
    if let Some(build) = build {
        add_build(&mut failure, build);
    }
    if category == Category::Build && !failure.derivation.is_empty() {
        failure.remedy =
            format!("The last lines of the log say why; `nix log {}` shows all of it.", failure.derivation);
    }
    if let Some(row) = row.filter(|row| !row.remedy.is_empty()) {
        row.remedy.clone_into(&mut failure.remedy);
    }
    failure.at(scene.project.of_log(&lines))
}

pub(super) fn add_build(failure: &mut Failure, build: &Build) {
    failure.derivation.clone_from(&build.derivation);
    build.phase().unwrap_or_default().clone_into(&mut failure.phase);
    failure.log = build.log.tail(SHOWN).into_iter().map(str::to_owned).collect();
}

/// Nix's message, without the trace if they are separate, and with the name that Nix suggests.
pub(super) fn said(message: &Message) -> String {
    let text = if message.error.is_empty() { &message.text } else { &message.error };
    let text = text.trim();
    let text = text.strip_prefix("error:").unwrap_or(text).trim();
    let hint = message.text.lines().map(str::trim).find(|line| line.starts_with("Did you mean"));
    match hint.filter(|hint| !text.contains(hint)) {
        Some(hint) => format!("{text}\n{hint}"),
        None => text.to_owned(),
    }
}

/// Whether a derivation is a download: its outputs are known by hash, so it may use the network.
fn is_download(derivation: &str, scene: &Scene) -> bool {
    let root = scene.store_root.as_ref().map_or_else(|| PathBuf::from("/"), Clone::clone);
    let file = root.join(derivation.trim_start_matches('/'));
    let read = read_file(&file, MAX_TEXT)
        .ok()
        .and_then(|bytes| Derivation::from_aterm_bytes(&bytes, name_of(derivation)).ok());
    read.is_some_and(|read| read.outputs().values().any(|output| matches!(output, Output::Fixed { .. })))
}

/// The first derivation that a text names.
fn derivation_in(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '!' | '^' | ',' | ';'));
    let is_derivation = |word: &&str| word.strip_suffix(".drv").is_some_and(|word| word.starts_with("/nix/store/"));
    words.into_iter().find(is_derivation).map(str::to_owned)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
#[path = "failure_test.rs"]
mod tests;
