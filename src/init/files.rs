//! Files to be written into a repository.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::InitError;
use crate::base::bounds::{MAX_TEXT, read_text};

/// What is at the place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    New,
    /// The same text.
    Same,
    /// Something else.
    Differs,
}

/// A file and its text.
#[derive(Clone, Debug)]
pub(crate) struct NewFile {
    /// Its name from the top of the repository.
    pub name: String,
    pub path: PathBuf,
    pub text: String,
    pub state: State,
}

impl NewFile {
    pub(super) fn new(top: &Path, name: &str, text: String) -> Self {
        let path = top.join(name);
        let state = match read_text(&path, MAX_TEXT) {
            Ok(there) if there == text => State::Same,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::New,
            // A file that is not text is something of the user's all the same.
            Ok(_) | Err(_) => State::Differs,
        };
        Self { name: name.to_owned(), path, text, state }
    }

    /// Returns an error if a link on the way to the file leads out of the repository.
    fn stays_inside(&self, folder: &Path) -> io::Result<()> {
        let depth = Path::new(&self.name).components().count();
        let top = self.path.ancestors().nth(depth).unwrap_or(Path::new("."));
        let there = folder.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(top);
        if there.canonicalize()?.starts_with(top.canonicalize()?) {
            return Ok(());
        }
        Err(io::Error::other(format!("{} is a link that leads out of the repository. Remove it", there.display())))
    }

    /// Writes it whole or not at all.
    pub(super) fn write(&self) -> Result<(), InitError> {
        let failed = |error| InitError::File { file: self.path.clone(), done: "written", error };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        self.stays_inside(folder).and_then(|()| fs::create_dir_all(folder)).map_err(failed)?;
        let mut file = tempfile::Builder::new().permissions(rights()).tempfile_in(folder).map_err(failed)?;
        file.write_all(self.text.as_bytes()).map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

fn rights() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}
