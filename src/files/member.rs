//! Names of files in an archive: a word for the anchor folder, followed by the path relative to it. A file therefore gets its place
//! even if the workspace or the home folder is different.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest accepted name; file systems allow no longer path.
const MAX_NAME: usize = 4096;

/// A folder that paths are relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Anchor {
    /// Where the repository is checked out.
    Workspace,
    /// The user's home folder.
    Home,
    /// Nix's own cache folder.
    NixCache,
    /// The root directory.
    Root,
}

impl Anchor {
    const ALL: [Self; 4] = [Self::Workspace, Self::Home, Self::NixCache, Self::Root];

    /// The word for it in names.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Home => "home",
            Self::NixCache => "nix-cache",
            Self::Root => "root",
        }
    }
}

/// A file, folder or symbolic link in an archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Member {
    /// The folder that its path is relative to.
    pub anchor: Anchor,
    /// Its relative path; never empty, plain names only.
    pub path: PathBuf,
}

impl Member {
    /// Its name in the archive.
    pub(super) fn name(&self) -> Vec<u8> {
        let mut name = format!("{}/", self.anchor.word()).into_bytes();
        name.extend(self.path.as_os_str().as_bytes());
        name
    }

    /// Parses a name. None unless [`Member::name`] would write it.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let slash = name.iter().position(|byte| *byte == b'/')?;
        let anchor = Anchor::ALL.into_iter().find(|anchor| anchor.word().as_bytes() == &name[..slash])?;
        let path = &name[slash + 1..];
        let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
        if name.len() > MAX_NAME || !path.split(|byte| *byte == b'/').all(plain) {
            return None;
        }
        Some(Self { anchor, path: Path::new(OsStr::from_bytes(path)).to_owned() })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.anchor.word(), self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        for anchor in Anchor::ALL {
            for path in ["a", "a/b c", "-x/é", "..a/b..", "a\\..\\b"] {
                let member = Member { anchor, path: PathBuf::from(path) };
                assert_eq!(Member::parse(&member.name()), Some(member));
            }
        }
        let bytes = Member { anchor: Anchor::Home, path: Path::new(OsStr::from_bytes(b"\xff\n")).to_owned() };
        assert_eq!(Member::parse(&bytes.name()), Some(bytes));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_none() {
        for name in [
            "",
            "/",
            "home",
            "home/",
            "home//a",
            "home/../a",
            "home/a/..",
            "home/./a",
            "/home/a",
            "other/a",
            "../a",
            "home/a/",
            "home/a\0b",
            "Home/a",
        ] {
            assert_eq!(Member::parse(name.as_bytes()), None, "{name}");
        }
        assert_eq!(Member::parse(format!("home/{}", "a/".repeat(3000) + "b").as_bytes()), None);
    }
}
