//! A day in a policy: `2027-01-31`, with quotes or as TOML has it.

use chrono::NaiveDate;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(pub NaiveDate);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a day is written 2027-01-31")]
enum Written {
    Text(String),
    Date(toml::value::Datetime),
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Date(date) => date.to_string(),
        };
        let day = text.get(..10).unwrap_or(&text);
        day.parse().map(Self).map_err(|_| D::Error::custom(format!("{text:?} is not a day: write 2027-01-31")))
    }
}
