//! The numbers of generations.

use super::clock::random_below;

/// The greatest plausible number of a generation: one save a second reaches it after thirty years. An entry with a greater
/// number was planted and is skipped.
pub(super) const MOST: u64 = 999_999_999;

/// Splits the name of a generation into the name of its series and its number.
pub(crate) fn generation_of(name: &str) -> Option<(&str, u64)> {
    let (series, number) = name.rsplit_once("#g")?;
    let canonical = !number.is_empty() && !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| canonical && *number <= MOST)?;
    Some((series, number))
}

/// The name of generation `number` of the series with the escaped key `key`.
pub(crate) fn generation_name(key: &str, number: u64) -> String {
    format!("{key}#g{number}")
}

/// The prefix of all generations of the series with the escaped key `key`, and of no other key's.
pub(crate) fn generation_prefix(key: &str) -> String {
    format!("{key}#g")
}

/// The number after `newest`. Lookups return the newest entry, whatever its number, so after the last number any free number
/// can be used.
pub(crate) fn next_number(newest: u64) -> u64 {
    if newest < MOST { newest + 1 } else { 1 + random_below(MOST / 2) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_of_generations_are_read_back(key in "[a-z#g0-9]{0,12}", number in 1..1_000_000_000_u64) {
            let name = generation_name(&key, number);
            prop_assert!(name.starts_with(&generation_prefix(&key)));
            prop_assert_eq!(generation_of(&name), Some((&*key, number)));
        }
    }

    #[test]
    fn only_plausible_numbers_are_numbers() {
        assert_eq!(generation_of("a#g1#g17"), Some(("a#g1", 17)));
        assert_eq!(generation_of("a#g999999999"), Some(("a", MOST)));
        for name in ["a", "a#g", "a#g0", "a#g01", "a#g-1", "a#g1000000000", "a#g18446744073709551615", "a#g1x", "a#g+1"]
        {
            assert_eq!(generation_of(name), None, "{name}");
        }
    }

    #[test]
    fn there_is_always_a_next_number() {
        assert_eq!(next_number(0), 1);
        for newest in [MOST - 1, MOST, MOST + 1, u64::MAX - 1, u64::MAX] {
            assert!((1..=MOST).contains(&next_number(newest)), "{newest}");
        }
    }
}
