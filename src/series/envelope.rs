//! The envelope of an entry, the same for all records: a head of [`HEAD`] bytes, and the body.
//!
//! The head has three lines:
//!
//! 1. `nix-cache` and the kind of entry.
//! 2. A JSON object, padded with spaces: the format of the body, its size and SHA-256, facts about it, and signatures.
//! 3. The SHA-256 of the first two lines in hexadecimal.
//!
//! A signature covers the head without signatures, which contains the body's digest: see [`fingerprint`]. The head can therefore
//! be read and trusted before the body is downloaded.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::RecordError;
use super::sign::{Keyring, Signature, fingerprint};
use crate::base::digest::Sha;
use crate::remote::Kind;

/// Size of a head in bytes.
pub(crate) const HEAD: usize = 1024;
/// Size of the last line in bytes.
const CHECK: usize = 65;

/// The format of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// The kind of entry.
    pub kind: Kind,
    /// The format number that this program writes, and the only one that it reads.
    pub number: u64,
}

/// The head of an entry, which describes its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head<F = ()> {
    /// Facts about the body.
    pub facts: F,
    pub size: u64,
    /// Its SHA-256.
    pub digest: Sha,
}

#[derive(Serialize, Deserialize)]
struct Line<F> {
    format: u64,
    size: u64,
    digest: Sha,
    facts: F,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<Signature>,
}

impl<F> Head<F> {
    /// Size of the whole entry in bytes.
    pub(crate) fn entry_size(&self) -> u64 {
        (HEAD as u64).saturating_add(self.size)
    }
}

impl<F: Serialize + Clone> Head<F> {
    /// Encodes the head for the entry `name` only, signed by all signing keys in `keys`.
    pub(crate) fn encode(&self, format: Format, name: &str, keys: &Keyring) -> [u8; HEAD] {
        self.encode_with(format, keys.sign(&self.fingerprint(format, name)))
    }

    fn fingerprint(&self, format: Format, name: &str) -> String {
        fingerprint(format.kind, name, Sha::of(&self.encode_with(format, Vec::new())))
    }

    fn encode_with(&self, format: Format, signatures: Vec<Signature>) -> [u8; HEAD] {
        let (size, digest, facts) = (self.size, self.digest, self.facts.clone());
        let line = Line { format: format.number, size, digest, facts, signatures };
        let json = serde_json::to_vec(&line).unwrap_or_default();
        let (mut bytes, end) = ([b' '; HEAD], HEAD - CHECK);
        let first = first_line(format);
        bytes[..first.len()].copy_from_slice(first.as_bytes());
        // A few small fields and a few signatures with short names fit easily.
        let fits = json.len().min(end - first.len() - 1);
        bytes[first.len()..first.len() + fits].copy_from_slice(&json[..fits]);
        bytes[end - 1] = b'\n';
        let check = Sha::of(&bytes[..end]).to_string();
        bytes[end..HEAD - 1].copy_from_slice(check.as_bytes());
        bytes[HEAD - 1] = b'\n';
        bytes
    }
}

impl<F: Serialize + DeserializeOwned + Clone> Head<F> {
    /// Reads the head of the entry `name`, and the trusted key that signed it; None if no signature is required.
    ///
    /// # Errors
    /// When it is damaged, of another format, or not signed as `keys` requires.
    pub(crate) fn open(
        format: Format,
        name: &str,
        bytes: &[u8],
        keys: &Keyring,
    ) -> Result<(Self, Option<String>), RecordError> {
        let (head, signatures) = Self::decode(format, bytes)?;
        let signed_by = keys.verify(&head.fingerprint(format, name), &signatures)?;
        Ok((head, signed_by))
    }

    fn decode(format: Format, bytes: &[u8]) -> Result<(Self, Vec<Signature>), RecordError> {
        #[derive(Deserialize)]
        struct Numbered {
            format: u64,
        }

        let damaged = RecordError::damaged;
        let (head, _) = bytes.split_at_checked(HEAD).ok_or_else(|| damaged("it is cut off"))?;
        let rest =
            head.strip_prefix(first_line(format).as_bytes()).ok_or_else(|| damaged("it does not begin as one"))?;
        let (checked, check) = head.split_at(HEAD - CHECK);
        if format!("{}\n", Sha::of(checked)).as_bytes() != check {
            return Err(damaged("its head does not match its digest"));
        }
        let json = &rest[..rest.len() - CHECK];
        let unreadable = |_: serde_json::Error| damaged("its head cannot be read");
        let Numbered { format: found } = serde_json::from_slice(json).map_err(unreadable)?;
        if found != format.number {
            return Err(RecordError::Format { found, known: format.number });
        }
        let Line { size, digest, facts, signatures, .. } = serde_json::from_slice(json).map_err(unreadable)?;
        Ok((Self { facts, size, digest }, signatures))
    }
}

fn first_line(format: Format) -> String {
    format!("nix-cache {}\n", format.kind.word())
}

/// Completes the entry `name` in `bytes`, which contain room for the head and the body.
pub(crate) fn seal(format: Format, name: &str, mut bytes: Vec<u8>, keys: &Keyring) -> Vec<u8> {
    let body = &bytes[HEAD..];
    let head = Head { facts: (), size: body.len() as u64, digest: Sha::of(body) };
    bytes[..HEAD].copy_from_slice(&head.encode(format, name, keys));
    bytes
}

