//! What faults answer in the place of a request's work, in the form of the interface that was asked.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::blobs::BlobError;
use super::connection::Cut;
use super::faults::{Fault, FaultName};
use super::operation::Call;
use super::rest::{RestError, version_1_miss};
use super::sas;
use super::twirp::{READ_DENIED, TwirpError, WRITE_DENIED, answer as json_answer};

/// The answer of a fault whose stage is [`super::faults::Stage::Answer`].
pub(super) async fn answer(fault: &Fault, call: &Call, cut: &Cut) -> Response {
    match fault.name {
        FaultName::Error => error(fault.status.unwrap_or(500), fault.retry_after, call),
        FaultName::Html => html(fault.status.unwrap_or(200)),
        FaultName::Throttle => error(429, fault.retry_after.or(Some(30)), call),
        FaultName::Unauthorized => error(401, None, call),
        FaultName::ReadDenied => TwirpError::new(403, "permission_denied", READ_DENIED).into_response(),
        FaultName::WriteDenied => {
            json_answer(StatusCode::OK, &json!({ "ok": false, "signed_upload_url": "", "message": WRITE_DENIED }))
        }
        FaultName::NotOk => json_answer(StatusCode::OK, &json!({ "ok": false })),
        FaultName::Quota => {
            let message = "insufficient usage to create artifact or cache: storage quota is used up";
            TwirpError::new(403, "permission_denied", message).into_response()
        }
        FaultName::NotFound => TwirpError::new(404, "not_found", "no uploaded blob of this size").into_response(),
        FaultName::BadRoute => TwirpError::bad_route(call).into_response(),
        FaultName::V1Only => version_1(call),
        FaultName::ExpiredUrl => sas::failed().into_response(),
        FaultName::Drop => {
            cut.now();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        FaultName::Hang => std::future::pending().await,
        FaultName::Redirect => Response::builder()
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header("location", "/elsewhere")
            .body(Body::empty())
            .expect("the headers are plain text"),
        FaultName::LostReply
        | FaultName::Vanish
        | FaultName::Cut
        | FaultName::Stall
        | FaultName::IgnoreRange
        | FaultName::Corrupt
        | FaultName::Truncate
        | FaultName::Shift
        | FaultName::Trickle => unreachable!("{:?} does not answer", fault.name),
    }
}

fn error(status: u16, retry_after: Option<u64>, call: &Call) -> Response {
    let mut response = if call.operation.is_blob() {
        BlobError::new(status, blob_code(status), "A fault of the fake.").into_response()
    } else if call.operation.is_rest() {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        RestError::new(status, "A fault of the fake.").into_response()
    } else {
        TwirpError::new(status, twirp_code(status), "a fault of the fake").into_response()
    };
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn twirp_code(status: u16) -> &'static str {
    match status {
        401 => "unauthenticated",
        403 => "permission_denied",
        404 => "not_found",
        408 | 504 => "deadline_exceeded",
        409 => "already_exists",
        429 => "resource_exhausted",
        502 | 503 => "unavailable",
        _ => "internal",
    }
}

fn blob_code(status: u16) -> &'static str {
    match status {
        401 | 403 => "AuthenticationFailed",
        404 => "BlobNotFound",
        429 | 503 => "ServerBusy",
        _ => "InternalError",
    }
}

fn html(status: u16) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::OK))
        .header("content-type", "text/html; charset=utf-8")
        .body(Body::from("<!DOCTYPE html><html><body><h1>Sign in to the proxy</h1></body></html>"))
        .expect("the headers are plain text")
}

fn version_1(call: &Call) -> Response {
    if call.path.starts_with("/_apis/artifactcache/cache") {
        return version_1_miss();
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}
