//! Writes files below one folder, through handles of folders: no symbolic link is ever followed, and a file is either the old one or
//! the complete new one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, mkdirat, open, openat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::archive::Attributes;
use super::sqlite::{self, Way};
use crate::base::platform::mode;

/// The prefix of temporary files.
pub(super) const TEMPORARY: &str = ".nix-cache-tmp.";

/// Writes files below one folder. Members of one folder should be consecutive, because the path to the last one stays open.
pub(super) struct Placer {
    base: PathBuf,
    root: OwnedFd,
    way: Vec<Step>,
    /// Whether databases in use are skipped.
    spare_databases: bool,
    count: u64,
}

/// A folder on the path to the last member.
struct Step {
    name: OsString,
    folder: OwnedFd,
    /// The attributes to set when it is complete.
    attributes: Option<Attributes>,
    created: bool,
}

impl Placer {
    /// Opens the folder `base`, which is trusted.
    ///
    /// # Errors
    /// When it is not a folder or cannot be read.
    pub(super) fn new(base: &Path, spare_databases: bool) -> io::Result<Self> {
        let root = open(base, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { base: base.to_owned(), root, way: Vec::new(), spare_databases, count: 0 })
    }

    /// The folder.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Creates the folder `path`. An existing one is not changed.
    ///
    /// # Errors
    /// When something else is there, or it cannot be made.
    pub(super) fn directory(&mut self, path: &Path, attributes: Attributes) -> io::Result<()> {
        self.walk(path, Some(attributes))
    }

    /// Writes the file `path` with `size` bytes of `content`.
    ///
    /// # Errors
    /// When it cannot be written, `content` ends early, or an existing file must not be replaced.
    pub(super) fn file(
        &mut self,
        path: &Path,
        size: u64,
        content: &mut dyn Read,
        attributes: Attributes,
    ) -> io::Result<()> {
        let name = self.enter(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let temporary = self.temporary();
        let mut file = File::from(openat(self.folder(), &temporary, flags, Mode::from_raw_mode(0o600))?);
        let written = (|| {
            if io::copy(&mut content.take(size), &mut file)? != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            fchmod(&file, mode(attributes.mode))?;
            futimens(&file, &times(attributes.modified))?;
            self.make_way(&temporary, &name)
        })();
        match written {
            Ok(Way::Merged) => Ok(unlinkat(self.folder(), &temporary, AtFlags::empty())?),
            Ok(Way::Replace) => self.finish(Ok(()), &temporary, &name),
            Err(error) => self.finish(Err(error), &temporary, &name),
        }
    }

    /// Creates the symbolic link `path`.
    ///
    /// # Errors
    /// When it cannot be made, or a folder is there.
    pub(super) fn link(&mut self, path: &Path, target: &OsStr, modified: Duration) -> io::Result<()> {
        let name = self.enter(path)?;
        let temporary = self.temporary();
        symlinkat(target, self.folder(), &temporary)?;
        // A link works even if its time cannot be set.
        let _ = rustix::fs::utimensat(self.folder(), &temporary, &times(modified), AtFlags::SYMLINK_NOFOLLOW);
        self.finish(Ok(()), &temporary, &name)
    }

    /// Sets modes and times of the folders that are still open.
    ///
    /// # Errors
    /// When they cannot be set.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.leave(0)
    }

    /// Renames a temporary file to its final name, or removes it.
    fn finish(&self, written: io::Result<()>, temporary: &str, name: &OsStr) -> io::Result<()> {
        let moved = written.and_then(|()| Ok(renameat(self.folder(), temporary, self.folder(), name)?));
        if moved.is_err() {
            // A leftover is never saved, because of its name.
            let _ = unlinkat(self.folder(), temporary, AtFlags::empty());
        }
        moved
    }

    fn folder(&self) -> &OwnedFd {
        self.way.last().map_or(&self.root, |step| &step.folder)
    }

    fn temporary(&mut self) -> String {
        self.count += 1;
        format!("{TEMPORARY}{}.{:x}", std::process::id(), self.count)
    }

    /// Handles an existing database of Nix's.
    fn make_way(&self, temporary: &str, name: &OsStr) -> io::Result<Way> {
        if !self.spare_databases || Path::new(name).extension().is_none_or(|end| end != "sqlite") {
            return Ok(Way::Replace);
        }
        let folder = self.way.iter().fold(self.base.clone(), |path, step| path.join(&step.name));
        sqlite::make_way(&folder.join(name), &folder.join(temporary)).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                io::Error::other("another program is writing to it, so it is not changed")
            }
            _ => io::Error::other(error.to_string()),
        })
    }

    /// Opens the parent folder of `path`, and returns its file name.
    fn enter(&mut self, path: &Path) -> io::Result<OsString> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_owned();
        self.walk(path.parent().unwrap_or(Path::new("")), None)?;
        Ok(name)
    }

    /// Opens the folder `path`, and creates it and its parents if missing.
    fn walk(&mut self, path: &Path, attributes: Option<Attributes>) -> io::Result<()> {
        let names: Vec<&OsStr> = path
            .components()
            .map(|component| match component {
                Component::Normal(name) => Ok(name),
                _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
            })
            .collect::<io::Result<_>>()?;
        let same = self.way.iter().zip(&names).take_while(|(step, name)| step.name == **name).count();
        self.leave(same)?;
        for name in &names[same..] {
            let step = self.step(name)?;
            self.way.push(step);
        }
        if let (Some(step), Some(attributes)) = (self.way.last_mut(), attributes) {
            step.attributes = Some(attributes);
        }
        Ok(())
    }

    fn step(&self, name: &OsStr) -> io::Result<Step> {
        let created = match mkdirat(self.folder(), name, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(self.folder(), name, flags, Mode::empty()).map_err(|error| {
            let at = self.way.iter().fold(self.base.clone(), |path, step| path.join(&step.name)).join(name);
            match error {
                Errno::LOOP | Errno::NOTDIR => {
                    io::Error::other(format!("{} exists and is not a folder; links are not followed", at.display()))
                }
                error => error.into(),
            }
        })?;
        Ok(Step { name: name.to_owned(), folder, attributes: None, created })
    }

    /// Closes all folders except for the first `keep` ones, the innermost first.
    fn leave(&mut self, keep: usize) -> io::Result<()> {
        while self.way.len() > keep {
            let Some(step) = self.way.pop() else { break };
            if let (Some(attributes), true) = (step.attributes, step.created) {
                fchmod(&step.folder, mode(attributes.mode))?;
                futimens(&step.folder, &times(attributes.modified))?;
            }
        }
        Ok(())
    }
}

/// The same time for the last change and the last access, so that a later access can be recognised.
fn times(modified: Duration) -> Timestamps {
    let time = Timespec { tv_sec: modified.as_secs() as i64, tv_nsec: modified.subsec_nanos().into() };
    Timestamps { last_access: time, last_modification: time }
}
