//! Parsers of values. Each error says what was expected.

use std::time::Duration;

use crate::app::warm::WantedPull;
use crate::base::typed;
use crate::building::checks::{self, CheckRequest};
use crate::building::limits::Limit;
use crate::plan::RunnerMap;
use crate::series::names;

/// A parser of whole numbers within bounds. Signs are not accepted.
pub(crate) fn whole<T: TryFrom<u64> + Clone + Send + Sync + 'static>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = typed::number(text).filter(|number| (least..=most).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| match most {
            _ if most >= u64::from(u32::MAX) => "expected a whole number".to_owned(),
            _ => format!("expected a whole number from {least} to {most}"),
        })
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    typed::duration(text)
        .ok_or_else(|| "expected a number of seconds above 0, or a time such as 10m or 1h30m".to_owned())
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    let expected = "expected a number of bytes above 0, or one with K, M, G or T behind it, such as 500M or 5G";
    typed::size(text).ok_or_else(|| expected.to_owned())
}

pub(super) fn lane(text: &str) -> Result<String, String> {
    names::parse(text).ok_or_else(|| format!("a name consists of {}", names::TAKES))
}

pub(super) fn limit(text: &str) -> Result<Limit, String> {
    Limit::parse(text).ok_or_else(|| format!("expected {}", Limit::TAKES))
}

pub(super) fn check(text: &str) -> Result<CheckRequest, String> {
    checks::parse(text).ok_or_else(|| "expected a name, a colon and a command, such as `lint: ./lint.sh`".to_owned())
}

pub(super) fn wanted_pull_request(text: &str) -> Result<WantedPull, String> {
    let number = typed::number(text).filter(|number| *number > 0);
    match number {
        Some(number) => Ok(WantedPull::Number(number)),
        None if text == "newest" => Ok(WantedPull::Newest),
        None => Err("expected the number of a pull request, or `newest`".to_owned()),
    }
}

pub(super) fn runners(text: &str) -> Result<RunnerMap, String> {
    RunnerMap::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_numbers_have_no_sign_and_stay_within_their_bounds() {
        let level = whole::<i32>(1, 22);
        assert_eq!((level("1"), level("22"), level("007")), (Ok(1), Ok(22), Ok(7)));
        for text in ["0", "23", "+3", "-1", "", " 4", "4.0", "99999999999999999999"] {
            assert_eq!(level(text), Err("expected a whole number from 1 to 22".to_owned()), "{text}");
        }
        let count = whole::<u32>(0, u32::MAX.into());
        assert_eq!((count("0"), count("4294967295")), (Ok(0), Ok(u32::MAX)));
        assert_eq!(count("4294967296"), Err("expected a whole number".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = (whole::<u32>(0, 20)(&text), limit(&text), check(&text), runners(&text));
        }
    }
}
