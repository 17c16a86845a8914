//! The part of GitHub's REST interface that lists and removes caches.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::clock::rfc3339;
use super::operation::{Call, Operation};
use super::runs;
use super::service::Service;
use super::state::Entry;
use super::token::RestPermission;
use super::twirp::answer;

/// An error in the form of the REST interface.
#[derive(Debug)]
pub(super) struct RestError {
    status: StatusCode,
    message: &'static str,
}

impl RestError {
    /// An error with a message.
    pub(super) fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message }
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        let status = self.status.as_u16().to_string();
        let page = "https://docs.github.com/rest/actions/cache";
        answer(self.status, &json!({ "message": self.message, "documentation_url": page, "status": status }))
    }
}

/// Carries a REST request out.
///
/// # Errors
/// The answer in the form of the interface.
pub(super) fn serve(service: &Service, call: &Call, body: &[u8]) -> Result<Response, RestError> {
    let permission = service
        .mint
        .rest_permission(&call.headers)
        .ok_or_else(|| RestError::new(StatusCode::UNAUTHORIZED, "Bad credentials"))?;
    let needed = match call.operation {
        Operation::Delete => RestPermission::Write,
        _ => RestPermission::Read,
    };
    let parts: Vec<&str> = call.path.split('/').skip(2).collect();
    if !format!("{}/{}", parts[0], parts[1]).eq_ignore_ascii_case(&service.config.repository) {
        return Err(not_found());
    }
    if permission < needed {
        return Err(RestError::new(StatusCode::FORBIDDEN, "Resource not accessible by integration"));
    }
    if call.operation.is_of_runs() {
        return runs::serve(service, call, (&parts[2..], body));
    }
    service.expire();
    match (call.operation, parts.get(4)) {
        (Operation::List, _) => Ok(list(service, call)),
        (Operation::Delete, Some(id)) => delete_by_id(service, id),
        (Operation::Delete, None) => delete_by_key(service, call),
        _ => Ok(usage(service)),
    }
}

fn list(service: &Service, call: &Call) -> Response {
    let number = |name| call.query(name).and_then(|text| text.parse::<usize>().ok());
    let per_page = number("per_page").unwrap_or(30).clamp(1, 100);
    let page = number("page").unwrap_or(1).max(1);
    let (prefix, scope) = (call.query("key").unwrap_or_default(), call.query("ref"));
    let mut entries = ours(service);
    entries.retain(|entry| entry.key.starts_with(prefix) && scope.is_none_or(|scope| entry.scope == scope));
    entries.sort_by_key(|entry| match call.query("sort") {
        Some("created_at") => (entry.created, entry.id),
        Some("size_in_bytes") => (entry.size.unwrap_or_default(), entry.id),
        _ => (entry.accessed, entry.id),
    });
    if call.query("direction") != Some("asc") {
        entries.reverse();
    }
    let shown: Vec<Value> = entries.iter().skip((page - 1) * per_page).take(per_page).map(form).collect();
    let mut response = answer(StatusCode::OK, &json!({ "total_count": entries.len(), "actions_caches": shown }));
    if page * per_page < entries.len() {
        let next = link(service, call, page + 1);
        response.headers_mut().insert("link", next.parse().expect("an encoded address is a header value"));
    }
    response
}

/// The header that leads to a further page.
fn link(service: &Service, call: &Call, page: usize) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(call.query.iter().filter(|(name, _)| name != "page"));
    let query = query.append_pair("page", &page.to_string()).finish();
    format!("<{}{}?{query}>; rel=\"next\"", service.base, call.path)
}

fn delete_by_id(service: &Service, id: &str) -> Result<Response, RestError> {
    let id = id.parse::<u64>().map_err(|_| not_found())?;
    if remove(service, |entry| entry.id == id).is_empty() {
        return Err(not_found());
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn delete_by_key(service: &Service, call: &Call) -> Result<Response, RestError> {
    let key = call
        .query("key")
        .ok_or_else(|| RestError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid request: key is missing"))?;
    let scope = call.query("ref");
    let gone = remove(service, |entry| entry.key == key && scope.is_none_or(|scope| entry.scope == scope));
    if gone.is_empty() {
        return Err(not_found());
    }
    let gone: Vec<Value> = gone.iter().map(form).collect();
    Ok(answer(StatusCode::OK, &json!({ "total_count": gone.len(), "actions_caches": gone })))
}

fn usage(service: &Service) -> Response {
    let entries = ours(service);
    answer(
        StatusCode::OK,
        &json!({
            "full_name": service.config.repository,
            "active_caches_size_in_bytes": entries.iter().filter_map(|entry| entry.size).sum::<u64>(),
            "active_caches_count": entries.len(),
        }),
    )
}

fn ours(service: &Service) -> Vec<Entry> {
    let repository = service.config.repository_id;
    service.state().finalized().filter(|entry| entry.repository == repository).cloned().collect()
}

fn remove(service: &Service, which: impl Fn(&Entry) -> bool) -> Vec<Entry> {
    let repository = service.config.repository_id;
    let gone = service.state().remove(|entry| entry.repository == repository && which(entry));
    service.blobs.remove(gone.iter().map(|entry| &entry.blob));
    gone
}

fn form(entry: &Entry) -> Value {
    json!({
        "id": entry.id,
        "ref": entry.scope,
        "key": entry.key,
        "version": entry.version,
        "last_accessed_at": rfc3339(entry.accessed),
        "created_at": rfc3339(entry.created),
        "size_in_bytes": entry.size,
    })
}

pub(super) fn not_found() -> RestError {
    RestError::new(StatusCode::NOT_FOUND, "Not Found")
}

/// What a server of cache service v1 answers a lookup: no entry.
pub(super) fn version_1_miss() -> Response {
    Response::builder().status(StatusCode::NO_CONTENT).body(Body::empty()).expect("there are no headers")
}
