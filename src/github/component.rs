//! Parts of names: of lanes, and of the folders of reports.

use sha2::{Digest, Sha256};

/// Longest readable part of a component.
pub(crate) const READABLE: usize = 40;

/// Converts `text` to one component of a name: itself if it is short and plain, otherwise its plain characters and a digest.
#[must_use]
pub(crate) fn component(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let dots = text.bytes().all(|byte| byte == b'.');
    if !dots && text.len() <= READABLE && text.chars().all(plain) {
        return text.to_owned();
    }
    with_digest(text, text)
}

pub(crate) fn with_digest(readable: &str, all: &str) -> String {
    let words = readable.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_'));
    let mut name = words.filter(|word| word.bytes().any(|byte| byte != b'.')).collect::<Vec<_>>().join("-");
    name.truncate(READABLE);
    let digest = Sha256::digest(all.as_bytes());
    let head = digest.iter().take(4).fold(0_u32, |head, byte| head << 8 | u32::from(*byte));
    if name.is_empty() { format!("{head:08x}") } else { format!("{name}-{head:08x}") }
}
