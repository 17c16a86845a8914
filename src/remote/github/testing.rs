//! Servers on loopback for the tests of this folder, and a remote with short delays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use secrecy::SecretString;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{CacheMode, GithubConfig, GithubRemote, Tuning};

/// Starts a server that runs as long as the test's runtime, and returns its base address.
pub(in crate::remote) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// An answer with these headers and this body.
pub(in crate::remote) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// Delays of milliseconds, so that a test sees every one of them pass.
pub(in crate::remote) fn quick() -> Tuning {
    let short = Duration::from_millis(2);
    Tuning {
        rpc_timeout: Duration::from_secs(5),
        rpc_tries: 5,
        rpc_delay: short,
        find_patience: Duration::from_millis(300),
        put_patience: Duration::from_millis(300),
        finalize_delay: short,
        creation_interval: short,
        stall: Duration::from_millis(400),
        upload_stall: Duration::from_millis(400),
        blob_delay: short,
        progress: 1,
        ..Tuning::default()
    }
}

/// The token that the remotes of the tests have.
pub(in crate::remote) const TOKEN: &str = "eyJhbGciOiJ9.eyJhYyI6IiJ9.tokensecret";

/// A remote that asks the service at `base`.
pub(in crate::remote) fn remote(base: &str, mode: CacheMode, tuning: Tuning) -> GithubRemote {
    let config = GithubConfig {
        results_url: base.parse().unwrap(),
        token: SecretString::from(TOKEN),
        mode,
        rest: None,
        ca_file: None,
        tuning: Tuning::default(),
    };
    GithubRemote::with_tuning(config, tuning).unwrap()
}

/// What a server saw, in order.
#[derive(Clone, Default)]
pub(in crate::remote) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(in crate::remote) fn add(&self, what: impl Into<String>) -> usize {
        let mut seen = self.0.lock().unwrap();
        seen.push(what.into());
        seen.len()
    }

    pub(in crate::remote) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(in crate::remote) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A cache service that answers with `reply`, which gets the method, the request and the number of earlier requests. Every
/// request is recorded as `<method> <key>` and checked for the required form.
pub(in crate::remote) fn service<R>(seen: Seen, reply: R) -> Router
where
    R: Fn(&str, &Value, usize) -> Response<Body> + Clone + Send + Sync + 'static,
{
    let handler = move |Path(method): Path<String>, headers: HeaderMap, Json(request): Json<Value>| async move {
        assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"));
        assert_eq!(request["version"].as_str().unwrap().len(), 64);
        let before = seen.add(format!("{method} {}", request["key"].as_str().unwrap())) - 1;
        reply(&method, &request, before)
    };
    Router::new().route("/twirp/github.actions.results.api.v1.CacheService/{method}", post(handler))
}

/// The answer 200 with this JSON.
pub(in crate::remote) fn json(value: &Value) -> Response<Body> {
    answer(200, &[("content-type", "application/json")], value.to_string())
}

/// A body that ends with a connection error after `bytes`.
pub(in crate::remote) fn cut(bytes: &[u8]) -> Body {
    let pieces = [Ok(Bytes::copy_from_slice(bytes)), Err(std::io::Error::other("cut"))];
    // A pause between the two, or the server drops the connection before anything is sent.
    Body::from_stream(stream::iter(pieces).then(|piece| async {
        tokio::time::sleep(Duration::from_millis(if piece.is_err() { 20 } else { 0 })).await;
        piece
    }))
}

/// A body that stalls after `bytes`.
pub(in crate::remote) fn stuck(bytes: &[u8]) -> Body {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(bytes))]);
    Body::from_stream(first.chain(stream::pending()))
}
