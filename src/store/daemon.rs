//! Asks a nix-daemon what it sees, through its socket. The protocol is `src/libstore/worker-protocol.hh` of Nix, in version 1.35
//! or whatever older one the daemon supports. Only the two requests that we need are implemented.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::{PathInfo, STORE_DIR, StoreDirs};
use crate::base::env_vars;

const CLIENT: u64 = 0x6e69_7863;
const DAEMON: u64 = 0x6478_696f;
const VERSION: u64 = 0x0123;
const IS_VALID_PATH: u64 = 1;
const NAR_FROM_PATH: u64 = 38;
/// Messages that may come between a request and its answer.
const LOG: u64 = 0x6f6c_6d67;
const ERROR: u64 = 0x6378_7470;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;
const LAST: u64 = 0x616c_7473;
/// The words `nix-archive-1`, `(` and `)` of a NAR as numbers on the wire, each after its length.
const NAR_MAGIC: [u64; 3] = [13, u64::from_le_bytes(*b"nix-arch"), u64::from_le_bytes(*b"ive-1\0\0\0")];
const OPENING: [u64; 2] = [1, b'(' as u64];
const CLOSING: [u64; 2] = [1, b')' as u64];
/// Longest text that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// A daemon's view of a path.
#[derive(Debug)]
pub(crate) enum View {
    /// It read the whole path.
    Seen,
    /// It considers the path valid but cannot read it, or does not answer.
    NotSeen(io::Error),
    /// The path is not valid in its store, so it serves another store.
    OtherStore,
    /// Nothing listens there.
    NoDaemon,
}

/// Returns the existing sockets through which clients in this process's environment would reach a daemon of the store.
pub(crate) fn sockets(dirs: &StoreDirs) -> Vec<PathBuf> {
    let mut places = vec![dirs.state_dir().join("daemon-socket/socket")];
    places.extend(std::env::var_os(env_vars::NIX_DAEMON_SOCKET_PATH).map(PathBuf::from));
    let remote = std::env::var(env_vars::NIX_REMOTE).unwrap_or_default();
    let of_remote = remote.strip_prefix("unix://").and_then(|rest| rest.split('?').next());
    places.extend(of_remote.filter(|path| !path.is_empty()).map(PathBuf::from));
    places.retain(|path| path.is_absolute() && path.exists());
    places.dedup();
    places
}

/// Asks the daemon at `socket` to read a path that is valid in the database, within `patience`.
pub(crate) fn look_through(socket: &Path, info: &PathInfo, patience: Duration) -> View {
    let (sender, receiver) = mpsc::channel();
    let (socket, path, size) = (socket.to_owned(), info.path.full(STORE_DIR), info.nar_size);
    // In a separate thread, because even connecting may block.
    std::thread::spawn(move || sender.send(ask(&socket, &path, size, patience)));
    receiver.recv_timeout(patience).unwrap_or_else(|_| View::NotSeen(ErrorKind::TimedOut.into()))
}

fn ask(socket: &Path, path: &str, size: u64, patience: Duration) -> View {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
            return View::NoDaemon;
        }
        Err(error) => return View::NotSeen(error),
    };
    let asked = (|| {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut daemon = Daemon { stream: BufReader::new(stream) };
        daemon.greet()?;
        daemon.ask(IS_VALID_PATH, path)?;
        if daemon.number()? == 0 {
            return Ok(View::OtherStore);
        }
        daemon.ask(NAR_FROM_PATH, path)?;
        daemon.read_nar(size)?;
        Ok(View::Seen)
    })();
    asked.unwrap_or_else(View::NotSeen)
}

struct Daemon {
    stream: BufReader<UnixStream>,
}

impl Daemon {
    fn greet(&mut self) -> io::Result<()> {
        self.send(&CLIENT.to_le_bytes())?;
        if self.number()? != DAEMON {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is not a nix-daemon"));
        }
        let version = self.number()?.min(VERSION);
        // Our version, no CPU affinity, and no reserved space.
        self.send(&[VERSION, 0, 0].map(u64::to_le_bytes).concat())?;
        if version >= 0x0121 {
            self.text()?;
        }
        if version >= 0x0123 {
            self.number()?;
        }
        self.wait()
    }

    fn ask(&mut self, question: u64, path: &str) -> io::Result<()> {
        let mut message = [question, path.len() as u64].map(u64::to_le_bytes).concat();
        message.extend_from_slice(path.as_bytes());
        message.resize(message.len().next_multiple_of(8), 0);
        self.send(&message)?;
        self.wait()
    }

