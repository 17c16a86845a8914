//! Vulnerability feeds for the cache: fetched or read from a folder, reduced to what an audit needs, one file.
//!
//! 1. From an address, the files of the last years and that of recent changes are fetched one after the other.
//! 2. Each is read one advisory at a time and written to the reduced file; of one that is in two files, the newer follows and counts.
//! 3. The file takes its place at once, when all were read. What cannot be fetched or read leaves the old one where it is.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Datelike};
use flate2::read::MultiGzDecoder;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use url::Url;

use crate::app::Failure;
use crate::audit::feed::{is_nvd, read_nvd, reduced};
use crate::base::bounds::open_file;
use crate::base::{clock, env_vars, http, human};

/// Where the National Vulnerability Database publishes its feeds.
pub(crate) const NVD: &str = "https://nvd.nist.gov/feeds/json/cve/2.0/";
/// How many years back they are fetched by default.
pub(crate) const YEARS: u16 = 6;
/// Most bytes of one file as it is sent.
const MOST: u64 = 1 << 30;
/// The longest that one file may take.
const TIMEOUT: Duration = Duration::from_mins(10);

/// Which feeds, and where to.
#[derive(Debug)]
pub(crate) struct FeedsRequest {
    pub from: String,
    pub into: PathBuf,
    pub years: u16,
}

/// Writes the reduced feed. Returns what is in it, as a sentence.
///
/// # Errors
/// When the feeds cannot be fetched or read, or the file not written. An older file stays.
pub(crate) async fn refresh(request: &FeedsRequest) -> Result<String, Failure> {
    let stays = |why: String| Failure::work(format!("The feeds are not refreshed, older ones stay: {why}."));
    let scratch = tempfile::tempdir().map_err(|error| stays(error.to_string()))?;
    let files = match Url::parse(&request.from) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            fetch(&url, request.years, scratch.path()).await.map_err(stays)?
        }
        _ => listed(Path::new(&request.from)).map_err(stays)?,
    };
    let into = request.into.clone();
    let task = tokio::task::spawn_blocking(move || reduce(&files, &into));
    task.await.map_err(|error| stays(error.to_string()))?.map_err(stays)
}

/// The feeds in a folder, by name.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| is_nvd(path)).collect();
    files.sort();
    if files.is_empty() {
        Err(format!("there are no feeds (*.json, *.json.gz) in {}", folder.display()))
    } else {
        Ok(files)
    }
}

async fn fetch(base: &Url, years: u16, scratch: &Path) -> Result<Vec<PathBuf>, String> {
    let this_year = DateTime::from_timestamp(clock::now().cast_signed(), 0).unwrap_or_default().year();
    let first = this_year - i32::from(years) + 1;
    let names = (first..=this_year).map(|year| year.to_string()).chain(["modified".to_owned()]);
    let ca_file = env_vars::path(env_vars::SSL_CERT_FILE);
    let client = http::client(ca_file.as_deref()).map_err(|error| error.to_string())?;
    let mut files = Vec::new();
    for name in names {
        let name = format!("nvdcve-2.0-{name}.json.gz");
        let url = base.join(&name).map_err(|error| error.to_string())?;
        let path = scratch.join(&name);
        let fetched = tokio::time::timeout(TIMEOUT, download(&client, &url, &path)).await;
        let fetched = fetched.unwrap_or_else(|_| Err("it takes too long".to_owned()));
        fetched.map_err(|why| format!("{url}: {why}"))?;
        files.push(path);
    }
    Ok(files)
}

async fn download(client: &reqwest::Client, url: &Url, path: &Path) -> Result<(), String> {
    let broken = |error: reqwest::Error| error.without_url().to_string();
    let mut answer =
        client.get(url.clone()).send().await.and_then(reqwest::Response::error_for_status).map_err(broken)?;
    let mut file = tokio::fs::File::create(path).await.map_err(|error| error.to_string())?;
    let mut bytes = 0;
    while let Some(piece) = answer.chunk().await.map_err(broken)? {
        bytes += piece.len() as u64;
        if bytes > MOST {
            return Err(format!("it is larger than {}", human::bytes(MOST)));
        }
        file.write_all(&piece).await.map_err(|error| error.to_string())?;
    }
    file.flush().await.map_err(|error| error.to_string())
}

