//! Which files belong to a level, and so the only places that a restore writes to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use globset::GlobSet;

use super::member::{Anchor, Member};
use super::nix::NixLimits;
use super::pattern::{self, Pattern, PatternError};
use crate::base::globs;

/// The files that patterns name.
#[derive(Clone, Debug)]
pub struct Roots {
    anchors: BTreeMap<Anchor, PathBuf>,
    include: GlobSet,
    exclude: GlobSet,
    /// The patterns that include, as they were given, in the order of `include`.
    given: Vec<String>,
    places: Vec<Place>,
    /// What else holds, where these are Nix's caches.
    nix: Option<NixLimits>,
}

/// A file or folder to look at; none is under another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// What its files are counted from.
    pub anchor: Anchor,
    /// Where it is by name. Symbolic links on the way are not yet resolved.
    pub path: PathBuf,
}

/// Where a place is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The nearest folder on the way that is there, free of symbolic links.
    pub base: PathBuf,
    /// The way on from there. Links on it are not followed.
    pub rest: PathBuf,
}

impl Roots {
    /// The files that the user's `patterns` name.
    ///
    /// A pattern is relative to `workspace`, or starts with `~/` or `/`. `*` and `?` stay within one folder, `**` crosses
    /// folders, `[a-z]` and `{a,b}` are known; what is named stands for everything in it, too; `!` in front takes files
    /// away, whatever the order. Symbolic links are saved as links. Those on the way to what a pattern names without a
    /// wildcard are followed, but never out of the workspace.
    ///
    /// # Errors
    /// [`PatternError`] for a pattern that cannot be used.
    pub fn user(workspace: &Path, home: Option<&Path>, patterns: &[String]) -> Result<Self, PatternError> {
        let mut anchors = BTreeMap::from([(Anchor::Workspace, absolute(workspace)), (Anchor::Root, "/".into())]);
        if let Some(home) = home {
            anchors.insert(Anchor::Home, absolute(home));
        }
        let patterns = patterns.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        Self::build(anchors, patterns, None)
    }

    /// Nix's caches of evaluations and downloads in `folder` (see [`super::nix_cache_dir`]).
    #[must_use]
    pub fn nix_caches(folder: &Path) -> Self {
        let anchors = BTreeMap::from([(Anchor::NixCache, absolute(folder))]);
        Self::build(anchors, super::nix::PATTERNS.into_iter(), Some(NixLimits::default())).unwrap_or_else(|error| {
            tracing::warn!("Nix's caches are left out: {error}");
            Self::none()
        })
    }

    /// As these, which are Nix's caches, with other limits: evaluation caches that were last used longer ago than `max_age`
    /// are left out, and so is what would make the whole larger than `max_bytes`.
    #[must_use]
    pub fn with_limits(mut self, max_age: std::time::Duration, max_bytes: u64) -> Self {
        if let Some(limits) = &mut self.nix {
            *limits = NixLimits { max_age, max_bytes };
        }
        self
    }

