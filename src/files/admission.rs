//! Checks the members of an archive of Nix's caches: nothing in it may run or control a program. See [`gitstore`].

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::{Content, refused};
use super::gitstore::{self, Part, has_form};
use super::member::{Anchor, Member};

/// Checks the members of one archive.
#[derive(Default)]
pub(super) struct Admission {
    /// Git stores, and whether each has a `HEAD`.
    stores: BTreeMap<PathBuf, bool>,
}

impl Admission {
    /// Checks one member, and returns the number of its bytes that were read.
    ///
    /// # Errors
    /// When this program would not write such a member.
    pub(super) fn admit(&mut self, member: &Member, content: &mut Content<'_>) -> io::Result<u64> {
        let known = matches!(member.anchor, Anchor::NixCache).then_some(&member.path);
        let is_folder = matches!(content, Content::Directory);
        let part = known.and_then(|path| gitstore::part(path, is_folder));
        let refuse = || refused(&format!("{member}"));
        let Some(part) = part.filter(|_| !matches!(content, Content::Link(_))) else { return Err(refuse()) };
        if let Some(store) = gitstore::store(&member.path) {
            let is_head = member.path.strip_prefix(store) == Ok(Path::new("HEAD"));
            *self.stores.entry(store.to_owned()).or_default() |= is_head;
        }
        match (part, content) {
            (Part::Text(form), Content::File(size, reader)) => {
                if *size > gitstore::MOST_TEXT {
                    return Err(refuse());
                }
                let mut text = Vec::new();
                reader.take(*size).read_to_end(&mut text)?;
                *size -= text.len() as u64;
                if has_form(form, &text) { Ok(text.len() as u64) } else { Err(refuse()) }
            }
            _ => Ok(0),
        }
    }

    /// Checks that all Git stores are complete.
    ///
    /// # Errors
    /// When one lacks a file without which Git does not recognise a repository: Nix would fail on it.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.stores.into_iter().find(|(_, has_head)| !has_head) {
            Some((store, _)) => Err(refused(&format!("{}, a Git store without HEAD", store.display()))),
            None => Ok(()),
        }
    }
}
