//! The part of the FUSE protocol that a folder of read-only files needs: requests in, answers out.
//!
//! Written by hand: these are a dozen messages of fixed layout (`include/uapi/linux/fuse.h`, version 7.31), and `rustix` mounts and
//! transfers without unsafe code. The crate `fuser` (0.18) keeps the descriptor of `/dev/fuse` to itself, but here a second process
//! must be able to continue with it after the first one died; it would also add eight crates to the binary.

use std::io::IoSlice;

use rustix::io::Errno;

/// Smallest buffer for a request that the kernel accepts is 8 KiB; the largest request here is a write of a page.
pub(super) const REQUEST: usize = 64 << 10;
/// Largest read.
pub(super) const MAX_READ: u32 = 1 << 20;
/// The folder itself.
pub(super) const ROOT: u64 = 1;

const HEADER: usize = 40;
/// The kernel sends reads of one file side by side.
const ASYNC_READ: u32 = 1;
const PARALLEL_DIROPS: u32 = 1 << 18;
/// `max_pages` in the answer counts.
const MAX_PAGES: u32 = 1 << 22;
const PAGE: u32 = 4096;
/// A message to the kernel: send everything again that was read but not answered (since Linux 6.9).
const NOTIFY_RESEND: i32 = 7;
/// Names and attributes never change, so the kernel need not ask again within this many seconds.
const LASTING: u64 = 1 << 30;
const KEEP_CACHE: u32 = 1 << 1;
const DIRECT_IO: u32 = 1;
/// The type of a file in a listing.
const REGULAR: u32 = 8;

/// A request of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub unique: u64,
    pub node: u64,
    pub what: Operation<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operation<'a> {
    Init {
        minor: u32,
        readahead: u32,
    },
    Lookup(&'a [u8]),
    Attributes,
    Open,
    OpenFolder,
    Read {
        offset: u64,
        size: u32,
    },
    ReadFolder {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        bytes: &'a [u8],
    },
    Statistics,
    /// Closing a file, and other things that always succeed.
    Close,
    /// The process that waits for another request was killed.
    Interrupt {
        unique: u64,
    },
    /// The end of the mount.
    Destroy,
    /// Something that needs no answer.
    Forget,
    Unsupported,
}

impl<'a> Request<'a> {
    /// Parses a request; None if it is cut off.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let body = bytes.get(HEADER..)?;
        let what = match word(bytes, 4)? {
            1 => Operation::Lookup(body.split(|byte| *byte == 0).next()?),
            2 | 42 => Operation::Forget,
            3 => Operation::Attributes,
            14 => Operation::Open,
            15 => Operation::Read { offset: long(body, 8)?, size: word(body, 16)? },
            16 => {
                let (offset, size) = (long(body, 8)?, word(body, 16)? as usize);
                Operation::Write { offset, bytes: body.get(40..40 + size)? }
            }
            17 => Operation::Statistics,
            18 | 20 | 25 | 29 | 30 | 34 => Operation::Close,
            26 => Operation::Init { minor: word(body, 4)?, readahead: word(body, 8)? },
            27 => Operation::OpenFolder,
            28 => Operation::ReadFolder { offset: long(body, 8)?, size: word(body, 16)? },
            36 => Operation::Interrupt { unique: long(body, 0)? },
            38 => Operation::Destroy,
            _ => Operation::Unsupported,
        };
        Some(Self { unique: long(bytes, 8)?, node: long(bytes, 16)?, what })
    }
}

/// Sends an answer. The kernel no longer knows a request whose waiter is gone, or that an earlier process answered.
pub(super) fn answer(fuse: impl std::os::fd::AsFd, unique: u64, result: Result<&[u8], Errno>) {
    let (error, body) = match result {
        Ok(body) => (0, body),
        Err(error) => (-error.raw_os_error(), &[][..]),
    };
    send(fuse, unique, error, body);
}

/// Asks the kernel to send again what an earlier process left unanswered. Returns false if it is too old for that.
pub(super) fn resend(fuse: impl std::os::fd::AsFd) -> bool {
    send(fuse, 0, NOTIFY_RESEND, &[])
}

fn send(fuse: impl std::os::fd::AsFd, unique: u64, error: i32, body: &[u8]) -> bool {
    let header = Message::new().word((16 + body.len()) as u32).word(error.cast_unsigned()).long(unique).0;
    rustix::io::writev(fuse, &[IoSlice::new(&header), IoSlice::new(body)])
        .inspect_err(|error| tracing::debug!("request {unique} is not answered: {error}"))
        .is_ok()
}

/// A file or the folder, as the kernel sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub number: u64,
    pub size: u64,
    /// Type and permissions.
    pub mode: u32,
}

