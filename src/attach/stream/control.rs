//! The file through which a worker says what it does, and takes commands.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::fuse::{self, Request};
use super::server::{Server, lock};
use super::status::Status;
use crate::base::digest::Sha;

/// The name of the file.
pub(super) const CONTROL: &str = "control";
/// Number of spans in one command, which must fit into a page.
const SPANS: usize = 100;

/// A command for the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// The restore is over: fetch everything in the background, besides what is read.
    Fill,
    /// Stop fetching in the background. What is read is still fetched.
    Finish,
    /// Fetch nothing more. Reads that wait fail, and so do later ones of bytes that are not here.
    Abort,
    /// End. Reads that wait fail, and so does every later one.
    End,
    /// Fetch these parts of a layer soon, because they are probably read.
    First {
        /// Its id.
        layer: Sha,
        /// First bytes, and those behind the last ones.
        spans: Vec<(u64, u64)>,
    },
}

impl Server {
    /// Answers a read of the state. Later reads of the same reader belong to the first one.
    pub(super) fn read_status(&self, unique: u64, offset: u64, size: u32) {
        let waiting = lock(&self.waiting).len();
        let mut status = lock(&self.status);
        if offset == 0 {
            *status = serde_json::to_vec(&self.blobs.status(waiting)).unwrap_or_default();
        }
        let start = status.len().min(offset as usize);
        let end = status.len().min(start + size as usize);
        fuse::answer(&self.fuse, unique, Ok(&status[start..end]));
    }

    /// Carries out a command. Returns false if it ends this process.
    pub(super) fn obey(self: &Arc<Self>, request: &Request<'_>, bytes: &[u8]) -> bool {
        let command = serde_json::from_slice(bytes);
        let done = fuse::written(bytes.len());
        let result = if command.is_ok() { Ok(&*done) } else { Err(Errno::INVAL) };
        let is_end = matches!(command, Ok(Command::End));
        match command {
            Ok(Command::Fill) => self.blobs.let_fill(),
            Ok(Command::Finish) => self.blobs.stop(),
            Ok(Command::Abort) => self.blobs.abort(),
            Ok(Command::First { layer, spans }) => {
                let layers = &self.blobs.plan.layers;
                if let Some(number) = layers.iter().position(|known| known.id == layer) {
                    tokio::spawn(Arc::clone(&self.blobs).fetch_first(number, spans));
                }
            }
            Ok(Command::End) | Err(_) => {}
        }
        fuse::answer(&self.fuse, request.unique, result);
        !is_end
    }
}

/// Sends a command to the worker of the stream with these files.
pub(super) fn command(files: &Path, command: &Command) -> io::Result<()> {
    let control = OpenOptions::new().write(true).open(files.join(CONTROL))?;
    control.write_all_at(&serde_json::to_vec(command)?, 0)
}

/// Asks the worker of the stream with these files for parts of a layer that are probably read.
pub(super) fn fetch_first(files: &Path, layer: Sha, spans: &[(u64, u64)]) -> io::Result<()> {
    spans.chunks(SPANS).try_for_each(|spans| command(files, &Command::First { layer, spans: spans.to_vec() }))
}

/// What the worker says about itself; None if nobody answers.
pub(super) fn status(files: &Path) -> Option<Status> {
    let mut bytes = Vec::new();
    File::open(files.join(CONTROL)).and_then(|mut file| file.read_to_end(&mut bytes)).ok()?;
    serde_json::from_slice(&bytes).ok()
}