fn reduce(files: &[PathBuf], into: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("{} cannot be written: {error}", into.join(reduced::FILE).display());
    fs::create_dir_all(into).map_err(failed)?;
    // The data is as old as its newest file, and that is only known at the end: the head is written first, so files are read twice.
    let mut newest = String::new();
    for path in files {
        let timestamp = read(path, |_| {})?;
        newest = newest.max(timestamp);
    }
    let file = NamedTempFile::new_in(into).map_err(failed)?;
    let mut writer = reduced::Writer::new(file, &newest).map_err(failed)?;
    let (mut count, mut trouble) = (0, None);
    for path in files {
        read(path, |entry| {
            count += u64::from(!entry.affected.is_empty());
            trouble = trouble.take().or(writer.add(&entry).err());
        })?;
    }
    if let Some(error) = trouble {
        return Err(failed(error));
    }
    let file = writer.finish().map_err(failed)?;
    let size = file.as_file().metadata().map_err(failed)?.len();
    file.persist(into.join(reduced::FILE)).map_err(|error| failed(error.error))?;
    let advisories = human::count(count, "record");
    let day = newest.get(..10).unwrap_or("an unknown day");
    Ok(format!(
        "{advisories} of {}, data of {day}, {} written.",
        human::count(files.len() as u64, "feed"),
        human::bytes(size)
    ))
}

fn read(path: &Path, each: impl FnMut(crate::audit::feed::Entry)) -> Result<String, String> {
    let open = || -> io::Result<Box<dyn Read>> {
        let file = open_file(path)?;
        let is_packed = path.extension().is_some_and(|ending| ending == "gz");
        Ok(if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
    };
    open().and_then(|reader| read_nvd(reader, each)).map_err(|error| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        format!("the feed {name} cannot be read: {error}")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::audit::feed::read_folder;

    const FEED: &str = include_str!("../audit/testdata/nvd.json");

    /// The feed with `to` in place of the first `from` behind the start of an advisory.
    fn changed(feed: &str, id: &str, from: &str, to: &str) -> String {
        let (before, after) = feed.split_at(feed.find(id).unwrap());
        before.to_owned() + &after.replacen(from, to, 1)
    }

    fn request(from: String, into: &Path) -> FeedsRequest {
        FeedsRequest { from, into: into.to_owned(), years: 1 }
    }

    #[tokio::test]
    async fn a_folder_is_reduced_to_one_file_that_says_the_same() {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("nvdcve-2.0-2026.json"), FEED).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let newer = FEED
            .replace("\"versionEndExcluding\": \"153.0\"", "\"versionEndExcluding\": \"154.0\"")
            .replace("2026-11-20", "2026-11-25");
        // Meanwhile one advisory was withdrawn, and of another one it was found that something else is affected.
        let newer = changed(&newer, "CVE-2026-0001", "Analyzed", "Rejected");
        let newer = changed(&newer, "CVE-2026-0003", ":acme:demo:", ":acme:else:");
        packed.write_all(newer.as_bytes()).unwrap();
        fs::write(from.path().join("nvdcve-2.0-modified.json.gz"), packed.finish().unwrap()).unwrap();
        let said = refresh(&request(from.path().display().to_string(), into.path())).await.unwrap();
        assert!(said.starts_with("19 records of 2 feeds, data of 2026-11-25, "), "{said}");
        let (direct, reduced) = (read_folder(from.path(), |_, _| true), read_folder(into.path(), |_, _| true));
        assert_eq!(direct.entries, reduced.entries);
        for feeds in [from.path(), into.path()] {
            let known = read_folder(feeds, |_, product| product == "demo").entries;
            let known: Vec<&str> = known.iter().map(|entry| entry.id.as_str()).collect();
            assert!(known.contains(&"CVE-2026-0002") && !known.contains(&"CVE-2026-0001"), "{known:?}");
            assert!(!known.contains(&"CVE-2026-0003"), "{known:?}");
        }
        let firefox = reduced.entries.iter().find(|entry| entry.id == "CVE-2026-0153").unwrap();
        assert_eq!(firefox.affected[0].range.to_excluding.as_deref(), Some("154.0"), "the newer file counts");
        assert_eq!(reduced.days.unwrap().1.to_string(), "2026-11-25");
        assert_eq!(reduced.notes, [""; 0]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_leaves_the_old_file() {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let old = into.path().join(reduced::FILE);
        fs::write(&old, "old").unwrap();
        let said = |failure: Failure| failure.message;
        let none = refresh(&request(from.path().display().to_string(), into.path())).await.map_err(said).unwrap_err();
        assert!(none.contains("there are no feeds"), "{none}");
        fs::write(from.path().join("a.json"), &FEED[..FEED.len() / 2]).unwrap();
        let broken = refresh(&request(from.path().display().to_string(), into.path())).await.map_err(said).unwrap_err();
        assert!(broken.contains("the feed a.json cannot be read"), "{broken}");
        // Nobody listens there.
        let away = refresh(&request("http://127.0.0.1:9/".to_owned(), into.path())).await.map_err(said).unwrap_err();
        assert!(away.contains("older ones stay: http://127.0.0.1:9/nvdcve-2.0-"), "{away}");
        assert_eq!(fs::read_to_string(&old).unwrap(), "old");
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1, "nothing half written is left");
        // An audit says that its feed is broken, and goes on.
        assert!(read_folder(into.path(), |_, _| true).notes[0].contains("used as far as it could be"));
    }
}
