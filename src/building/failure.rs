//! Explains failures from the errors of Nix, the logs of the builds that they name, and the table of patterns.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nix_derivation::{Derivation, Output};
use serde::{Deserialize, Serialize};

use super::category::Category;
use super::event::Message;
use super::patterns::{Meaning, Place, look_up, look_up_in};
use super::position::{Position, Project};
use super::substituters::Substituters;
use super::text::{folded, name_of};
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

    /// What it is called in a heading: the derivation's name, else the category.
    #[must_use]
    pub(crate) fn subject(&self) -> &str {
        if self.derivation.is_empty() { self.category.title() } else { name_of(&self.derivation) }
    }

    fn at(mut self, position: Option<Position>) -> Self {
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
    let errors = || watch.messages.iter().filter(|message| is_error(message));
    let mut seen = BTreeSet::new();
    let failures = errors()
        .filter_map(|message| of_error(message, watch, scene))
        .filter(|failure| seen.insert((failure.category, failure.derivation.clone(), failure.message.clone())));
    let mut failures: Vec<_> = failures.take(MOST).collect();
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
        let text = folded(&message.text);
        text.contains("disabling binary cache")
            || matches!(look_up(&[Place::Message], &text), Some(Meaning::Passes(Category::Substituter)))
    });
    failed.filter_map(|message| scene.substituters.named_in(&message.text, &watch.asked)).collect()
}

fn is_error(message: &Message) -> bool {
    message.level == 0 && message.text.trim_start().starts_with("error:")
}

fn of_error(message: &Message, watch: &Watch, scene: &Scene) -> Option<Failure> {
    let text = folded(&message.text);
    match look_up(&[Place::Message], &text) {
        Some(Meaning::Consequence) => None,
        Some(Meaning::Builder) => Some(of_builder(message, watch, scene)),
        Some(Meaning::Fails(category)) => Some(known(category, message, watch, scene)),
        Some(Meaning::Passes(category)) => Some(Failure { transient: true, ..known(category, message, watch, scene) }),
        // Before anything is built or fetched, only the Nix code can be wrong.
        None if !watch.has_begun() || message.line.is_some() => {
            Some(known(Category::Evaluation, message, watch, scene))
        }
        None => Some(known(Category::Unknown, message, watch, scene)),
    }
}

fn known(category: Category, message: &Message, watch: &Watch, scene: &Scene) -> Failure {
    let substituter = scene.substituters.named_in(&message.text, &watch.asked).unwrap_or_default();
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
    match category {
        Category::HashMismatch => {
            let (specified, got) = hashes(&message.text);
            if let (Some(specified), Some(got)) = (&specified, &got) {
                failure.remedy = format!(
                    "If the download was meant to change, put {got} in place of {specified}. If not, find out why it did."
                );
            }
            let position = specified.and_then(|hash| scene.project.of_text(&hash));
            failure.at(position.or_else(|| scene.project.of_message(message)))
        }
        _ => failure.at(scene.project.of_message(message)),
    }
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
    let places = if is_download { &[Place::Log, Place::DownloadLog][..] } else { &[Place::Log] };
    let texts: Vec<String> = lines.iter().map(|line| folded(line)).collect();
    let in_check = build.and_then(Build::phase).is_some_and(|phase| phase.to_lowercase().contains("check"));
    let (category, transient) = match look_up_in(places, &texts) {
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
    failure.at(scene.project.of_log(&lines))
}

fn add_build(failure: &mut Failure, build: &Build) {
    failure.derivation.clone_from(&build.derivation);
    build.phase().unwrap_or_default().clone_into(&mut failure.phase);
    failure.log = build.log.tail(SHOWN).into_iter().map(str::to_owned).collect();
}

/// Nix's message, without the trace if they are separate.
fn said(message: &Message) -> String {
    let text = if message.error.is_empty() { &message.text } else { &message.error };
    let text = text.trim();
    text.strip_prefix("error:").unwrap_or(text).trim().to_owned()
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

/// The hash that was specified, and the one that Nix got.
fn hashes(text: &str) -> (Option<String>, Option<String>) {
    let behind = |name: &str| {
        let rest = text.split_once(name)?.1.trim_start();
        rest.split_whitespace().next().map(|hash| hash.trim_matches(['\'', ',', '"']).to_owned())
    };
    (behind("specified:").or_else(|| behind("expected ")), behind("got:").or_else(|| behind("got ")))
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