    /// Reads a NAR of `size` bytes. If a daemon fails while it writes a NAR, it sends the error in the middle of the NAR, after the
    /// first words, which it writes before it accesses the path.
    fn read_nar(&mut self, size: u64) -> io::Result<()> {
        let (start, end) = ([&NAR_MAGIC[..], &OPENING].concat(), CLOSING);
        let broken = || io::Error::new(ErrorKind::NotFound, "it cannot read the path");
        let between = size.checked_sub((start.len() + end.len()) as u64 * 8).ok_or_else(broken)?;
        for expected in start {
            if self.number()? != expected {
                return Err(broken());
            }
        }
        self.skip(between)?;
        for expected in end {
            if self.number()? != expected {
                return Err(broken());
            }
        }
        Ok(())
    }

    /// Reads the messages that come before an answer.
    fn wait(&mut self) -> io::Result<()> {
        loop {
            match self.number()? {
                LAST => return Ok(()),
                ERROR => return Err(io::Error::other("it answered with an error")),
                LOG => self.text()?,
                START_ACTIVITY => {
                    self.skip(3 * 8)?;
                    self.text()?;
                    self.fields()?;
                    self.skip(8)?;
                }
                STOP_ACTIVITY => self.skip(8)?,
                RESULT => {
                    self.skip(2 * 8)?;
                    self.fields()?;
                }
                _ => return Err(io::Error::new(ErrorKind::InvalidData, "its answer is invalid")),
            }
        }
    }

    fn fields(&mut self) -> io::Result<()> {
        for _ in 0..self.number()?.min(LONGEST) {
            if self.number()? == 0 {
                self.skip(8)?;
            } else {
                self.text()?;
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.stream.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> io::Result<()> {
        match self.number()? {
            length @ 0..=LONGEST => self.skip(length.next_multiple_of(8)),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "it sent a text of more than 1 MiB")),
        }
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut (&mut self.stream).take(bytes), &mut io::sink())? {
            read if read == bytes => Ok(()),
            _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended while it read the path")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn info() -> PathInfo {
        PathInfo { nar_size: 200, ..PathInfo::sample("00000000000000000000000000000000-a".parse().unwrap()) }
    }

    /// The view of a path through a listener that answers with these bytes.
    fn answered(answer: Vec<u8>) -> View {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&answer).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            io::copy(&mut stream, &mut io::sink()).unwrap();
        });
        let view = look_through(&socket, &info(), Duration::from_mins(1));
        thread.join().unwrap();
        view
    }

    fn numbers(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// A daemon of version 1.33, which also sends the text `2.8`.
    const HELLO: [u64; 5] = [DAEMON, 0x0121, 3, 0x38_2e32, LAST];

    #[test]
    fn a_path_that_is_read_whole_is_seen() {
        let talk = [LOG, 3, 0x0a_6968, START_ACTIVITY, 1, 2, 3, 0, 1, 1, 2, 0x6968, 0, STOP_ACTIVITY, 1, LAST];
        let nar = [numbers(&NAR_MAGIC), numbers(&OPENING), vec![0; 144], numbers(&CLOSING)].concat();
        let all = [numbers(&HELLO), numbers(&talk), numbers(&[1, RESULT, 1, 2, 1, 0, 5, LAST]), nar].concat();
        assert!(matches!(answered(all.clone()), View::Seen));
        assert!(matches!(answered(all[..all.len() - 1].to_vec()), View::NotSeen(_)));
    }

    #[test]
    fn an_error_in_the_middle_of_an_archive_is_no_archive() {
        // What Nix 2.8 and 2.34 send for a path that does not exist.
        let error = [numbers(&[ERROR, 5]), b"Error\0\0\0".to_vec(), vec![0; 400]].concat();
        let before = [numbers(&HELLO), numbers(&[LAST, 1, LAST]), numbers(&NAR_MAGIC)].concat();
        assert!(matches!(answered([before.clone(), error.clone()].concat()), View::NotSeen(_)));
        assert!(matches!(answered([before, numbers(&OPENING), vec![0; 80], error].concat()), View::NotSeen(_)));
    }

    #[test]
    fn a_store_that_does_not_know_the_path_is_another() {
        assert!(matches!(answered([numbers(&HELLO), numbers(&[LAST, 0])].concat()), View::OtherStore));
    }

    #[test]
    fn an_error_or_nonsense_is_no_proof() {
        assert!(matches!(answered([numbers(&HELLO), numbers(&[LAST, 1, ERROR])].concat()), View::NotSeen(_)));
        assert!(matches!(answered([numbers(&HELLO), numbers(&[LOG, u64::MAX])].concat()), View::NotSeen(_)));
        assert!(matches!(answered(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), View::NotSeen(_)));
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_no_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        drop(UnixListener::bind(&socket).unwrap());
        assert!(matches!(look_through(&socket, &info(), Duration::from_mins(1)), View::NoDaemon));
    }

    #[test]
    fn a_daemon_that_is_silent_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(matches!(look_through(&socket, &info(), Duration::from_millis(10)), View::NotSeen(_)));
    }
}
