//! One substituter: how it is queried, and when it is given up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use url::Url;

use super::narinfo;
use crate::base::bounds::{MAX_ANSWER, read_text};
use crate::base::http::{BodyError, body};
use crate::store::{PathInfo, StorePath};

/// Number of consecutive failures after which it is given up.
const FAILURES: u32 = 5;
/// Number of attempts for a request.
const TRIES: u32 = 2;
/// Pause before the second attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// A place that may have a path.
#[derive(Debug)]
pub(super) struct Substituter {
    place: Place,
    failures: AtomicU32,
}

#[derive(Clone, Debug)]
enum Place {
    Http(Url),
    Folder(PathBuf),
}

impl Substituter {
    /// Parses `address`, a URL as in Nix's configuration. None for an unsupported kind.
    pub(super) fn parse(address: &str) -> Option<Self> {
        let mut url = Url::parse(address).ok()?;
        // Parameters such as `priority` are Nix's own.
        url.set_query(None);
        url.set_fragment(None);
        let place = match url.scheme() {
            "http" | "https" => {
                if !url.path().ends_with('/') {
                    url.set_path(&format!("{}/", url.path()));
                }
                Place::Http(url)
            }
            "file" => Place::Folder(url.to_file_path().ok()?),
            _ => return None,
        };
        Some(Self { place, failures: AtomicU32::new(0) })
    }

    /// Its name for messages, without user name and password.
    pub(super) fn describe(&self) -> String {
        match &self.place {
            Place::Http(url) => url.host_str().unwrap_or("a substituter").to_owned(),
            Place::Folder(path) => path.display().to_string(),
        }
    }

    /// Returns whether it has failed too often.
    pub(super) fn is_given_up(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// Returns whether it has the path of `info` with the same content. None if it does not answer.
    pub(super) async fn has(&self, client: Option<&Client>, info: &PathInfo, patience: Duration) -> Option<bool> {
        self.ask(client, &info.path, patience, |text| narinfo::is_of(text, info)).await
    }

    /// Returns whether it has a path with any content. None if it does not answer.
    pub(super) async fn has_any(&self, client: Option<&Client>, path: &StorePath, patience: Duration) -> Option<bool> {
        self.ask(client, path, patience, |text| narinfo::is_of_path(text, path)).await
    }

    async fn ask(
        &self,
        client: Option<&Client>,
        path: &StorePath,
        patience: Duration,
        is_it: impl Fn(&str) -> bool,
    ) -> Option<bool> {
        let name = format!("{}.narinfo", path.hash_part());
        let text = match (&self.place, client) {
            (Place::Http(url), Some(client)) => get(client, url.join(&name).ok()?, patience).await,
            (Place::Http(_), None) => Err("HTTPS is not available".to_owned()),
            (Place::Folder(folder), _) => read(folder.join(name)).await,
        };
        match text {
            Ok(text) => {
                self.failures.store(0, Ordering::Relaxed);
                Some(text.is_some_and(|text| is_it(&text)))
            }
            Err(why) => {
                let count = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::debug!("{} does not answer for {path}: {why}", self.describe());
                if count == FAILURES {
                    tracing::warn!(
                        "The substituter {} failed {FAILURES} times in a row ({why}). It is not queried any more, and its \
                         paths count as absent.",
                        self.describe()
                    );
                }
                None
            }
        }
    }
}

/// Fetches the text at `url`; None if there is none.
async fn get(client: &Client, url: Url, patience: Duration) -> Result<Option<String>, String> {
    let mut tries = 1;
    loop {
        let answer = match tokio::time::timeout(patience, get_once(client, url.clone())).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Passing(format!("no answer within {} s", patience.as_secs_f32()))),
        };
        match answer {
            Ok(text) => return Ok(text),
            Err(Failure::Passing(_)) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(Failure::Passing(why) | Failure::Lasting(why)) => return Err(why),
        }
    }
}

enum Failure {
    /// A retry may help.
    Passing(String),
    /// A retry does not help.
    Lasting(String),
}

async fn get_once(client: &Client, url: Url) -> Result<Option<String>, Failure> {
    // The address may contain a password.
    let passing = |error: reqwest::Error| Failure::Passing(error.without_url().to_string());
    let response = client.get(url).send().await.map_err(passing)?;
    match response.status() {
        StatusCode::OK => {}
        // A bucket without list permission answers 403 for absent objects; Nix treats 401 in the same way.
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => return Ok(None),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::Passing(format!("it answers {status}")));
        }
        status => return Err(Failure::Lasting(format!("it answers {status}"))),
    }
    let text = body(response, MAX_ANSWER).await.map_err(|error| match error {
        BodyError::Broken(error) => passing(error),
        BodyError::TooLarge(_) => Failure::Lasting("its answer is not a narinfo".to_owned()),
    })?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

async fn read(path: PathBuf) -> Result<Option<String>, String> {
    let read = tokio::task::spawn_blocking(move || read_text(&path, MAX_ANSWER as u64));
    match read.await.map_err(|error| error.to_string())? {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_nix_does() {
        let join = |address: &str| match Substituter::parse(address)?.place {
            Place::Http(url) => Some(url.join("x.narinfo").unwrap().to_string()),
            Place::Folder(path) => Some(path.join("x.narinfo").display().to_string()),
        };
        for (address, expected) in [
            ("https://cache.example.org", Some("https://cache.example.org/x.narinfo")),
            ("https://cache.example.org/", Some("https://cache.example.org/x.narinfo")),
            ("http://h:8080/a/b?priority=30&trusted=1", Some("http://h:8080/a/b/x.narinfo")),
            ("file:///srv/my%20cache", Some("/srv/my cache/x.narinfo")),
            ("s3://bucket", None),
            ("ssh://host", None),
            ("auto", None),
        ] {
            assert_eq!(join(address).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let substituter = Substituter::parse("https://me:secret@cache.example.org/").unwrap();
        assert_eq!(substituter.describe(), "cache.example.org");
    }
}
