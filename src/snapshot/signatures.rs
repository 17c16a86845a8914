//! The signatures of a snapshot: a skippable frame of zstd behind its own frame, which a reader that knows nothing of it passes
//! over. Layout: the frame's number, its length (both 4 bytes, lowest first), the line [`FIRST_LINE`], a signature a line.
//!
//! What is signed is the digest of all bytes before the frame, and the name of the entry: see [`crate::series::sign::fingerprint`].

use zstd::zstd_safe;

use super::SnapshotError;
use crate::base::digest::Sha;
use crate::remote::Kind;
use crate::series::sign::{Keyring, Signature, fingerprint};

/// One of the sixteen numbers that zstd keeps for frames of others.
const FRAME: u32 = 0x184d_2a5e;
const FIRST_LINE: &str = "nix-cache signatures";
/// More bytes of signatures than this are refused.
const MAX: usize = 1 << 16;

/// Signs the body that begins at byte `start` of `bytes`, to be stored as the entry `name`, and puts the signatures behind it. Without
/// signing keys it stays as it is.
pub(super) fn append(bytes: &mut Vec<u8>, start: usize, name: &str, keys: &Keyring) {
    if !keys.can_sign() {
        return;
    }
    let signatures = keys.sign(&fingerprint(Kind::Snapshot, name, Sha::of(&bytes[start..])));
    let lines = signatures.iter().fold(FIRST_LINE.to_owned(), |lines, signature| format!("{lines}\n{signature}"));
    let text = lines + "\n";
    bytes.extend(FRAME.to_le_bytes());
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.into_bytes());
}

/// The name of the trusted key that signed `body`, read from the entry `name`; None where no signature is asked for.
///
/// # Errors
/// When one is asked for and is not there, or what stands there cannot be read.
pub(super) fn verify(body: &[u8], name: &str, keys: &Keyring) -> Result<Option<String>, SnapshotError> {
    if !keys.asks_for_signatures() {
        return Ok(None);
    }
    let (signed, signatures) = split(body)?;
    Ok(keys.verify(&fingerprint(Kind::Snapshot, name, Sha::of(signed)), &signatures)?)
}

/// What is signed, and the signatures.
fn split(body: &[u8]) -> Result<(&[u8], Vec<Signature>), SnapshotError> {
    let unreadable = || SnapshotError::Damaged("its signatures cannot be read".into());
    let (mut at, mut last) = (0, 0);
    // Anything but zstd has no place for signatures.
    while let Some(size) = frame_size(&body[at..]) {
        (last, at) = (at, at + size);
    }
    let (signed, frame) = body.split_at(last);
    let Some(rest) = frame.strip_prefix(&FRAME.to_le_bytes()).filter(|_| at == body.len()) else {
        return Ok((body, Vec::new()));
    };
    let text = rest.get(4..).filter(|text| text.len() <= MAX).ok_or_else(unreadable)?;
    let text = std::str::from_utf8(text).map_err(|_| unreadable())?;
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(unreadable());
    }
    let signatures = lines.map(str::parse).collect::<Result<_, _>>().map_err(|_| unreadable())?;
    Ok((signed, signatures))
}