    /// Whether no pattern names any file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn none() -> Self {
        let (anchors, given, places) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { anchors, include: GlobSet::empty(), exclude: GlobSet::empty(), given, places, nix: None }
    }

    fn build<'a>(
        anchors: BTreeMap<Anchor, PathBuf>,
        patterns: impl Iterator<Item = &'a str>,
        nix: Option<NixLimits>,
    ) -> Result<Self, PatternError> {
        let start = anchors.values().next().cloned().unwrap_or_default();
        let home = anchors.get(&Anchor::Home).cloned();
        let patterns: Vec<Pattern> =
            patterns.map(|text| pattern::parse(text, &start, home.as_deref())).collect::<Result<_, _>>()?;
        let including = || patterns.iter().filter(|pattern| !pattern.excludes);
        let places: BTreeSet<&Path> = including().map(|pattern| pattern.place.as_path()).collect();
        let outermost = places.iter().filter(|place| !place.ancestors().skip(1).any(|outer| places.contains(outer)));
        let places = outermost.map(|path| Place { anchor: anchor_of(&anchors, path), path: path.to_path_buf() });
        let mut places: Vec<Place> = places.collect();
        places.sort();
        Ok(Self {
            include: globs_of(including())?,
            exclude: globs_of(patterns.iter().filter(|pattern| pattern.excludes))?,
            given: including().map(|pattern| pattern.given.clone()).collect(),
            anchors,
            places,
            nix,
        })
    }

    /// The files and folders to look at.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The patterns that include, as they were given.
    pub(super) fn given(&self) -> &[String] {
        &self.given
    }

    /// The limits, where these are Nix's caches.
    pub(super) fn nix(&self) -> Option<NixLimits> {
        self.nix
    }

    /// The numbers in [`Roots::given`] of the patterns that name `path` or a folder that it is in.
    pub(super) fn matching(&self, path: &Path) -> Vec<usize> {
        path.ancestors().flat_map(|path| self.include.matches(path)).collect()
    }

    /// Whether the file or folder `path` is left out, with all that is in it.
    pub(super) fn excludes(&self, path: &Path) -> bool {
        path.ancestors().any(|path| self.exclude.is_match(path))
    }

    /// The name in an archive of `path`, which is in or at `place`. None for the folder that names are counted from.
    pub(super) fn member(&self, place: &Place, path: &Path) -> Option<Member> {
        let path = path.strip_prefix(self.anchors.get(&place.anchor)?).ok()?;
        (!path.as_os_str().is_empty()).then(|| Member { anchor: place.anchor, path: path.to_owned() })
    }

    /// The number of the place that `member` is in, and its path by name. None when it is in none, or is left out.
    pub(super) fn locate(&self, member: &Member) -> Option<(usize, PathBuf)> {
        let path = self.anchors.get(&member.anchor)?.join(&member.path);
        let named = path.ancestors().any(|path| self.include.is_match(path)) && !self.excludes(&path);
        let place = self.places.iter().position(|place| path.starts_with(&place.path))?;
        named.then_some((place, path))
    }

    /// Where `place` is on this machine.
    ///
    /// # Errors
    /// When its surroundings cannot be read, or a symbolic link leads out of the workspace.
    pub(super) fn location(&self, place: &Place) -> io::Result<Location> {
        let anchor = self.anchors.get(&place.anchor).filter(|anchor| **anchor == place.path);
        // A folder that names are counted from may itself be a link; what a pattern names may not.
        let start = anchor.map(PathBuf::as_path).or(place.path.parent()).unwrap_or(&place.path);
        let (base, named) = nearest(start)?;
        let rest = place.path.strip_prefix(&named).unwrap_or(Path::new("")).to_owned();
        if place.anchor == Anchor::Workspace {
            let workspace =
                self.anchors.get(&Anchor::Workspace).map_or(Ok(("/".into(), "/".into())), |path| nearest(path));
            if !base.starts_with(&workspace?.0) {
                return Err(io::Error::other("a symbolic link on the way leads out of the workspace"));
            }
        }
        Ok(Location { base, rest })
    }
}

/// The nearest of `path` and the folders that it is in that is there, without symbolic links and by its name.
fn nearest(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    for folder in path.ancestors() {
        match fs::canonicalize(folder) {
            Ok(real) => return Ok((real, folder.to_owned())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(ErrorKind::NotFound))
}

/// The nearest folder that names are counted from.
fn anchor_of(anchors: &BTreeMap<Anchor, PathBuf>, path: &Path) -> Anchor {
    let around = anchors.iter().find(|(_, folder)| path.starts_with(folder));
    around.map_or(Anchor::Root, |(anchor, _)| *anchor)
}

fn globs_of<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Result<GlobSet, PatternError> {
    let globs = patterns.map(|pattern| (&pattern.given, pattern.glob.clone()));
    globs::set(globs)
        .map_err(|(given, error)| PatternError { pattern: given.cloned().unwrap_or_default(), why: error.to_string() })
}

fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| Path::new("/").join(path));
    path.components().collect()
}
