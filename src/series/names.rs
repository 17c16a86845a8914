//! Valid names in a record. They are printed and become parts of other names, so names from a cache are limited to these
//! characters.

/// Longest name in bytes: GitHub allows keys of 512 characters.
const LONGEST: usize = 512;

/// Describes what [`is_name`] accepts.
pub(crate) const TAKES: &str = "letters of the English alphabet, digits, spaces, and any of `._/+@=,~()#-`";

/// Returns whether `name` is valid for a lane, an entry, a key or a system.
pub(crate) fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b" ._/+@=,~()#-".contains(&byte);
    name.len() <= LONGEST && name.bytes().all(known)
}

/// Returns `text` if it is a valid name.
pub(crate) fn parse(text: &str) -> Option<String> {
    is_name(text).then(|| text.to_owned())
}