/// Bytes of the frame of zstd that `bytes` begin with.
fn frame_size(bytes: &[u8]) -> Option<usize> {
    (!bytes.is_empty()).then(|| zstd_safe::find_frame_compressed_size(bytes).ok())?.filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{Snapshot, decode, decode_signed, encode, encode_signed};
    use super::*;
    use crate::series::sign::Untrusted;

    fn keys(seed: u8) -> Keyring {
        use base64::Engine;
        let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = ring::signature::KeyPair::public_key(&pair);
        let bytes = [&[seed; 32], public.as_ref()].concat();
        let key = format!("key-{seed}:{}", base64::engine::general_purpose::STANDARD.encode(bytes));
        Keyring::new(&key, "").unwrap()
    }

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.facts.key = "k".into();
        snapshot
    }

    fn why(bytes: &[u8], name: &str, keys: &Keyring) -> Untrusted {
        match decode_signed(bytes, name, keys) {
            Err(SnapshotError::Untrusted(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_signed_snapshot_is_read_by_who_trusts_the_key_under_its_own_name_only() {
        let bytes = encode_signed(&snapshot(), "k#g3", &keys(1)).unwrap();
        assert_eq!(decode_signed(&bytes, "k#g3", &keys(1)).unwrap(), (snapshot(), Some("key-1".into())));
        assert_eq!(decode_signed(&bytes, "k#g3", &Keyring::default()).unwrap(), (snapshot(), None));
        assert_eq!(why(&bytes, "k#g3", &keys(2)), Untrusted::Unknown("key-1".into()));
        // Another key and another generation of the same key.
        for name in ["other#g3", "k#g4", "k#g33", ""] {
            assert_eq!(why(&bytes, name, &keys(1)), Untrusted::Wrong("key-1".into()), "{name}");
        }
    }

    #[test]
    fn a_reader_that_knows_no_signatures_reads_a_signed_snapshot() {
        let (signed, plain) = (encode_signed(&snapshot(), "k#g1", &keys(1)).unwrap(), encode(&snapshot()).unwrap());
        assert_ne!(signed, plain);
        assert_eq!(decode(&signed).unwrap(), decode(&plain).unwrap());
        assert_eq!(encode_signed(&snapshot(), "k#g1", &Keyring::default()).unwrap(), plain);
        // Any zstd passes over the frame, and any gzip is unsigned.
        let body = &signed[19 + 65..];
        assert_eq!(zstd::decode_all(body).unwrap(), zstd::decode_all(&plain[19 + 65..]).unwrap());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&zstd::decode_all(body).unwrap()).unwrap();
        let gzip = sealed(&gzip.finish().unwrap());
        assert_eq!(decode_signed(&gzip, "k#g1", &Keyring::default()).unwrap().0, snapshot());
        assert_eq!(why(&gzip, "k#g1", &keys(1)), Untrusted::Unsigned);
        assert_eq!(why(&plain, "k#g1", &keys(1)), Untrusted::Unsigned);
    }

    /// `body` with a header that fits: what someone can write who may write entries.
    fn sealed(body: &[u8]) -> Vec<u8> {
        [b"nix-cache snapshot\n", Sha::of(body).to_string().as_bytes(), b"\n", body].concat()
    }

    #[test]
    fn no_change_of_a_byte_or_a_frame_is_trusted() {
        let signed = encode_signed(&snapshot(), "k#g1", &keys(1)).unwrap();
        let body = &signed[19 + 65..];
        assert!(decode_signed(&sealed(body), "k#g1", &keys(1)).is_ok());
        for at in 0..body.len() {
            for bit in [0, 3, 7] {
                let mut changed = body.to_vec();
                changed[at] ^= 1 << bit;
                let read = decode_signed(&sealed(&changed), "k#g1", &keys(1));
                assert!(read.is_err(), "bit {bit} of byte {at} of {}", body.len());
            }
            assert!(decode_signed(&sealed(&body[..at]), "k#g1", &keys(1)).is_err(), "the first {at} bytes");
        }
        // The signatures of one behind the content of another, a frame more, and the signature twice.
        let mut other = snapshot();
        other.facts.lane = "forged".into();
        let mut forged = encode(&other).unwrap().split_off(19 + 65);
        let (content, frame) = body.split_at(body.len() - split_frame(body));
        forged.extend(frame);
        assert_eq!(why(&sealed(&forged), "k#g1", &keys(1)), Untrusted::Wrong("key-1".into()));
        let more = [content, b"\x50\x2a\x4d\x18\x01\x00\x00\x00x", frame].concat();
        assert_eq!(why(&sealed(&more), "k#g1", &keys(1)), Untrusted::Wrong("key-1".into()));
        let twice = [content, frame, frame].concat();
        assert_eq!(why(&sealed(&twice), "k#g1", &keys(1)), Untrusted::Wrong("key-1".into()));
        assert_eq!(why(&sealed(&[body, content].concat()), "k#g1", &keys(1)), Untrusted::Unsigned);
    }

    fn split_frame(body: &[u8]) -> usize {
        body.len() - split(body).unwrap().0.len()
    }
}
