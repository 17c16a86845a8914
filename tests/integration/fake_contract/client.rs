//! A client without any cleverness: every request is made once and its answer is shown as it is.

use std::sync::Once;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::fake::{Fake, FakeConfig, Scope};

/// A version, which is always 64 characters.
pub(crate) const VERSION: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The scope of the default token.
pub(crate) const MAIN: &str = "refs/heads/main";

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON; null if it is something else.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A fake and a client for it.
pub(crate) struct Client {
    pub fake: Fake,
    pub http: reqwest::Client,
    pub token: String,
}

impl Client {
    /// A client of a new fake with GitHub's limits.
    pub(crate) fn new() -> Self {
        Self::with(FakeConfig::default())
    }

    /// A client of a new fake.
    pub(crate) fn with(config: FakeConfig) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Another test of the same binary may have been first.
            rustls::crypto::ring::default_provider().install_default().ok();
        });
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without options can be built");
        let fake = Fake::start(config);
        let token = fake.token(&[Scope::read_write(MAIN)]);
        Self { fake, http, token }
    }

    /// From now on with a token of these scopes.
    pub(crate) fn act_as(&mut self, scopes: &[Scope]) {
        self.token = self.fake.token(scopes);
    }

    /// The address of a remote call.
    pub(crate) fn call_url(&self, method: &str) -> String {
        format!("{}/twirp/github.actions.results.api.v1.CacheService/{method}", self.fake.url())
    }

    /// Makes a request, which must get an answer.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.expect("the fake answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.expect("the answer is whole") }
    }

    /// Makes a remote call.
    pub(crate) async fn call(&self, method: &str, body: &Value) -> Reply {
        self.send(self.http.post(self.call_url(method)).bearer_auth(&self.token).json(body)).await
    }

    /// Reserves a key, which must be free, and returns the signed address.
    pub(crate) async fn create(&self, key: &str) -> String {
        let reply = self.call("CreateCacheEntry", &json!({ "key": key, "version": VERSION })).await;
        assert_eq!(reply.json()["ok"], true, "{}", reply.text());
        reply.json()["signed_upload_url"].as_str().unwrap_or_default().to_owned()
    }

    /// Uploads a blob in one request.
    pub(crate) async fn put_blob(&self, url: &str, bytes: impl Into<reqwest::Body>) -> Reply {
        self.send(self.http.put(url).header("x-ms-blob-type", "BlockBlob").body(bytes)).await
    }

    /// Uploads one block.
    pub(crate) async fn put_block(&self, url: &str, id: &str, bytes: impl Into<reqwest::Body>) -> Reply {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        self.send(self.http.put(format!("{url}&comp=block&blockid={id}")).body(bytes)).await
    }

    /// Commits blocks in this order.
    pub(crate) async fn put_block_list(&self, url: &str, ids: &[String]) -> Reply {
        let list = ids.join("</Latest><Latest>");
        let head = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";
        let xml = format!("{head}<BlockList><Latest>{list}</Latest></BlockList>");
        self.send(self.http.put(format!("{url}&comp=blocklist")).body(xml)).await
    }

    /// Finalizes an upload.
    pub(crate) async fn finalize(&self, key: &str, size: u64) -> Reply {
        let body = json!({ "key": key, "version": VERSION, "size_bytes": size.to_string() });
        self.call("FinalizeCacheEntryUpload", &body).await
    }

    /// Stores an entry.
    pub(crate) async fn save(&self, key: &str, bytes: &[u8]) {
        let url = self.create(key).await;
        assert_eq!(self.put_blob(&url, bytes.to_vec()).await.status, 201);
        let reply = self.finalize(key, bytes.len() as u64).await;
        assert_eq!(reply.json()["ok"], true, "{}", reply.text());
    }

    /// Looks keys up.
    pub(crate) async fn lookup(&self, key: &str, restore_keys: &[&str]) -> Reply {
        let body = json!({ "key": key, "restore_keys": restore_keys, "version": VERSION });
        self.call("GetCacheEntryDownloadURL", &body).await
    }

    /// The key that a lookup finds; none for a miss.
    pub(crate) async fn found(&self, key: &str, restore_keys: &[&str]) -> Option<String> {
        let reply = self.lookup(key, restore_keys).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let body = reply.json();
        (body["ok"] == true).then(|| body["matched_key"].as_str().unwrap_or_default().to_owned())
    }

    /// The signed address of an entry, which must be there.
    pub(crate) async fn download_url(&self, key: &str) -> String {
        let reply = self.lookup(key, &[]).await;
        assert_eq!(reply.json()["matched_key"], key, "{}", reply.text());
        reply.json()["signed_download_url"].as_str().unwrap_or_default().to_owned()
    }

    /// The bytes of an entry, or a range of them.
    pub(crate) async fn get(&self, url: &str, range: Option<&str>) -> Reply {
        let request = self.http.get(url);
        self.send(match range {
            Some(range) => request.header("range", range),
            None => request,
        })
        .await
    }
}

/// A block id in the form of the JavaScript SDK: 48 bytes in base64.
pub(crate) fn block_id(index: u32) -> String {
    STANDARD.encode(format!("5f0e1d2c-3b4a-4988-8776-655443322110{index:012}"))
}

/// Bytes that differ from place to place.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
