//! Names of our own entries. What is not one of them is never deleted.

use crate::base::digest::is_hex;
use crate::remote::Kind;
use crate::series::generation_of;
use crate::series::names::is_name;

/// Number of hexadecimal digits of a layer's id, and of the suffix of a layer that was stored again.
const ID: usize = 64;
const NONCE: usize = 18;
/// Number of binary digits at the end of an offer's name.
const SLOT: usize = 8;

/// The name of an entry of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnName<'a> {
    /// A generation of a series.
    Generation { series: &'a str, number: u64 },
    /// A layer, or the new bytes of one.
    Layer,
    /// An addition that is useful for minutes.
    Offer,
}

/// Parses the name of an entry of this kind; None if no version of this program would write such a name.
pub(crate) fn own_name(kind: Kind, name: &str) -> Option<OwnName<'_>> {
    if !is_name(name) {
        return None;
    }
    match kind {
        Kind::Layer => is_layer(name).then_some(OwnName::Layer),
        Kind::Offer => is_offer(name).then_some(OwnName::Offer),
        Kind::Files => {
            let (level, key) = name.strip_prefix("files/")?.split_once('/')?;
            generation(name).filter(|_| !level.is_empty() && !key.starts_with("#g"))
        }
        Kind::Snapshot | Kind::Plan | Kind::History => generation(name),
    }
}

fn generation(name: &str) -> Option<OwnName<'_>> {
    let (series, number) = generation_of(name)?;
    is_escaped(series).then_some(OwnName::Generation { series, number })
}

/// Returns whether `series` could be an escaped key, see [`crate::flake::escape`].
fn is_escaped(series: &str) -> bool {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte));
    let mut parts = series.split('#');
    let is_part = |part: &str| part.split_at_checked(2).is_some_and(|(code, rest)| is_hex(code, 2) && is_plain(rest));
    !series.is_empty() && parts.next().is_some_and(is_plain) && parts.all(is_part)
}

/// An id, with the suffix of a second attempt; or the name of a layer from a job that may not look anything up.
fn is_layer(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('-').collect();
    match parts[..] {
        [id] => is_hex(id, ID),
        ["first", id, count] => is_hex(id, ID) && number(count),
        ["first", id, count, day] => is_hex(id, ID) && number(count) && number(day),
        [id, nonce] => is_hex(id, ID) && is_hex(nonce, NONCE),
        _ => false,
    }
}

/// The prefix of generations, a minute, a period and a slot.
fn is_offer(name: &str) -> bool {
    let Some((series, rest)) = name.rsplit_once("#g") else { return false };
    let Some((minute, slot)) = rest.split_once('.') else { return false };
    let is_minute = !minute.is_empty() && minute.len() <= 10 && minute.bytes().all(|byte| byte.is_ascii_digit());
    let is_slot = slot.len() == SLOT && slot.bytes().all(|byte| byte == b'0' || byte == b'1');
    is_escaped(series) && is_minute && is_slot
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::digest::Sha;
    use crate::flake::escape;
    use crate::series::{generation_name, nonce};

    #[test]
    fn names_that_jobs_write_are_ours() {
        let id = Sha([7; 32]);
        for name in
            [id.to_string(), format!("{id}-{}", nonce()), format!("first-{id}-1"), format!("first-{id}-2-20000")]
        {
            assert_eq!(own_name(Kind::Layer, &name), Some(OwnName::Layer), "{name}");
        }
        let key = escape("nix-x86_64-linux-größe #g1").unwrap();
        for kind in [Kind::Snapshot, Kind::Plan, Kind::History] {
            let name = generation_name(&key, 17);
            assert_eq!(own_name(kind, &name), Some(OwnName::Generation { series: &key, number: 17 }), "{name}");
        }
        assert!(own_name(Kind::Files, &format!("files/eval/{key}#g3")).is_some());
        assert_eq!(own_name(Kind::Offer, &format!("{key}#g29000000.01010101")), Some(OwnName::Offer));
    }

    #[test]
    fn names_of_others_are_not() {
        let id = "a".repeat(64);
        for name in
            ["", "node-modules", &id[1..], &format!("{id}-x"), &format!("{id}-1-2"), &id.to_uppercase(), "first-a-1"]
        {
            assert_eq!(own_name(Kind::Layer, name), None, "{name}");
        }
        for name in ["k", "k#g", "k#g0", "k#g01", "#g1", "k#gx#g1", "a b#g1", "k\n#g1", "k#g1.0"] {
            assert_eq!(own_name(Kind::Snapshot, name), None, "{name}");
        }
        for name in ["k#g1", "files/#g1", "files/eval#g1", "files//k#g1"] {
            assert_eq!(own_name(Kind::Files, name), None, "{name}");
        }
        for name in ["k#g1", "k#g1.0101010", "k#g1.010101012", "k#gx.01010101"] {
            assert_eq!(own_name(Kind::Offer, name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_key_is_read_back(key in any::<String>().prop_filter("a key", |key| escape(key).is_ok()), number in 1..1000_u64) {
            let series = escape(&key).unwrap();
            let name = generation_name(&series, number);
            prop_assert_eq!(own_name(Kind::Snapshot, &name), Some(OwnName::Generation { series: &series, number }));
        }
    }
}
