//! All printing of this program, so that no text from outside can control a runner.
//!
//! A runner executes commands in the output of a step (`::add-mask::…`, `##[group]…`), and messages contain texts from a cache, a
//! lock file, a service or a builder. [`out`], [`err`] and [`Lines`] therefore break every command in their text ([`text`]).
//! Commands that are meant for the runner go to [`Raw`], and nothing else does. `clippy.toml` forbids every other way to print,
//! and child processes that share our output.

mod text;

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::thread::JoinHandle;

pub(crate) use text::{json, line, safe};

/// Longest line of another program that is not split, in bytes.
const LONGEST: u64 = 64 << 10;

/// Prints `text` to standard output.
pub(crate) fn out(text: &str) {
    write(Raw::out(), &safe(text));
}

/// Prints JSON to standard output without changing its meaning.
pub(crate) fn out_json(text: &str) {
    write(Raw::out(), &json(text));
}

/// Prints `text` to standard error.
pub(crate) fn err(text: &str) {
    write(Raw::err(), &safe(text));
}

/// Ignores errors: if the reader has closed its end, there is nobody to print to.
fn write(mut to: Raw, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// Unfiltered standard output or standard error. For our workflow commands, whose values are escaped, and for lines that went
/// through [`safe`].
#[derive(Debug)]
pub(crate) enum Raw {
    /// Standard output.
    Out(io::Stdout),
    /// Standard error.
    Err(io::Stderr),
}

impl Raw {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn out() -> Self {
        Self::Out(io::stdout())
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn err() -> Self {
        Self::Err(io::stderr())
    }

    /// Returns whether this is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        match self {
            Self::Out(out) => out.is_terminal(),
            Self::Err(err) => err.is_terminal(),
        }
    }
}

impl Write for Raw {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Out(out) => out.write(bytes),
            Self::Err(err) => err.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Out(out) => out.flush(),
            Self::Err(err) => err.flush(),
        }
    }
}

/// A writer that collects one message for standard error and prints it when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let message = String::from_utf8_lossy(&self.0);
        let raw = Raw::err();
        let shown = if raw.is_terminal() { text::coloured(&message) } else { safe(&message) };
        write(raw, &shown);
    }
}

/// Prints what another program writes to `source`, line by line, until it ends.
pub(crate) fn relay(source: impl Read + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut bytes = Vec::new();
        while matches!((&mut source).take(LONGEST).read_until(b'\n', &mut bytes), Ok(1..)) {
            let line = String::from_utf8_lossy(&bytes);
            err(&format!("{}\n", line.trim_end_matches(['\r', '\n'])));
            bytes.clear();
        }
    })
}

/// Makes panics print their message through this module.
pub(crate) fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        err(&format!("nix-cache stopped because of a bug; please report it: {panic}\n"));
    }));
}
