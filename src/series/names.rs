//! Which names a record may hold. They are printed, and become parts of other names: so nothing that comes from a cache may
//! hold more than these characters.

/// Longest name, in bytes: GitHub takes 512 characters as a key.
const LONGEST: usize = 512;

/// What [`is_name`] takes, in words.
pub(crate) const TAKES: &str = "letters of the English alphabet, digits, spaces, and any of `._/+@=,~()#-`";

/// Whether `name` can be that of a lane, an entry, a key or a system.
pub(crate) fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b" ._/+@=,~()#-".contains(&byte);
    name.len() <= LONGEST && name.bytes().all(known)
}

/// `text`, if it is a name.
pub(crate) fn parse(text: &str) -> Option<String> {
    is_name(text).then(|| text.to_owned())
}