/// The bytes of a message, in the order of the machine.
pub(super) struct Message(pub Vec<u8>);

impl Message {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn half(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn word(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn long(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    fn attributes(self, node: &Node) -> Self {
        let links = if node.number == ROOT { 2 } else { 1 };
        // Times are zero, and so are user and group: root's.
        self.long(node.number)
            .long(node.size)
            .long(node.size.div_ceil(512))
            .zeros(36)
            .word(node.mode)
            .word(links)
            .zeros(12)
            .word(PAGE)
            .word(0)
    }
}

pub(super) fn init(minor: u32, readahead: u32) -> Vec<u8> {
    Message::new()
        .word(7)
        .word(minor.min(31))
        .word(readahead)
        .word(ASYNC_READ | PARALLEL_DIROPS | MAX_PAGES)
        // Background requests, and how many are many.
        .half(64)
        .half(48)
        // The largest write, and times in nanoseconds.
        .word(PAGE)
        .word(1)
        .half((MAX_READ / PAGE) as u16)
        .half(0)
        .zeros(32)
        .0
}

pub(super) fn entry(node: &Node) -> Vec<u8> {
    Message::new().long(node.number).long(0).long(LASTING).long(LASTING).zeros(8).attributes(node).0
}

pub(super) fn attributes(node: &Node) -> Vec<u8> {
    Message::new().long(LASTING).zeros(8).attributes(node).0
}

/// `is_live`: whether each read must reach us, because the content changes.
pub(super) fn opened(is_live: bool) -> Vec<u8> {
    Message::new().long(0).word(if is_live { DIRECT_IO } else { KEEP_CACHE }).word(0).0
}

pub(super) fn written(bytes: usize) -> Vec<u8> {
    Message::new().word(bytes as u32).word(0).0
}

pub(super) fn statistics() -> Vec<u8> {
    Message::new().zeros(40).word(PAGE).word(255).word(PAGE).zeros(28).0
}

/// The names from `offset` on that fit into `size` bytes.
pub(super) fn listing<'a>(names: impl Iterator<Item = (u64, &'a str)>, offset: u64, size: u32) -> Vec<u8> {
    let mut out = Message::new();
    for (place, (node, name)) in (1..).zip(names).skip(offset as usize) {
        let length = (24 + name.len()).next_multiple_of(8);
        if out.0.len() + length > size as usize {
            break;
        }
        out = out.long(node).long(place).word(name.len() as u32).word(REGULAR);
        out.0.extend(name.as_bytes());
        out = out.zeros(length - 24 - name.len());
    }
    out.0
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(code: u32, body: &[u8]) -> Vec<u8> {
        let length = (HEADER + body.len()) as u32;
        let mut bytes = Message::new().word(length).word(code).long(7).long(3).zeros(16).0;
        bytes.extend(body);
        bytes
    }

    #[test]
    fn requests_are_parsed_and_cut_off_ones_refused() {
        let body = Message::new().long(0).long(4096).word(512).zeros(20).0;
        let bytes = request(15, &body);
        let parsed = Request::parse(&bytes).unwrap();
        assert_eq!(parsed, Request { unique: 7, node: 3, what: Operation::Read { offset: 4096, size: 512 } });
        assert!(Request::parse(&bytes[..HEADER + 10]).is_none() && Request::parse(&bytes[..HEADER - 1]).is_none());
        let lookup = request(1, b"name\0");
        assert_eq!(Request::parse(&lookup).unwrap().what, Operation::Lookup(b"name"));
        let mut body = Message::new().long(0).long(8).word(8).zeros(20).0;
        body.extend([1; 8]);
        let write = request(16, &body);
        assert_eq!(Request::parse(&write).unwrap().what, Operation::Write { offset: 8, bytes: &[1; 8] });
        assert!(Request::parse(&write[..write.len() - 1]).is_none());
    }

    #[test]
    fn answers_have_the_sizes_of_the_protocol() {
        let node = Node { number: 3, size: 10, mode: 0o100_644 };
        let sizes = [init(31, 0), entry(&node), attributes(&node), opened(true), written(8), statistics()];
        assert_eq!(sizes.map(|message| message.len()), [64, 128, 104, 16, 8, 80]);
    }

    #[test]
    fn a_listing_continues_where_it_was_cut() {
        let names = || [(2, "one"), (3, "two")].into_iter();
        let (all, first, second) = (listing(names(), 0, 4096), listing(names(), 0, 40), listing(names(), 1, 4096));
        assert_eq!([&*first, &*second].concat(), all);
        assert!(listing(names(), 2, 4096).is_empty());
    }
}
