//! The three remote calls of the cache service, in JSON.

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::artifacts;
use super::clock::millis;
use super::faults::Stage;
use super::operation::{Call, Operation};
use super::sas;
use super::service::Service;
use super::state::{NotFinalized, Place, Search};
use super::token::Claims;

const LARGEST_MESSAGE: usize = 1 << 20;

/// What the service says when a token may write nowhere.
pub(super) const WRITE_DENIED: &str = "cache write denied: token has no writable scopes";
/// What the service says when a token may read nowhere.
pub(super) const READ_DENIED: &str = "cache read denied: token has no readable scopes";

/// An error in the form of Twirp.
#[derive(Debug)]
pub(super) struct TwirpError {
    status: u16,
    code: &'static str,
    message: String,
    retry_after: Option<u64>,
}

impl TwirpError {
    /// An error with Twirp's own code for it.
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// Too many requests; the next is welcome in `seconds`.
    pub(super) fn throttled(seconds: u64) -> Self {
        let mut error = Self::new(429, "resource_exhausted", "rate limit exceeded");
        error.retry_after = Some(seconds);
        error
    }

    /// No such method, or a form that the service does not speak.
    pub(super) fn bad_route(call: &Call) -> Self {
        Self::new(404, "bad_route", format!("no handler for path \"{}\"", call.path))
    }
}

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = answer(status, &json!({ "code": self.code, "msg": self.message }));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        response
    }
}

/// A JSON answer.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("the headers are plain text")
}

#[derive(Deserialize)]
struct CreateRequest {
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct FinalizeRequest {
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
    #[serde(default, alias = "sizeBytes", deserialize_with = "int64")]
    size_bytes: i64,
}

#[derive(Deserialize)]
struct LookupRequest {
    #[serde(default)]
    key: String,
    #[serde(default, alias = "restoreKeys")]
    restore_keys: Vec<String>,
    #[serde(default)]
    version: String,
}

/// Carries a remote call out.
///
/// # Errors
/// The answer in Twirp's form.
pub(super) async fn serve(service: &Service, call: &Call, body: Body) -> Result<Response, TwirpError> {
    let kind = call.header("content-type").unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(TwirpError::new(404, "bad_route", format!("unexpected Content-Type: \"{kind}\"")));
    }
    let claims = service
        .mint
        .claims(&call.headers, service.clock.now())
        .map_err(|why| TwirpError::new(401, "unauthenticated", why))?;
    let body = to_bytes(body, LARGEST_MESSAGE)
        .await
        .map_err(|_| TwirpError::new(400, "malformed", "the body is cut or too large"))?;
    let reply = match call.operation {
        Operation::Create => create(service, &claims, &parse(&body)?)?,
        Operation::Finalize => finalize(service, &claims, &parse(&body)?)?,
        Operation::Lookup => lookup(service, &claims, &parse(&body)?)?,
        Operation::CreateArtifact => artifacts::create(service, &parse(&body)?)?,
        Operation::FinalizeArtifact => artifacts::finalize(service, &parse(&body)?)?,
        Operation::ListArtifacts => artifacts::list(service, &parse(&body)?)?,
        Operation::SignArtifact => artifacts::signed(service, &parse(&body)?)?,
        _ => return Err(TwirpError::bad_route(call)),
    };
    Ok(answer(StatusCode::OK, &reply))
}

fn create(service: &Service, claims: &Claims, request: &CreateRequest) -> Result<Value, TwirpError> {
    check(&request.key, &request.version)?;
    let Some(scope) = claims.writable() else {
        return Ok(json!({ "ok": false, "signed_upload_url": "", "message": WRITE_DENIED }));
    };
    let now = service.clock.now();
    let blob = service.new_blob_name();
    let place = Place { repository: claims.repository, scope, key: &request.key, version: &request.version };
    {
        let mut state = service.state();
        let window = state.creations.entry(claims.repository).or_default();
        window.admit(now, service.config.creations_per_minute).map_err(TwirpError::throttled)?;
        state.reserve(place, &blob, now).ok_or_else(|| {
            let message = "cache entry with the same key, version, and scope already exists";
            TwirpError::new(409, "already_exists", message)
        })?;
    }
    service.blobs.open(&blob);
    service.stats.created();
    let url = sas::sign(&service.mint, &service.blob_base, &blob, "cw", now + millis(service.config.upload_life));
    Ok(json!({ "ok": true, "signed_upload_url": url, "message": "" }))
}

