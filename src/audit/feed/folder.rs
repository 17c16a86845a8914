//! All feeds of a folder.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use flate2::read::MultiGzDecoder;

use super::{Entry, nvd, reduced};
use crate::base::bounds::open_file;

/// Most ranges of versions that are kept: some twenty are usual for a package.
const MOST: usize = 200_000;
/// Most bytes of their texts, with those of the advisories: a file of some kilobytes can unpack to any number.
const MOST_BYTES: usize = 32 << 20;

/// What a folder of feeds has for some products.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feeds {
    /// The advisories, by identifier; of one that is in several files, the last.
    pub entries: Vec<Entry>,
    /// The day of the oldest and of the newest file; none where no file says one.
    pub days: Option<(NaiveDate, NaiveDate)>,
    /// What could not be read, in sentences.
    pub notes: Vec<String>,
}

impl Feeds {
    /// How old the data is, in a sentence; none where no file says.
    pub(crate) fn age(&self, today: NaiveDate) -> Option<String> {
        let (oldest, newest) = self.days?;
        let days = crate::base::human::count((today - newest).num_days().max(0) as u64, "day");
        let from = if oldest == newest { String::new() } else { format!(", its oldest file of {oldest}") };
        Some(format!("The vulnerability data is of {newest}, {days} old{from}."))
    }
}

/// Reads all feeds in `folder`: `*.json`, `*.json.gz`, and what `nix-cache feeds` wrote. Keeps what `wants` of a product.
pub(crate) fn read_folder(folder: &Path, mut wants: impl FnMut(&str, &str) -> bool) -> Feeds {
    let mut feeds = Feeds::default();
    let mut files: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| is_feed(path)).collect(),
        Err(error) => {
            feeds.notes.push(format!(
                "The feeds in {} cannot be read: {error}. No vulnerabilities are looked up.",
                folder.display()
            ));
            return feeds;
        }
    };
    if files.is_empty() {
        feeds.notes.push(format!("There are no feeds in {}. No vulnerabilities are looked up.", folder.display()));
    }
    let (mut room, mut bytes) = (MOST, MOST_BYTES);
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    // `modified` sorts behind the years, and is newer.
    files.sort();
    for path in files {
        let keep = |mut entry: Entry| {
            entry.affected.retain(|affected| wants(&affected.vendor, &affected.product));
            // Of one advisory the last file has the last word, also where it withdraws it or says that something else is affected.
            if entry.affected.is_empty() {
                entries.remove(&entry.id);
                return;
            }
            match (room.checked_sub(entry.affected.len()), bytes.checked_sub(entry.bytes())) {
                (Some(ranges), Some(left)) => {
                    (room, bytes) = (ranges, left);
                    entries.insert(entry.id.clone(), entry);
                }
                _ => room = 0,
            }
        };
        match read_file(&path, keep) {
            Ok(timestamp) => {
                if let Some(day) = timestamp.get(..10).and_then(|day| day.parse::<NaiveDate>().ok()) {
                    let (oldest, newest) = feeds.days.unwrap_or((day, day));
                    feeds.days = Some((oldest.min(day), newest.max(day)));
                }
            }
            Err(error) => feeds.notes.push(format!(
                "The feed {} cannot be read, and is used as far as it could be: {error}.",
                path.display()
            )),
        }
    }
    if room == 0 {
        let (most, mebibytes) = (crate::base::human::number(MOST as u64), MOST_BYTES >> 20);
        feeds.notes.push(format!(
            "The feeds have more than {most} ranges of versions of these packages, or more than {mebibytes} MiB about them; the rest is \
             left out."
        ));
    }
    feeds.entries = entries.into_values().collect();
    feeds
}

fn is_feed(path: &Path) -> bool {
    is_nvd(path) || path.file_name().is_some_and(|name| name == reduced::FILE)
}

/// Whether a file is one of the NVD's, by its name: `*.json` or `*.json.gz`.
pub(crate) fn is_nvd(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.is_file() && Path::new(name.trim_end_matches(".gz")).extension().is_some_and(|ending| ending == "json")
}

/// Hands every advisory of one file to `each`. Returns the time of its data.
fn read_file(path: &Path, each: impl FnMut(Entry)) -> std::io::Result<String> {
    let file = open_file(path)?;
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("zst") => reduced::read(file, each),
        Some("gz") => nvd::read(MultiGzDecoder::new(file), each),
        _ => nvd::read(file.take(u64::MAX), each),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Affected, Range};
    use super::*;

    #[test]
    fn a_feed_of_long_texts_takes_bounded_memory() {
        let folder = tempfile::tempdir().unwrap();
        let range = Range { exact: Some("9".repeat(1 << 20)), ..Range::default() };
        let affected = vec![Affected { vendor: "v".into(), product: "p".into(), range, ..Affected::default() }];
        let file = std::fs::File::create(folder.path().join(reduced::FILE)).unwrap();
        let mut writer = reduced::Writer::new(file, "2026-11-25").unwrap();
        for number in 0..100 {
            let entry = Entry { id: number.to_string(), score: None, text: String::new(), affected: affected.clone() };
            writer.add(&entry).unwrap();
        }
        writer.finish().unwrap();
        let feeds = read_folder(folder.path(), |_, _| true);
        assert!(
            feeds.entries.len() < 33 && feeds.notes[0].contains("32 MiB"),
            "{} {:?}",
            feeds.entries.len(),
            feeds.notes
        );
    }
}
