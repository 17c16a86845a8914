//! Formatting of numbers, sizes and counts for people.

/// Formats a whole number with commas: `1,440`.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats bytes in powers of 1024 with one decimal: `979.2 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut amount = value as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be rounded to 1024.0
    while amount >= 1023.95 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", units[unit])
}

/// Formats a number with a noun: `1 path`, `2,000 paths`. An irregular plural is given after a bar: `entry|entries`.
pub(crate) fn count(value: u64, one: &str) -> String {
    let (one, many) =
        one.split_once('|').map_or_else(|| (one, format!("{one}s")), |(one, many)| (one, many.to_owned()));
    format!("{} {}", number(value), if value == 1 { one } else { &many })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_people_read_them() {
        assert_eq!((number(0), number(999), number(1440)), ("0".into(), "999".into(), "1,440".into()));
        assert_eq!(number(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(
            (bytes(1023), bytes(1024), bytes(979 << 20)),
            ("1023 B".into(), "1.0 KiB".into(), "979.0 MiB".into())
        );
        assert_eq!((bytes((1 << 20) - 1), bytes(u64::MAX)), ("1.0 MiB".into(), "16.0 EiB".into()));
        assert_eq!((count(1, "path"), count(2000, "path")), ("1 path".into(), "2,000 paths".into()));
        assert_eq!((count(1, "entry|entries"), count(0, "entry|entries")), ("1 entry".into(), "0 entries".into()));
    }

    proptest! {
        #[test]
        fn commas_can_be_taken_out_again(value in any::<u64>()) {
            prop_assert_eq!(number(value).replace(',', "").parse(), Ok(value));
        }
    }
}