fn finalize(service: &Service, claims: &Claims, request: &FinalizeRequest) -> Result<Value, TwirpError> {
    check(&request.key, &request.version)?;
    if request.size_bytes < 1 {
        return Err(TwirpError::new(400, "invalid_argument", "size_bytes must be at least 1"));
    }
    let Some(scope) = claims.writable() else {
        return Ok(json!({ "ok": false, "entry_id": "0", "message": WRITE_DENIED }));
    };
    let size = request.size_bytes as u64;
    let place = Place { repository: claims.repository, scope, key: &request.key, version: &request.version };
    let finalized = {
        let mut state = service.state();
        let stored = state.blob(place).and_then(|blob| service.blobs.content(&blob)).map(|content| content.length);
        state.finalize(place, size, stored, service.config.quota, service.clock.now())
    };
    let finalized = finalized.map_err(|why| {
        TwirpError::new(
            404,
            "not_found",
            match why {
                NotFinalized::NoReservation => "no reservation for this key, version, and scope",
                NotFinalized::WrongSize => "no uploaded blob of this size",
            },
        )
    })?;
    service.blobs.remove(&finalized.evicted);
    Ok(json!({ "ok": true, "entry_id": finalized.id.to_string(), "message": "" }))
}

fn lookup(service: &Service, claims: &Claims, request: &LookupRequest) -> Result<Value, TwirpError> {
    check(&request.key, &request.version)?;
    let scopes = claims.readable();
    if scopes.is_empty() {
        return Err(TwirpError::new(403, "permission_denied", READ_DENIED));
    }
    let now = service.clock.now();
    let first = (!service.config.ignore_key).then_some(request.key.as_str());
    let keys: Vec<&str> = first.into_iter().chain(request.restore_keys.iter().map(String::as_str)).collect();
    let search = Search {
        repository: claims.repository,
        scopes: &scopes,
        keys: &keys,
        version: &request.version,
        settled: now.saturating_sub(service.lookup_lag()),
    };
    service.expire();
    let found = {
        let mut state = service.state();
        let window = state.downloads.entry(claims.repository).or_default();
        window.admit(now, service.config.downloads_per_minute).map_err(TwirpError::throttled)?;
        state.lookup(&search, now)
    };
    let Some(entry) = found else {
        return Ok(json!({ "ok": false, "signed_download_url": "", "matched_key": "" }));
    };
    if service.strike(Operation::Lookup, Stage::Work).is_some() {
        service.evict(entry.id);
    }
    let expires = now + millis(service.config.download_life);
    let url = sas::sign(&service.mint, &service.blob_base, &entry.blob, "r", expires);
    Ok(json!({ "ok": true, "signed_download_url": url, "matched_key": entry.key }))
}

fn check(key: &str, version: &str) -> Result<(), TwirpError> {
    if !(1..=512).contains(&key.chars().count()) {
        return Err(TwirpError::new(400, "invalid_argument", "key must be between 1 and 512 characters"));
    }
    if version.chars().count() != 64 {
        return Err(TwirpError::new(400, "invalid_argument", "version must be between 1 and 64 characters"));
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, TwirpError> {
    serde_json::from_slice(body).map_err(|_| TwirpError::new(400, "malformed", "the json request could not be decoded"))
}

/// A 64-bit number, which JSON carries as text or as a number.
pub(super) fn int64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Int64 {
        Number(i64),
        Text(String),
    }
    match Int64::deserialize(deserializer)? {
        Int64::Number(number) => Ok(number),
        Int64::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}