/// Reads the body of the entry `name`, and the trusted key that signed it; None if no signature is required.
///
/// # Errors
/// See [`Head::open`]; also when the body is damaged.
pub(crate) fn open<'a>(
    format: Format,
    name: &str,
    bytes: &'a [u8],
    keys: &Keyring,
) -> Result<(&'a [u8], Option<String>), RecordError> {
    // Report a damaged entry as damaged, and not as one with a wrong signature.
    let (head, signatures) = Head::<()>::decode(format, bytes)?;
    let body = &bytes[HEAD..];
    if head.size != body.len() as u64 || head.digest != Sha::of(body) {
        return Err(RecordError::damaged("its bytes do not match their digest"));
    }
    let signed_by = keys.verify(&head.fingerprint(format, name), &signatures)?;
    Ok((body, signed_by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::sign::{MAX_SIGNING_KEYS, Untrusted};

    const FORMAT: Format = Format { kind: Kind::Files, number: 7 };

    /// The largest facts of any entry.
    type Facts = (Sha, u64, u64, u64);

    fn head() -> Head<Facts> {
        Head { facts: (Sha([255; 32]), u64::MAX, u64::MAX, u64::MAX), size: u64::MAX, digest: Sha([7; 32]) }
    }

    fn open_head(bytes: &[u8], name: &str, keys: &Keyring) -> Result<(Head<Facts>, Option<String>), RecordError> {
        Head::open(FORMAT, name, bytes, keys)
    }

    fn keys(name: &str, seeds: std::ops::Range<u8>) -> Keyring {
        use base64::Engine;
        let key = |seed: u8| {
            let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let public = ring::signature::KeyPair::public_key(&pair);
            let bytes = [&[seed; 32], public.as_ref()].concat();
            format!("{name}:{}", base64::engine::general_purpose::STANDARD.encode(bytes))
        };
        Keyring::new(&seeds.map(key).collect::<Vec<_>>().join(" "), "").unwrap()
    }

    #[test]
    fn a_head_is_read_back_and_has_room_for_all_signatures() {
        let none = Keyring::default();
        let bytes = head().encode(FORMAT, "n", &none);
        assert_eq!(open_head(&bytes, "n", &none), Ok((head(), None)));
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!((text.lines().count(), text.ends_with('\n')), (3, true));
        let all = keys(&"n".repeat(64), 0..MAX_SIGNING_KEYS as u8);
        let signed = head().encode(FORMAT, "name", &all);
        assert!(std::str::from_utf8(&signed).unwrap().lines().nth(1).unwrap().ends_with("   "), "there is room left");
        assert_eq!(open_head(&signed, "name", &all), Ok((head(), Some("n".repeat(64)))));
        assert_eq!(open_head(&signed, "name", &none), Ok((head(), None)));
    }

    #[test]
    fn a_signature_is_for_one_name_kind_and_content() {
        let ours = keys("k", 1..2);
        let signed = head().encode(FORMAT, "name#g3", &ours);
        let wrong = RecordError::Untrusted(Untrusted::Wrong("k".into()));
        for name in ["other#g3", "name#g4", "name#g33", ""] {
            assert_eq!(open_head(&signed, name, &ours), Err(RecordError::Untrusted(Untrusted::Wrong("k".into()))));
        }
        let unsigned = head().encode(FORMAT, "name#g3", &Keyring::default());
        assert_eq!(open_head(&unsigned, "name#g3", &ours), Err(RecordError::Untrusted(Untrusted::Unsigned)));
        let unknown = RecordError::Untrusted(Untrusted::Unknown("k".into()));
        assert_eq!(open_head(&signed, "name#g3", &keys("other", 2..3)), Err(unknown));
        // The signatures of one head in another.
        let (_, signatures) = Head::<Facts>::decode(FORMAT, &signed).unwrap();
        let changed = Head { digest: Sha([8; 32]), ..head() }.encode_with(FORMAT, signatures.clone());
        assert_eq!(open_head(&changed, "name#g3", &ours), Err(wrong));
        let other = Format { kind: Kind::Snapshot, ..FORMAT };
        let moved = head().encode_with(other, signatures);
        assert_eq!(
            Head::<Facts>::open(other, "name#g3", &moved, &ours),
            Err(RecordError::Untrusted(Untrusted::Wrong("k".into())))
        );
        assert!(matches!(Head::<Facts>::open(other, "name#g3", &signed, &ours), Err(RecordError::Damaged(_))));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_an_entry_shows() {
        for keys in [Keyring::default(), keys("k", 1..2)] {
            let bytes = seal(FORMAT, "n", [&[0; HEAD][..], b"body"].concat(), &keys);
            assert_eq!(open(FORMAT, "n", &bytes, &keys).unwrap().0, b"body");
            for position in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[position] ^= 1 << bit;
                    let opened = open(FORMAT, "n", &flipped, &keys);
                    assert!(matches!(opened, Err(RecordError::Damaged(_))), "bit {bit} of {position}");
                }
                assert!(matches!(open(FORMAT, "n", &bytes[..position], &keys), Err(RecordError::Damaged(_))));
            }
            let longer = [&bytes[..], b"x"].concat();
            assert!(matches!(open(FORMAT, "n", &longer, &keys), Err(RecordError::Damaged(_))));
        }
    }

    #[test]
    fn another_format_is_named_whatever_its_head_says() {
        let none = Keyring::default();
        let newer = Format { number: 8, ..FORMAT };
        let bytes = Head { facts: "of the future", size: 1, digest: Sha([0; 32]) }.encode_with(newer, Vec::new());
        let error = open_head(&bytes, "n", &none).unwrap_err();
        assert_eq!(error, RecordError::Format { found: 8, known: 7 });
        assert!(error.to_string().contains("format 8") && error.to_string().contains("newer"), "{error}");
    }
}
