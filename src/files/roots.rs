//! The files that belong to a level, which are the only places that a restore writes to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use globset::GlobSet;

use super::member::{Anchor, Member};
use super::nix::NixLimits;
use super::pattern::{self, Pattern, PatternError};
use crate::base::globs;

/// The files that patterns select.
#[derive(Clone, Debug)]
pub struct Roots {
    anchors: BTreeMap<Anchor, PathBuf>,
    include: GlobSet,
    exclude: GlobSet,
    /// The including patterns, as given, in the order of `include`.
    given: Vec<String>,
    places: Vec<Place>,
    /// The limits, if these are Nix's caches.
    nix: Option<NixLimits>,
}

/// A file or folder to walk; none is below another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The folder that its files are relative to.
    pub anchor: Anchor,
    /// Its path, with unresolved symbolic links.
    pub path: PathBuf,
}

/// The location of a place on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The nearest existing folder on the path, with symbolic links resolved.
    pub base: PathBuf,
    /// The rest of the path. Links in it are not followed.
    pub rest: PathBuf,
}

impl Roots {
    /// The files that the user's `patterns` select.
    ///
    /// A pattern is relative to `workspace`, or starts with `~/` or `/`. `*` and `?` match within one folder, `**` matches across
    /// folders, and `[a-z]` and `{a,b}` are supported. A folder includes everything in it; `!` in front excludes files, in any
    /// order. Symbolic links are saved as links. Links in the part of a pattern without wildcards are followed, but never out of
    /// the workspace.
    ///
    /// # Errors
    /// [`PatternError`] for an invalid pattern.
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

    /// Changes the limits of Nix's caches: evaluation caches that were last used longer ago than `max_age` are left out, and so are
    /// parts beyond `max_bytes` in total.
    #[must_use]
    pub fn with_limits(mut self, max_age: std::time::Duration, max_bytes: u64) -> Self {
        if let Some(limits) = &mut self.nix {
            *limits = NixLimits { max_age, max_bytes };
        }
        self
    }

    /// Returns whether there is no including pattern.
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

    /// The files and folders to walk.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The including patterns, as given.
    pub(super) fn given(&self) -> &[String] {
        &self.given
    }

    /// The limits, if these are Nix's caches.
    pub(super) fn nix(&self) -> Option<NixLimits> {
        self.nix
    }

    /// The indexes in [`Roots::given`] of the patterns that match `path` or one of its parents.
    pub(super) fn matching(&self, path: &Path) -> Vec<usize> {
        path.ancestors().flat_map(|path| self.include.matches(path)).collect()
    }

    /// Returns whether the file or folder `path` is excluded, with its content.
    pub(super) fn excludes(&self, path: &Path) -> bool {
        path.ancestors().any(|path| self.exclude.is_match(path))
    }

    /// The name in an archive of `path`, which is in or at `place`. None for the anchor folder itself.
    pub(super) fn member(&self, place: &Place, path: &Path) -> Option<Member> {
        let path = path.strip_prefix(self.anchors.get(&place.anchor)?).ok()?;
        (!path.as_os_str().is_empty()).then(|| Member { anchor: place.anchor, path: path.to_owned() })
    }

    /// The index of the place that contains `member`, and its path. None if there is none, or it is excluded.
    pub(super) fn locate(&self, member: &Member) -> Option<(usize, PathBuf)> {
        let path = self.anchors.get(&member.anchor)?.join(&member.path);
        let named = path.ancestors().any(|path| self.include.is_match(path)) && !self.excludes(&path);
        let place = self.places.iter().position(|place| path.starts_with(&place.path))?;
        named.then_some((place, path))
    }

    /// The location of `place` on this machine.
    ///
    /// # Errors
    /// When its parents cannot be read, or a symbolic link leads out of the workspace.
    pub(super) fn location(&self, place: &Place) -> io::Result<Location> {
        let anchor = self.anchors.get(&place.anchor).filter(|anchor| **anchor == place.path);
        // An anchor folder may itself be a link; the path in a pattern may not.
        let start = anchor.map(PathBuf::as_path).or(place.path.parent()).unwrap_or(&place.path);
        let (base, named) = nearest(start)?;
        let rest = place.path.strip_prefix(&named).unwrap_or(Path::new("")).to_owned();
        if place.anchor == Anchor::Workspace {
            let workspace =
                self.anchors.get(&Anchor::Workspace).map_or(Ok(("/".into(), "/".into())), |path| nearest(path));
            if !base.starts_with(&workspace?.0) {
                return Err(io::Error::other("a symbolic link in its path leads out of the workspace"));
            }
        }
        Ok(Location { base, rest })
    }
}

/// The nearest existing folder of `path` and its parents, with resolved symbolic links and by name.
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

/// The nearest anchor folder.
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
