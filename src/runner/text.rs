//! Numbers, sizes and times as people read them, and texts cut to a length.

/// `text` in at most `most` characters, the last of them an ellipsis where something was cut off.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A whole number with commas: `1,440`.
pub(super) fn number(value: u64) -> String {
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

/// Bytes in powers of 1024 with one decimal: `979.2 MiB`.
pub(super) fn bytes(value: u64) -> String {
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

/// A time in milliseconds: `4 ms`, `1.2 s`, `3 min 05 s`.
pub(super) fn time(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {:02} s", number(ms / 60_000), ms % 60_000 / 1000),
    }
}

/// A share of 1 in percent with one decimal, rounded down so that only all is `100 %`.
pub(super) fn percent(share: f64) -> String {
    let tenths = (share.clamp(0.0, 1.0) * 1000.0).floor();
    if tenths >= 1000.0 { "100 %".to_owned() } else { format!("{:.1} %", tenths / 10.0) }
}

/// `1 path`, `2,000 paths`.
pub(super) fn count(value: u64, one: &str) -> String {
    format!("{} {one}{}", number(value), if value == 1 { "" } else { "s" })
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
        assert_eq!((time(4), time(1250), time(185_000)), ("4 ms".into(), "1.2 s".into(), "3 min 05 s".into()));
        assert_eq!((percent(0.9999), percent(1.0)), ("99.9 %".into(), "100 %".into()));
        assert_eq!((count(1, "path"), count(2000, "path")), ("1 path".into(), "2,000 paths".into()));
    }

    proptest! {
        #[test]
        fn a_cut_text_is_short_and_a_short_one_whole(text in any::<String>(), most in 1_usize..40) {
            let short = cut(&text, most);
            prop_assert!(short.chars().count() <= most);
            prop_assert!(short == text || text.chars().count() > most);
        }

        #[test]
        fn commas_can_be_taken_out_again(value in any::<u64>()) {
            prop_assert_eq!(number(value).replace(',', "").parse(), Ok(value));
        }
    }
}
