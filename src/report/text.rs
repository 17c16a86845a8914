//! Formatting of times and shares, and shortening of texts.

pub(crate) use crate::base::human::{bytes, count, number};

/// Shortens `text` to at most `most` characters, ending with an ellipsis if it was cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Formats a time in milliseconds: `4 ms`, `1.2 s`, `3 min 05 s`.
pub(crate) fn time(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {:02} s", number(ms / 60_000), ms % 60_000 / 1000),
    }
}

/// Formats a time in milliseconds that can be long: as [`time`], and `4 h 10 min`. Round times are short: `2 min`.
pub(crate) fn long_time(ms: u64) -> String {
    match ms {
        3_600_000.. => format!("{} h {:02} min", number(ms / 3_600_000), ms / 60_000 % 60),
        60_000.. if ms % 60_000 < 1000 => format!("{} min", ms / 60_000),
        1000..60_000 if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        _ => time(ms),
    }
}

/// Formats a share of 1 in percent with one decimal, rounded down so that only 1 is `100 %`.
pub(crate) fn percent(share: f64) -> String {
    unbounded_percent(share.clamp(0.0, 1.0))
}

/// As [`percent`], for a share that may be negative, and then of any size.
pub(crate) fn signed_percent(share: f64) -> String {
    if share < 0.0 { format!("−{}", unbounded_percent(-share)) } else { percent(share) }
}

/// As [`percent`], for a share that may be greater than 1.
pub(crate) fn unbounded_percent(share: f64) -> String {
    let tenths = (share * 1000.0).floor();
    if (1000.0..1001.0).contains(&tenths) { "100 %".to_owned() } else { format!("{:.1} %", tenths / 10.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_people_read_them() {
        assert_eq!((time(4), time(1250), time(185_000)), ("4 ms".into(), "1.2 s".into(), "3 min 05 s".into()));
        assert_eq!((long_time(15_000_000), long_time(372_000)), ("4 h 10 min".into(), "6 min 12 s".into()));
        assert_eq!((long_time(120_400), long_time(20_000)), ("2 min".into(), "20 s".into()));
        assert_eq!((percent(0.9999), percent(1.0), percent(1.5)), ("99.9 %".into(), "100 %".into(), "100 %".into()));
        assert_eq!((signed_percent(-1.5), unbounded_percent(2.0)), ("−150.0 %".into(), "200.0 %".into()));
    }

    proptest! {
        #[test]
        fn a_cut_text_is_short_and_a_short_one_whole(text in any::<String>(), most in 1_usize..40) {
            let short = cut(&text, most);
            prop_assert!(short.chars().count() <= most);
            prop_assert!(short == text || text.chars().count() > most);
        }
    }
}
