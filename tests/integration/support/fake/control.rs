//! The addresses under `/_fake/`, with which tests in another process steer the fake.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::Fault;
use super::operation::Call;
use super::service::Service;
use super::token::Scope;
use super::twirp::answer;

/// Where the control addresses start.
pub(super) const CONTROL: &str = "/_fake/";

#[derive(Deserialize)]
struct Advance {
    seconds: u64,
}

#[derive(Deserialize)]
struct Lag {
    milliseconds: u64,
}

#[derive(Deserialize)]
struct TokenRequest {
    scopes: Vec<Scope>,
    #[serde(default)]
    valid_seconds: Option<u64>,
}

/// Answers a request to a control address.
pub(super) async fn serve(service: &Service, call: &Call, body: Body) -> Response {
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    match handle(service, call, &body) {
        Ok(value) => answer(StatusCode::OK, &value),
        Err(why) => answer(StatusCode::BAD_REQUEST, &json!({ "error": why })),
    }
}

fn handle(service: &Service, call: &Call, body: &[u8]) -> Result<Value, String> {
    let name = call.path.strip_prefix(CONTROL).unwrap_or_default();
    match (call.method.as_str(), name) {
        ("GET", "stats") => return Ok(json!(service.snapshot())),
        ("GET", "entries") => return Ok(json!(service.state().all())),
        ("POST", "token") => return token(service, body),
        ("POST", "fault") => service.faults().add(parse::<Fault>(body)?),
        ("DELETE", "fault") => service.faults().clear(),
        ("POST", "advance") => service.clock.advance(Duration::from_secs(parse::<Advance>(body)?.seconds)),
        ("POST", "lag") => service.set_lookup_lag(Duration::from_millis(parse::<Lag>(body)?.milliseconds)),
        (method, _) => return Err(format!("The fake has no control address {method} {}.", call.path)),
    }
    Ok(json!({ "ok": true }))
}

fn token(service: &Service, body: &[u8]) -> Result<Value, String> {
    let request: TokenRequest = parse(body)?;
    let valid = Duration::from_secs(request.valid_seconds.unwrap_or(6 * 3600));
    let repository = service.config.repository_id;
    Ok(json!({ "token": service.mint.runtime(&request.scopes, repository, service.clock.now(), valid) }))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("The body of the request is not understood: {error}."))
}
