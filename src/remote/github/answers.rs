//! Interprets the answers of the cache service. The statuses, codes and messages are those of the service and of the official
//! client (`@actions/cache` 6.3.0).

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::redact::{excerpt, redact};
use crate::remote::RemoteError;

/// Longest pause requested by a server that is respected.
const MAX_RETRY_AFTER: u64 = 3600;

/// Why a request failed, according to one answer or its absence.
#[derive(Debug)]
pub(super) enum AnswerError {
    /// The name is already reserved or stored.
    Taken,
    /// The service does not know the object of the request.
    Missing(String),
    /// Too many requests, possibly with the time to wait.
    Throttled(Option<Duration>),
    /// A retry may help.
    Again(String),
    /// A retry does not help.
    Refused(Refusal),
}

/// A final refusal, and its scope.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub kind: RefusalKind,
    pub text: String,
    pub reach: Reach,
}

/// The error that a refusal becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalKind {
    Denied,
    Refused,
    Quota,
    Failed,
}

/// The requests that a refusal applies to, besides the refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Nothing,
    Reads,
    Writes,
    Everything,
}

impl From<Refusal> for RemoteError {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            RefusalKind::Denied => Self::Denied(refusal.text),
            RefusalKind::Refused => Self::Refused(refusal.text),
            RefusalKind::Quota => Self::Quota(refusal.text),
            RefusalKind::Failed => Self::Failed(refusal.text),
        }
    }
}

impl Refusal {
    /// The refusal when no cache service of version 2 answers.
    pub(super) fn unavailable(what: &str) -> Self {
        let text = format!(
            "No usable cache service (v2) answers at ACTIONS_RESULTS_URL: {what}. This step continues without the cache. If \
            this happens in every job, check for a proxy, or for a server without cache service v2."
        );
        Self { kind: RefusalKind::Refused, text, reach: Reach::Everything }
    }

    pub(super) fn failed(text: String) -> Self {
        Self { kind: RefusalKind::Failed, text, reach: Reach::Nothing }
    }
}

/// Recognises a refusal by the fixed text of its message, whatever its status.
pub(super) fn refusal_in(message: &str) -> Option<Refusal> {
    let message = redact(message);
    if message.contains("cache write denied:") {
        let text = format!(
            "GitHub does not let this job write to the cache ({message}). Nothing more is saved in this job; runs of \
             trusted events, such as a push to the default branch, can save."
        );
        Some(Refusal { kind: RefusalKind::Denied, text, reach: Reach::Writes })
    } else if message.contains("cache read denied:") {
        let text = format!(
            "GitHub does not let this job read the cache ({message}). Everything is a miss in this job; see its \
             `cache-mode:` and the event that started it."
        );
        Some(Refusal { kind: RefusalKind::Refused, text, reach: Reach::Reads })
    } else if message.contains("insufficient usage") {
        let text = format!(
            "GitHub stores nothing more for this repository ({message}). Nothing more is saved in this job; check \
             the cache storage and the budget in its settings."
        );
        Some(Refusal { kind: RefusalKind::Quota, text, reach: Reach::Writes })
    } else {
        None
    }
}

/// The body of a Twirp error. Some servers call the text `message`.
#[derive(Deserialize)]
struct TwirpError {
    code: String,
    #[serde(default, alias = "message")]
    msg: String,
}

