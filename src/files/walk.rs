//! Finds the files of a level, in the same order every time.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::gaps::Gaps;
use super::member::Member;
use super::nix::{Gathering, Staged};
use super::place::TEMPORARY;
use super::roots::{Location, Place, Roots};
use crate::base::note::{Code, Note};

/// A file, folder or symbolic link of a level.
pub(super) struct Item {
    /// What it is called in an archive.
    pub member: Member,
    /// Where its bytes are to be read.
    pub at: PathBuf,
    /// What it is; where `at` is a copy, its size need not be that of the bytes.
    pub metadata: Metadata,
}

/// What a walk could not take along, and which patterns named something.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Files that cannot be read.
    pub unreadable: Gaps,
    /// Sockets, devices and the like.
    special: Gaps,
    /// Numbers of patterns that named something.
    matched: BTreeSet<usize>,
}

impl Findings {
    /// Says what the user should know.
    pub(super) fn note(&self, roots: &Roots, notes: &mut Vec<Note>) {
        if let Some(what) = self.unreadable.sentence() {
            let message =
                format!("Files that could not be read are not saved: {what}. Make them readable or exclude them.");
            notes.push(super::warn(Code::FilesUnreadable, message));
        }
        if let Some(what) = self.special.sentence() {
            notes
                .push(super::info(Code::FilesSpecial, format!("Only files, folders and links are saved, not {what}.")));
        }
        let unmatched = roots.given().iter().enumerate().filter(|(number, _)| !self.matched.contains(number));
        let unmatched: Vec<_> = unmatched.map(|(_, given)| given.as_str()).collect();
        if !unmatched.is_empty() && roots.nix().is_none() {
            let message = format!(
                "There is nothing to save that these patterns of the input paths name: {}.",
                unmatched.join(", ")
            );
            notes.push(super::info(Code::FilesUnmatched, message));
        }
    }
}

/// The files of a level, ready to be read any number of times.
pub(super) struct Sources<'a> {
    roots: &'a Roots,
    staged: Option<Staged>,
}

impl<'a> Sources<'a> {
    /// Looks through Nix's caches, if that is what `roots` are, and copies their databases into the folder `scratch`.
    ///
    /// # Errors
    /// When `scratch` cannot be written.
    pub(super) fn prepare(roots: &'a Roots, scratch: &Path, notes: &mut Vec<Note>) -> io::Result<Self> {
        let mut sources = Self { roots, staged: None };
        if let Some(limits) = roots.nix() {
            let mut gathering = Gathering::new(limits);
            sources.visit(&mut Findings::default(), &mut |item| {
                if !item.metadata.is_dir() {
                    gathering.add(&item.member.path, &item.at, &item.metadata);
                }
                Ok(())
            })?;
            sources.staged = Some(gathering.stage(scratch, notes)?);
        }
        Ok(sources)
    }

    /// Shows `visit` every file, folder and link: each folder before what is in it.
    ///
    /// # Errors
    /// Those of `visit`. What cannot be read is in the findings.
    pub(super) fn visit(
        &self,
        findings: &mut Findings,
        visit: &mut impl FnMut(&Item) -> io::Result<()>,
    ) -> io::Result<()> {
        for place in self.roots.places() {
            match self.roots.location(place) {
                Ok(location) => self.visit_place(place, &location, findings, visit)?,
                Err(error) => findings.unreadable.add(&place.path, &error),
            }
        }
        Ok(())
    }

    fn visit_place(
        &self,
        place: &Place,
        location: &Location,
        findings: &mut Findings,
        visit: &mut impl FnMut(&Item) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = location.base.join(&location.rest);
        if !reached(location) {
            return Ok(());
        }
        let named = |at: &Path| match at.strip_prefix(&start) {
            Ok(inner) if !inner.as_os_str().is_empty() => place.path.join(inner),
            _ => place.path.clone(),
        };
        let entries = WalkDir::new(&start).follow_links(false).follow_root_links(false).sort_by_file_name();
        let wanted = |entry: &DirEntry| !is_ours(entry) && !self.roots.excludes(&named(entry.path()));
        for entry in entries.into_iter().filter_entry(wanted) {
            let found = entry.and_then(|entry| Ok((entry.metadata()?, entry.into_path())));
            match found {
                Ok((metadata, at)) => {
                    let path = named(&at);
                    if let Some(item) = self.item(place, &path, at, metadata, findings) {
                        visit(&item)?;
                    }
                }
                Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => {}
                Err(error) => findings.unreadable.add(&error.path().map_or(start.clone(), Path::to_owned), &error),
            }
        }
        Ok(())
    }

    fn item(
        &self,
        place: &Place,
        path: &Path,
        at: PathBuf,
        metadata: Metadata,
        findings: &mut Findings,
    ) -> Option<Item> {
        let matching = self.roots.matching(path);
        let member = self.roots.member(place, path).filter(|_| !matching.is_empty())?;
        findings.matched.extend(matching);
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_dir() && !kind.is_symlink() {
            findings.special.add(&at, &"neither a file nor a folder");
            return None;
        }
        let at = match &self.staged {
            Some(staged) => staged.source(&member.path, &at, &metadata)?,
            None => at,
        };
        Some(Item { member, at, metadata })
    }
}

/// Whether this is a temporary file or folder of ours.
fn is_ours(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Whether the way to a place is there and free of symbolic links.
fn reached(location: &Location) -> bool {
    let mut at = location.base.clone();
    let mut names = location.rest.components().peekable();
    while let Some(name) = names.next() {
        at.push(name);
        match std::fs::symlink_metadata(&at) {
            Ok(metadata) if metadata.is_dir() || names.peek().is_none() => {}
            _ => return false,
        }
    }
    true
}
