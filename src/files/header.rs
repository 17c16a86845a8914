//! The header of an entry: [`SIZE`] bytes that say what follows them.
//!
//! Three lines: [`MAGIC`]; a JSON object, filled up with spaces; the SHA-256 of these two lines in hex. The body follows: a tar
//! archive in zstd. What is signed is the digest of the header as it is without signatures; the body's digest is in it.

use serde::{Deserialize, Serialize};

use crate::base::digest::Sha;
use crate::remote::Kind;
use crate::series::sign::{Keyring, Signature, fingerprint};

/// Bytes of a header.
pub(super) const SIZE: usize = 1024;
/// The first line.
const MAGIC: &[u8] = b"nix-cache files\n";
/// The format that this program writes, and the only one it reads.
const FORMAT: u32 = 1;
/// Bytes of the last line.
const CHECK: usize = 65;

/// What an entry says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Header {
    /// The digest of the content: names, modes, sizes and bytes, whatever the archive looks like.
    pub digest: Sha,
    /// Files and symbolic links in it.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// When it was written, in seconds since 1970.
    pub created: u64,
    /// Bytes of the body.
    pub body_size: u64,
    /// The SHA-256 of the body.
    pub body_digest: Sha,
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    format: u32,
    #[serde(flatten)]
    header: Option<Header>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<Signature>,
}

/// Why there is no header to be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    /// A newer program wrote it.
    #[error("it has format {0}, and this program knows format {FORMAT} only: use a newer release of the action")]
    Format(u32),
    /// It is broken, or something else altogether.
    #[error("its header is damaged")]
    Damaged,
}

impl Header {
    /// Bytes of the whole entry.
    pub(super) fn entry_size(&self) -> u64 {
        SIZE as u64 + self.body_size
    }

    /// The header's bytes, for the entry `name` and no other, signed by all keys of `keys` that sign.
    pub(super) fn encode(&self, name: &str, keys: &Keyring) -> [u8; SIZE] {
        self.encode_with(keys.sign(&self.fingerprint(name)))
    }

    /// What is signed of an entry `name` with this header.
    pub(super) fn fingerprint(&self, name: &str) -> String {
        fingerprint(Kind::Files, name, Sha::of(&self.encode_with(Vec::new())))
    }

    fn encode_with(&self, signatures: Vec<Signature>) -> [u8; SIZE] {
        let mut bytes = [b' '; SIZE];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        let versioned = Versioned { format: FORMAT, header: Some(self.clone()), signatures };
        let json = serde_json::to_vec(&versioned).unwrap_or_default();
        let end = SIZE - CHECK;
        // Six fields of fixed or small width, and a few signatures whose names are short: less than there is room for.
        let fits = json.len().min(end - MAGIC.len() - 1);
        bytes[MAGIC.len()..MAGIC.len() + fits].copy_from_slice(&json[..fits]);
        bytes[end - 1] = b'\n';
        let check = Sha::of(&bytes[..end]).to_string();
        bytes[end..SIZE - 1].copy_from_slice(check.as_bytes());
        bytes[SIZE - 1] = b'\n';
        bytes
    }

    /// Reads a header, and the signatures in it.
    ///
    /// # Errors
    /// When these are not exactly the bytes that were written.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Vec<Signature>), HeaderError> {
        let lines = bytes.strip_prefix(MAGIC).filter(|_| bytes.len() == SIZE).ok_or(HeaderError::Damaged)?;
        let json = &lines[..lines.len() - CHECK];
        let versioned: Versioned = serde_json::from_slice(json).map_err(|_| HeaderError::Damaged)?;
        let (checked, check) = bytes.split_at(SIZE - CHECK);
        let right = format!("{}\n", Sha::of(checked)).as_bytes() == check;
        match versioned.header {
            Some(header) if versioned.format == FORMAT && right => Ok((header, versioned.signatures)),
            _ if versioned.format != FORMAT && right => Err(HeaderError::Format(versioned.format)),
            _ => Err(HeaderError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            digest: Sha([255; 32]),
            files: u64::MAX,
            bytes: u64::MAX,
            created: u64::MAX,
            body_size: u64::MAX,
            body_digest: Sha([7; 32]),
        }
    }

    #[test]
    fn it_is_read_back() {
        let bytes = header().encode("n", &Keyring::default());
        assert_eq!(Header::decode(&bytes), Ok((header(), Vec::new())));
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!((text.lines().count(), text.ends_with('\n')), (3, true));
        assert!(text.lines().nth(1).unwrap().ends_with("   "), "there is room left");
    }

    #[test]
    fn it_has_room_for_all_signatures_and_is_the_same_but_for_them() {
        use base64::Engine;
        let key = |seed: u8| {
            let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let public = ring::signature::KeyPair::public_key(&pair);
            let bytes = [&[seed; 32], public.as_ref()].concat();
            format!("{}:{}", "n".repeat(64), base64::engine::general_purpose::STANDARD.encode(bytes))
        };
        let all = (0..crate::series::sign::MAX_SIGNING_KEYS as u8).map(key).collect::<Vec<_>>().join(" ");
        let keys = Keyring::new(&all, "").unwrap();
        let (read, signatures) = Header::decode(&header().encode("name", &keys)).unwrap();
        assert_eq!((&read, signatures.len()), (&header(), crate::series::sign::MAX_SIGNING_KEYS));
        assert!(keys.verify(&read.fingerprint("name"), &signatures).is_ok());
        assert!(keys.verify(&read.fingerprint("other"), &signatures).is_err());
        let changed = Header { body_digest: Sha([8; 32]), ..read };
        assert!(keys.verify(&changed.fingerprint("name"), &signatures).is_err());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_shows() {
        let bytes = header().encode("n", &Keyring::default());
        for position in 0..SIZE {
            for bit in 0..8 {
                let mut flipped = bytes;
                flipped[position] ^= 1 << bit;
                assert_eq!(Header::decode(&flipped), Err(HeaderError::Damaged), "bit {bit} of {position}");
            }
            assert_eq!(Header::decode(&bytes[..position]), Err(HeaderError::Damaged));
        }
    }

    #[test]
    fn another_format_is_told() {
        let mut bytes = [b' '; SIZE];
        let text = format!("{}{}", std::str::from_utf8(MAGIC).unwrap(), "{\"format\":2,\"digest\":[1]}");
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes[SIZE - CHECK - 1] = b'\n';
        let check = Sha::of(&bytes[..SIZE - CHECK]).to_string() + "\n";
        bytes[SIZE - CHECK..].copy_from_slice(check.as_bytes());
        assert_eq!(Header::decode(&bytes), Err(HeaderError::Format(2)));
        let message = HeaderError::Format(2).to_string();
        assert!(message.contains("format 2") && message.contains("newer release"), "{message}");
    }
}
