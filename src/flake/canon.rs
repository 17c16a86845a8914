//! Hashing that stays the same: SHA-256 over an encoding in which no two different values look alike.

use sha2::{Digest, Sha256};

/// Takes values in and gives their SHA-256.
///
/// The encoding: a number is eight bytes, lowest first. A text is the number of its bytes, then the bytes. A list is
/// the number of its items, then the items. A choice is its number, then what it holds. Every hash starts with a text that
/// says what is hashed, so that hashes of two kinds never meet.
pub(super) struct Canon(Sha256);

impl Canon {
    /// Starts a hash of the kind `domain`.
    pub(super) fn new(domain: &str) -> Self {
        let mut canon = Self(Sha256::new());
        canon.bytes(domain.as_bytes());
        canon
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    /// Adds the number of items of a list, which the caller adds next.
    pub(super) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// Adds a text, or bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    /// The SHA-256 of all that was added.
    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The first `digits` digits of a digest, in lowercase hex.
pub(super) fn hex(digest: &[u8; 32], digits: usize) -> String {
    let nibbles = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.take(digits).map(hex_digit).collect()
}

/// The lowercase hex digit of a number below 16.
pub(super) fn hex_digit(value: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(value)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(texts: &[&str]) -> [u8; 32] {
        let mut canon = Canon::new("test");
        for text in texts {
            canon.bytes(text.as_bytes());
        }
        canon.finish()
    }

    #[test]
    fn the_border_between_two_texts_counts() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["ab"]), hash(&["a", "b"]));
        assert_ne!(hash(&[]), hash(&[""]));
    }

    #[test]
    fn the_encoding_is_the_one_that_is_documented() {
        let mut canon = Canon::new("kind");
        canon.number(258);
        canon.bytes(b"xyz");
        let by_hand = b"\x04\0\0\0\0\0\0\0kind\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0xyz";
        assert_eq!(canon.finish(), <[u8; 32]>::from(Sha256::digest(by_hand)));
    }

    #[test]
    fn hex_is_cut_from_the_front() {
        let mut digest = [0; 32];
        digest[0] = 0xab;
        digest[1] = 0x0c;
        assert_eq!(hex(&digest, 4), "ab0c");
        assert_eq!(hex(&digest, 64).len(), 64);
    }
}
