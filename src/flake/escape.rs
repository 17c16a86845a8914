//! Escapes keys to names that every cache server accepts.

use super::KeyError;
use super::canon::hex_digit;

/// The most bytes that an escaped key may have. GitHub takes 512 characters; the rest is for what a snapshot adds.
pub(crate) const MAX_KEY_BYTES: usize = 400;

/// The key as a name of `[A-Za-z0-9._/#-]`: each of these characters but `#` stays, every other byte becomes `#` and two
/// digits of lowercase hex.
///
/// Byte by byte and without context, so two keys never share a name, and one key starts with another exactly when their
/// names do. No name holds a `#` that is not followed by two hex digits: a suffix such as `#g1` never looks like a key.
///
/// # Errors
/// [`KeyError::Empty`] and [`KeyError::TooLong`], which name the input `primary-key`.
pub(crate) fn escape(key: &str) -> Result<String, KeyError> {
    escape_input(key, "primary-key", MAX_KEY_BYTES)
}

/// The key of a series of ours that is not a snapshot of a job: `word` says of what, `prefix` is the first word of the jobs' keys. No
/// computed key of a job starts like it.
pub(crate) fn series_key(word: &str, prefix: &str) -> String {
    let prefix = if prefix.is_empty() { "nix" } else { prefix };
    escape(&format!("{word}-{prefix}")).unwrap_or_else(|_| format!("{word}-nix"))
}

/// As [`escape`], for the text of the input called `input` and another limit.
pub(super) fn escape_input(text: &str, input: &str, limit: usize) -> Result<String, KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty { input: input.to_owned(), limit });
    }
    let length = text.bytes().map(|byte| if stays(byte) { 1 } else { 3 }).sum();
    if length > limit {
        return Err(KeyError::TooLong { input: input.to_owned(), length, limit });
    }
    let mut name = String::with_capacity(length);
    for byte in text.bytes() {
        if stays(byte) {
            name.push(char::from(byte));
        } else {
            name.extend(['#', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
    Ok(name)
}

fn stays(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._/-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unescape(name: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = name.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            if first == b'#' {
                let digits = std::str::from_utf8(&after[..2]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &after[2..];
            } else {
                bytes.push(first);
                rest = after;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_byte_has_its_place() {
        assert_eq!(escape("v1-nix_x/y.Z9").unwrap(), "v1-nix_x/y.Z9");
        assert_eq!(escape("a b,#g1\n").unwrap(), "a#20b#2c#23g1#0a");
        assert_eq!(escape("é").unwrap(), "#c3#a9");
    }

    #[test]
    fn empty_and_long_keys_name_the_input_and_the_limit() {
        let message = escape("").unwrap_err().to_string();
        assert!(message.contains("primary-key") && message.contains("400"), "{message}");
        assert_eq!(escape(&"x".repeat(400)).unwrap().len(), 400);
        let message = escape(&"x".repeat(401)).unwrap_err().to_string();
        assert!(message.contains("primary-key") && message.contains("401") && message.contains("400"), "{message}");
        assert!(matches!(escape(&" ".repeat(134)), Err(KeyError::TooLong { length: 402, .. })));
    }

    /// Few characters, so that one key is often the start of another.
    fn keys() -> impl Strategy<Value = String> {
        proptest::string::string_regex("[ab#0g -]{1,8}|.{1,15}").unwrap()
    }

    proptest! {
        #[test]
        fn names_can_be_read_back(key in keys()) {
            let name = escape(&key).unwrap();
            prop_assert!(name.bytes().all(|byte| stays(byte) || byte == b'#'));
            prop_assert_eq!(unescape(&name), key);
        }

        #[test]
        fn one_starts_with_the_other_as_their_names_do(one in keys(), other in keys(), end in keys()) {
            for (long, short) in [(one.clone() + &end, one.clone()), (one, other)] {
                prop_assert_eq!(long.starts_with(&short), escape(&long).unwrap().starts_with(&escape(&short).unwrap()));
            }
        }

        #[test]
        fn a_generation_never_looks_like_a_key(one in keys(), other in keys(), generation in 0..300_u32) {
            let name = format!("{}#g{generation}", escape(&one).unwrap());
            prop_assert!(!escape(&other).unwrap().starts_with(&name));
            prop_assert!(one == other || !name.starts_with(&(escape(&other).unwrap() + "#g")));
        }
    }
}
