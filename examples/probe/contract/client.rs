//! Sends each request once, and reads its answer.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix_cache::base::http;
use nix_cache::remote::github::{GithubConfig, redact};
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

const SERVICE: &str = "/twirp/github.actions.results.api.v1.CacheService/";
/// Versions are opaque, and always 64 characters.
pub(super) const VERSION: &str = "6e69782d63616368652070726f6265203120202020202020202020202020202d";

/// An answer is read up to here. All that the prober stores is smaller.
const MAX_ANSWER: usize = 1 << 20;
/// How many characters of an answer that is not JSON a row shows.
const EXCERPT: usize = 300;

/// How often a stored entry is looked up, and how far apart: lookups lag behind.
const LOOKS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(500);

/// An answer. With status 0 none came, and the body says why.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub milliseconds: u128,
}

impl Reply {
    /// The body as JSON; null if it is not JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A field of the JSON as text; empty if it is not there.
    pub(super) fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_default().to_owned()
    }

    /// A header; empty if it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The word for an error: of Twirp's JSON, or of blob storage.
    pub(super) fn code(&self) -> String {
        let code = self.text("code");
        if code.is_empty() { self.header("x-ms-error-code").to_owned() } else { code }
    }

    /// The answer in one line, without signed addresses.
    pub(super) fn describe(&self) -> String {
        let (code, mut json) = (self.header("x-ms-error-code"), self.json());
        for field in ["signed_upload_url", "signed_download_url"] {
            if let Some(address) =
                json.get_mut(field).filter(|address| address.as_str().is_some_and(|url| !url.is_empty()))
            {
                *address = "(an address)".into();
            }
        }
        let body = if json.is_null() { excerpt(&self.body) } else { excerpt(json.to_string().as_bytes()) };
        format!("{} {code} {body}", self.status).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A client of one service.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: SecretString,
    nonce: String,
    patience: AtomicU32,
}

impl Client {
    pub(super) fn new(config: &GithubConfig, nonce: &str) -> Result<Self, String> {
        let http = http::client(config.ca_file.as_deref()).map_err(|error| error.to_string())?;
        Ok(Self {
            http,
            base: config.results_url.clone(),
            token: config.token.clone(),
            nonce: nonce.to_owned(),
            patience: AtomicU32::new(LOOKS),
        })
    }

    /// A key that nobody has used.
    pub(super) fn key(&self, name: &str) -> String {
        format!("nix-cache-probe-{}-{name}", self.nonce)
    }

    async fn send(request: RequestBuilder) -> Reply {
        let start = Instant::now();
        let sent = async {
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok((status, headers, body(response).await?))
        };
        let (status, headers, body) = sent
            .await
            .unwrap_or_else(|error: reqwest::Error| (0, HeaderMap::new(), chain(&error.without_url()).into()));
        Reply { status, headers, body, milliseconds: start.elapsed().as_millis() }
    }

    fn method(&self, method: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{SERVICE}{method}"));
        self.http.post(url)
    }

    pub(super) async fn call(&self, method: &str, body: &Value) -> Reply {
        Self::send(self.method(method).bearer_auth(self.token.expose_secret()).json(body)).await
    }

    pub(super) async fn call_without_token(&self, method: &str, body: &Value) -> Reply {
        Self::send(self.method(method).json(body)).await
    }

    pub(super) async fn create(&self, key: &str) -> Reply {
        self.call("CreateCacheEntry", &json!({ "key": key, "version": VERSION })).await
    }

    pub(super) async fn finalize(&self, key: &str, size: usize) -> Reply {
        let body = json!({ "key": key, "version": VERSION, "size_bytes": size.to_string() });
        self.call("FinalizeCacheEntryUpload", &body).await
    }

    pub(super) async fn lookup(&self, key: &str, restore_keys: &[&str]) -> Reply {
        let body = json!({ "key": key, "restore_keys": restore_keys, "version": VERSION });
        self.call("GetCacheEntryDownloadURL", &body).await
    }

    /// Looks the entry up until it is found; false when it is not. After the first one that is not found, the next ones are
    /// looked up only once.
    pub(super) async fn wait_for(&self, key: &str) -> bool {
        for _ in 0..self.patience.load(Ordering::Relaxed) {
            if self.lookup(key, &[key]).await.text("matched_key") == key {
                return true;
            }
            tokio::time::sleep(BETWEEN).await;
        }
        self.patience.store(1, Ordering::Relaxed);
        false
    }

    /// Stores an entry, whatever the answers are.
    pub(super) async fn save(&self, key: &str, bytes: &'static [u8]) {
        let url = self.create(key).await.text("signed_upload_url");
        self.put_blob(&url, bytes).await;
        self.finalize(key, bytes.len()).await;
    }

    pub(super) async fn put_blob(&self, url: &str, bytes: &'static [u8]) -> Reply {
        Self::send(self.http.put(url).header("x-ms-blob-type", "BlockBlob").body(bytes)).await
    }

    pub(super) async fn put_without_type(&self, url: &str, bytes: &'static [u8]) -> Reply {
        Self::send(self.http.put(url).body(bytes)).await
    }

    pub(super) async fn put_block(&self, url: &str, id: &str, bytes: &'static [u8]) -> Reply {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        Self::send(self.http.put(format!("{url}&comp=block&blockid={id}")).body(bytes)).await
    }

    pub(super) async fn put_block_list(&self, url: &str, ids: &[&str]) -> Reply {
        let latest: String = ids.iter().flat_map(|id| ["<Latest>", id, "</Latest>"]).collect();
        let xml = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{latest}</BlockList>");
        Self::send(self.http.put(format!("{url}&comp=blocklist")).body(xml)).await
    }

    pub(super) async fn get(&self, url: &str) -> Reply {
        Self::send(self.http.get(url)).await
    }

    pub(super) async fn get_range(&self, url: &str, range: &str) -> Reply {
        Self::send(self.http.get(url).header("range", range)).await
    }

    pub(super) async fn head(&self, url: &str) -> Reply {
        Self::send(self.http.head(url)).await
    }
}

/// The beginning of the body, up to [`MAX_ANSWER`].
async fn body(mut response: Response) -> reqwest::Result<Bytes> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece[..piece.len().min(MAX_ANSWER - body.len())]);
        if body.len() == MAX_ANSWER {
            break;
        }
    }
    Ok(body.into())
}

/// The beginning of an answer as text, without secrets.
fn excerpt(answer: &[u8]) -> String {
    redact(&String::from_utf8_lossy(answer)).chars().take(EXCERPT).collect()
}

/// An error and its causes in one line, without secrets.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    redact(&text)
}