/// Interprets an answer other than 200. `spoken` says whether this server has answered as a cache service before.
pub(super) fn trouble(status: StatusCode, headers: &HeaderMap, body: &[u8], spoken: bool) -> AnswerError {
    let twirp: Option<TwirpError> = serde_json::from_slice(body).ok();
    let said = twirp.as_ref().map_or_else(|| excerpt(body), |error| redact(&error.msg));
    if let Some(refusal) = refusal_in(&said) {
        return AnswerError::Refused(refusal);
    }
    let what = format!("it answered {status}, {said:?}");
    match (status.as_u16(), twirp.as_ref().map(|error| &*error.code)) {
        (401, _) => AnswerError::Refused(Refusal {
            kind: RefusalKind::Refused,
            text: format!(
                "GitHub's cache service does not accept the runtime token ({said:?}): the token expired, after about \
                 six hours. Nothing more is cached in this job; make it shorter or split it."
            ),
            reach: Reach::Everything,
        }),
        (429, _) | (_, Some("resource_exhausted")) => AnswerError::Throttled(retry_after(headers)),
        (408 | 500.., _) => AnswerError::Again(what),
        (_, Some("bad_route")) => AnswerError::Refused(Refusal::unavailable(&what)),
        // A gateway or a proxy in between: the problem may be temporary.
        (_, None) if !spoken => AnswerError::Again(what),
        (409, _) | (_, Some("already_exists")) => AnswerError::Taken,
        (404, _) | (_, Some("not_found")) => AnswerError::Missing(what),
        (403, _) => AnswerError::Refused(Refusal {
            kind: RefusalKind::Refused,
            text: format!(
                "GitHub's cache service does not allow this request: {what}. See the `cache-mode:` of the job."
            ),
            reach: Reach::Nothing,
        }),
        _ => AnswerError::Refused(Refusal::failed(format!("GitHub's cache service refuses this request: {what}."))),
    }
}

/// Returns how long an answer asks us to wait. GitHub sends whole seconds; the other form, a date, is not supported.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: u16, body: &str, spoken: bool) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "18".parse().unwrap());
        match trouble(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), spoken) {
            AnswerError::Taken => "taken".into(),
            AnswerError::Missing(_) => "missing".into(),
            AnswerError::Throttled(time) => format!("throttled {time:?}"),
            AnswerError::Again(_) => "again".into(),
            AnswerError::Refused(refusal) => format!("{:?} for {:?}", refusal.kind, refusal.reach),
        }
    }

    #[test]
    fn every_answer_has_its_meaning() {
        // Status, body, and their interpretation for a service that has answered before.
        for (status, body, meaning) in [
            (400, r#"{"code":"invalid_argument","msg":"version must be 64"}"#, "Failed for Nothing"),
            (401, r#"{"code":"unauthenticated","msg":"expired"}"#, "Refused for Everything"),
            (401, "", "Refused for Everything"),
            (403, r#"{"code":"permission_denied","msg":"cache read denied: no scope"}"#, "Refused for Reads"),
            (403, r#"{"code":"permission_denied","msg":"cache write denied: no scope"}"#, "Denied for Writes"),
            (403, r#"{"code":"permission_denied","msg":"no"}"#, "Refused for Nothing"),
            (404, r#"{"code":"bad_route","msg":"no handler"}"#, "Refused for Everything"),
            (404, r#"{"code":"not_found","msg":"no entry"}"#, "missing"),
            (404, "<html>", "missing"),
            (408, "", "again"),
            (409, r#"{"code":"already_exists","msg":"same key"}"#, "taken"),
            (409, "", "taken"),
            (429, r#"{"code":"resource_exhausted","msg":"rate limit exceeded"}"#, "throttled Some(18s)"),
            (402, r#"{"code":"x","message":"insufficient usage to serve"}"#, "Quota for Writes"),
            (500, r#"{"code":"internal","msg":"oops"}"#, "again"),
            (502, "<html>bad gateway", "again"),
            (503, "", "again"),
            (302, "", "Failed for Nothing"),
        ] {
            assert_eq!(seen(status, body, true), meaning, "{status} {body}");
        }
    }

    #[test]
    fn a_page_of_a_stranger_says_nothing() {
        for (status, body) in [(404, "<html>not here</html>"), (404, ""), (403, "<html>proxy"), (302, ""), (405, "no")]
        {
            assert_eq!(seen(status, body, false), "again", "{status} {body}");
        }
        assert_eq!(seen(404, r#"{"code":"not_found","msg":""}"#, false), "missing");
        assert_eq!(seen(503, "<html>", false), "again");
        assert_eq!(seen(429, "", false), "throttled Some(18s)");
    }

    #[test]
    fn secrets_in_a_message_do_not_come_through() {
        let body = br#"{"code":"invalid_argument","msg":"bad url https://b.test/x?sig=verysecret&se=1"}"#;
        let trouble = trouble(StatusCode::BAD_REQUEST, &HeaderMap::new(), body, true);
        assert!(!format!("{trouble:?}").contains("verysecret"), "{trouble:?}");
    }
}
