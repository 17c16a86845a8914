//! Finds the newest generation.

use futures_util::future::try_join_all;

use super::number::{MOST, generation_of};
use crate::remote::{Entry, Kind, Remote, RemoteError};

/// A generation that a lookup found.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    /// The name of its series.
    pub series: String,
    pub number: u64,
    pub entry: Entry,
}

impl Newest {
    fn of(entry: Entry) -> Option<Self> {
        let (series, number) = generation_of(&entry.name).map(|(series, number)| (series.to_owned(), number))?;
        Some(Self { series, number, entry })
    }
}

/// Returns the newest generation of the first of `prefixes` that has an entry. An entry that is not a generation hides older
/// ones; if a prefix names one series (it ends with `#g`), that entry is skipped and the greatest number is returned.
///
/// # Errors
/// When the lookup fails.
pub(crate) async fn find(remote: &dyn Remote, kind: Kind, prefixes: &[String]) -> Result<Option<Newest>, RemoteError> {
    let mut prefixes = prefixes;
    while !prefixes.is_empty() {
        let Some(entry) = remote.find(kind, prefixes).await? else { return Ok(None) };
        // The first matching prefix is the one that the remote chose: those before it have no entry.
        let chosen = prefixes.iter().position(|prefix| entry.name.starts_with(prefix.as_str())).unwrap_or(0);
        let name = entry.name.clone();
        if let Some(newest) = Newest::of(entry) {
            return Ok(Some(newest));
        }
        let prefix = &prefixes[chosen];
        if prefix.ends_with("#g") {
            tracing::warn!("Skipped {name:?} in the cache, which is not a generation written by any job.");
            if let Some(newest) = behind(remote, kind, prefix).await? {
                return Ok(Some(newest));
            }
        } else {
            tracing::debug!("{name:?} is not a generation");
        }
        prefixes = &prefixes[chosen + 1..];
    }
    Ok(None)
}

/// Finds the greatest plausible number under `prefix` digit by digit, because a lookup returns only the newest entry of a prefix.
async fn behind(remote: &dyn Remote, kind: Kind, prefix: &str) -> Result<Option<Newest>, RemoteError> {
    let mut found: Option<Newest> = None;
    let mut level = vec![prefix.to_owned()];
    for _ in 0..MOST.to_string().len() {
        let deeper = level.iter().flat_map(|prefix| (0..10).map(move |digit| format!("{prefix}{digit}")));
        let deeper: Vec<String> = deeper.filter(|prefix| !prefix.ends_with("#g0")).collect();
        let lookups = deeper.iter().map(|prefix| remote.find(kind, std::slice::from_ref(prefix)));
        level = Vec::new();
        for (prefix, entry) in deeper.iter().zip(try_join_all(lookups).await?) {
            let Some(entry) = entry.filter(|entry| entry.name.starts_with(prefix.as_str())) else { continue };
            match Newest::of(entry) {
                Some(newest) if found.as_ref().is_none_or(|found| found.number < newest.number) => found = Some(newest),
                // A planted entry hides others: search one digit further, up to a limit.
                None if level.len() < 4 => level.push(prefix.clone()),
                Some(_) | None => {}
            }
        }
        if level.is_empty() {
            break;
        }
    }
    Ok(found)
}
