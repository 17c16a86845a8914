//! Parsing of sizes and times that people type.

use std::time::Duration;

/// Parses a number of bytes: `5G`, `500M`, `1024K`, `2T` (powers of 1024, either case) or a plain number. Returns None for zero
/// and for numbers that do not fit in 64 bits.
#[must_use]
pub(crate) fn size(text: &str) -> Option<u64> {
    let last = text.chars().next_back()?;
    let shift = match last.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    number(digits)?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

/// Parses a time: seconds (`600`) or parts in descending order (`1h30m`, `10m`, `90s`). Returns None for zero and for anything
/// else.
#[must_use]
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let seconds = if text.ends_with(|last: char| last.is_ascii_digit()) { number(text)? } else { parts(text)? };
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Accepts digits only: `parse` alone would accept a sign.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(crate) fn parts(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut seconds = 0_u64;
    for (unit, worth) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((count, behind)) = rest.split_once(unit) {
            seconds = seconds.checked_add(number(count)?.checked_mul(worth)?)?;
            rest = behind;
        }
    }
    rest.is_empty().then_some(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let taken =
            [("1", 1), ("500M", 500 << 20), ("5G", 5 << 30), ("5g", 5 << 30), ("1024K", 1 << 20), ("2T", 2 << 40)];
        for (text, bytes) in taken {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in
            ["", "0", "0G", "-1", "+1", "5 G", "5GB", "G", "1.5G", "5Ġ", "é", "18446744073709551616", "16777216T"]
        {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        let taken = [("600", 600), ("10m", 600), ("1h30m", 5400), ("1h", 3600), ("90s", 90), ("1h1m1s", 3661)];
        for (text, seconds) in taken {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "0", "0m", "-5", "m", "10m30", "30s10m", "1m1m", "10 m", "10min", "1d", "99999999999999999999h"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = (size(&text), duration(&text));
        }

        #[test]
        fn a_size_is_its_digits_times_its_unit(digits in 1_u64..1 << 23, unit in 0_usize..5) {
            let text = format!("{digits}{}", ["", "K", "M", "G", "T"][unit]);
            prop_assert_eq!(size(&text), Some(digits << (10 * unit)));
        }

        #[test]
        fn hours_minutes_and_seconds_add_up(h in 0_u64..100, m in 0_u64..100, s in 1_u64..100) {
            prop_assert_eq!(duration(&format!("{h}h{m}m{s}s")), Some(Duration::from_secs(h * 3600 + m * 60 + s)));
        }
    }
}
