//! SHA-256 digests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha(pub [u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a SHA-256 digest of 64 hexadecimal digits")]
pub struct DigestError(String);

impl Sha {
    /// Computes the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

/// Writes a digest as 64 lower-case hexadecimal digits, at once: a restore writes those of a hundred thousand paths.
pub(crate) fn write_hex(digest: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    let mut text = [0; 64];
    for (two, byte) in text.chunks_exact_mut(2).zip(digest) {
        two.copy_from_slice(&digits(byte));
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Returns whether `text` has `length` lower-case hexadecimal digits, and nothing else.
pub(crate) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for Sha {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || DigestError(text.to_owned());
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let (high, low) = digit(&pair[0]).zip(digit(&pair[1])).ok_or_else(wrong)?;
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Sha> for String {
    fn from(sha: Sha) -> Self {
        sha.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_digits_of_hex_are_read() {
        let sha = Sha::of(b"text");
        assert_eq!(sha.to_string().parse::<Sha>().unwrap(), sha);
        let text = "0123456789abcdefABCDEF0123456789".repeat(2);
        assert_eq!(text.parse::<Sha>().unwrap().to_string(), text.to_lowercase());
        // Rust's own parser accepts a sign.
        for wrong in ["", "0", &text[1..], &format!("{text}0"), &text.replacen("01", "+1", 1), &"é".repeat(32)] {
            assert!(wrong.parse::<Sha>().is_err(), "{wrong}");
        }
    }
}
