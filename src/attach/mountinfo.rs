//! The kernel's list of mounts as seen by a process: `proc_pid_mountinfo(5)`. Names are bytes and need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The type of its file system.
    pub kind: OsString,
}

/// Lists all mounts in the namespace of this process, in mount order. Empty without `/proc`.
///
/// # Errors
/// When the list cannot be read.
pub(crate) fn mounts() -> io::Result<Vec<Mount>> {
    match fs::read("/proc/self/mountinfo") {
        Ok(bytes) => Ok(bytes.split(|&byte| byte == b'\n').filter_map(parse).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The fifth field is the mount point, and the one after a single `-` the type of the file system.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let point = OsString::from_vec(unescape(fields.nth(4)?)).into();
    let kind = OsStr::from_bytes(fields.skip_while(|field| *field != b"-").nth(1)?).to_owned();
    Some(Mount { point, kind })
}

/// Bytes that would end a field are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let number = match rest {
            [b'\\', digits @ ..] => digits.get(..3).and_then(octal),
            _ => None,
        };
        result.push(number.unwrap_or(*first));
        rest = if number.is_some() { &rest[4..] } else { tail };
    }
    result
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let line = br"36 35 98:0 /a\040b /nix/st\040or\134e rw,noatime shared:1 master:2 - overlay overlay rw,lowerdir=/a,workdir=/w\054x";
        let mount = parse(line).unwrap();
        assert_eq!(
            (mount.point.as_path(), mount.kind.as_os_str()),
            (Path::new(r"/nix/st or\e"), OsStr::new("overlay"))
        );
        assert_eq!(parse(b"36 35 98:0 / /nix rw - ext4 /dev/vda rw").unwrap().kind, "ext4");
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn names_are_bytes() {
        let mount = parse(b"36 35 98:0 / /mnt/\xff\\012\\043\\377\\9 rw - tmpfs none rw").unwrap();
        assert_eq!(mount.point.as_os_str().as_bytes(), b"/mnt/\xff\n#\xff\\9");
    }

    #[test]
    fn the_root_of_this_process_is_among_them() {
        assert!(mounts().unwrap().iter().any(|mount| mount.point == Path::new("/")));
    }
}
