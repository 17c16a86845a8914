//! What the answers of an object store mean, and what the user can do about them.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::xml;
use crate::base::http::body;
use crate::remote::RemoteError;
use crate::remote::redact::redact;

/// Longest answer that only explains an error, in bytes, and the longest time to wait for it.
const MAX_EXPLANATION: usize = 64 << 10;
const EXPLANATION: Duration = Duration::from_secs(5);
/// Longest pause that a store can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// A retry may help, after this pause.
    Again(String, Duration),
    /// The signed address is too old. A new one helps, unless the clock is wrong.
    Expired(String),
    /// The object does not exist.
    Missing(String),
    /// The object has fewer bytes than requested.
    Short(String),
    /// The condition of the request does not hold.
    Taken,
    /// The same, after a try without an answer, which may be the reason.
    TakenLater,
    /// The store does not know the condition of the request.
    NoConditions(String),
    /// A retry does not help.
    Final(RemoteError),
}

/// An answer that is an error.
struct Said {
    status: StatusCode,
    code: String,
    message: String,
    pause: Duration,
    /// The region in which the store says that the bucket is.
    region: Option<String>,
}

/// Interprets an answer with an unexpected status. `place` names the bucket, `needs` the permission for the request.
pub(super) async fn fault(response: Response, place: &str, needs: &str) -> Fault {
    let (status, headers) = (response.status(), response.headers().clone());
    let read = tokio::time::timeout(EXPLANATION, body(response, MAX_EXPLANATION)).await;
    let text = read.ok().and_then(Result::ok).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    meaning(&said(status, &headers, &text.unwrap_or_default()), place, needs)
}

/// Interprets a body that contains an error although the status is 200, as the end of a multipart upload may.
pub(super) fn fault_in(text: &str, place: &str, needs: &str) -> Option<Fault> {
    let error = xml::elements(text, "Error").next()?;
    Some(meaning(&said(StatusCode::OK, &HeaderMap::new(), error), place, needs))
}

fn said(status: StatusCode, headers: &HeaderMap, text: &str) -> Said {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = header(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse().ok());
    Said {
        status,
        code: xml::text(text, "Code").map(|code| line(&code, 60)).unwrap_or_default(),
        message: xml::text(text, "Message").map(|message| line(&message, 200)).unwrap_or_default(),
        pause: seconds.map_or(Duration::ZERO, Duration::from_secs).min(LONGEST_PAUSE),
        region: header("x-amz-bucket-region")
            .map(str::to_owned)
            .or_else(|| xml::text(text, "Region"))
            .map(|region| line(&region, 60)),
    }
}

/// One redacted line of at most `most` characters.
fn line(text: &str, most: usize) -> String {
    let words = redact(text).split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(most).collect()
}

fn meaning(said: &Said, place: &str, needs: &str) -> Fault {
    let Said { status, code, message, pause, region } = said;
    let what = match (code.as_str(), message.as_str()) {
        ("", _) => format!("{place} answered {status}"),
        (code, "") => format!("{place} answered {} {code}", status.as_u16()),
        (code, message) => format!("{place} answered {} {code} ({})", status.as_u16(), message.trim_end_matches('.')),
    };
    let refused = |remedy: &str| Fault::Final(RemoteError::Refused(format!("{what}. {remedy}")));
    let is_expired = message.to_ascii_lowercase().contains("expired");
    match (code.as_str(), status.as_u16()) {
        ("PreconditionFailed", _) | ("", 412) => Fault::Taken,
        ("NotImplemented", _) | ("", 501) => Fault::NoConditions(what),
        (
            "SlowDown"
            | "ServiceUnavailable"
            | "InternalError"
            | "RequestTimeout"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "TooManyRequests"
            | "ThrottlingException"
            | "Throttling",
            _,
        )
        | (_, 408 | 409 | 429 | 500 | 502 | 503 | 504) => Fault::Again(what, *pause),
        ("NoSuchBucket", _) => refused("Create the bucket, or correct its name and `endpoint` in its address."),
        ("NoSuchKey" | "NoSuchVersion", _) | ("", 404 | 410) => Fault::Missing(what),
        ("InvalidRange", _) | ("", 416) => Fault::Short(what),
        ("RequestTimeTooSkewed", _) => refused(
            "The clock of this machine is wrong by more than 15 minutes. Set it (on a runner of your own, switch on NTP).",
        ),
        ("ExpiredToken" | "ExpiredTokenException", _) => refused(
            "The temporary credentials of this job have expired. Get new ones in a step before the save, or raise \
             `role-duration-seconds` of configure-aws-credentials.",
        ),
        ("AccessDenied" | "", 403) if is_expired => Fault::Expired(what),
        ("InvalidAccessKeyId" | "InvalidToken" | "InvalidClientTokenId", _) => refused(
            "The store does not know the credentials in AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN. Check that they belong to this \
             store, and that AWS_SESSION_TOKEN is not set with permanent keys.",
        ),
        ("SignatureDoesNotMatch", _) => refused(
            "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID, or `region` in its address is not that of the store, or a \
             proxy changes requests.",
        ),
        (
            "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError"
            | "PermanentRedirect"
            | "TemporaryRedirect",
            _,
        )
        | (_, 301 | 302 | 307 | 308) => match region {
            Some(region) => refused(&format!("The bucket is in another region: set `region={region}` in its address.")),
            None => refused("The bucket is somewhere else: correct `region` or `endpoint` in its address."),
        },
        ("AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "", 401 | 403) => refused(&format!(
            "The credentials in AWS_ACCESS_KEY_ID may not do this. Grant {needs} in the policy of the role or bucket (and \
             s3:ListBucket, without which missing objects look forbidden)."
        )),
        ("EntityTooLarge" | "QuotaExceeded" | "StorageFull" | "XMinioStorageFull" | "TooManyBuckets", _) | (_, 507) => {
            Fault::Final(RemoteError::Quota(format!("{what}. The store is full or refuses the size.")))
        }
        (_, 404) => Fault::Missing(what),
        _ => Fault::Final(RemoteError::Failed(format!("{what}."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, code: &str, message: &str, headers: &[(&'static str, &str)]) -> Fault {
        let text = match code {
            "" => String::new(),
            code => format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"),
        };
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        meaning(&said(StatusCode::from_u16(status).unwrap(), &headers, &text), "the bucket b at h", "s3:GetObject")
    }

    #[test]
    fn what_a_user_can_correct_is_named_with_its_remedy() {
        for (status, code, message, remedy) in [
            (403, "AccessDenied", "Access Denied", "Grant s3:GetObject"),
            (403, "", "", "Grant s3:GetObject"),
            (404, "NoSuchBucket", "", "Create the bucket"),
            (403, "SignatureDoesNotMatch", "", "AWS_SECRET_ACCESS_KEY does not belong"),
            (403, "InvalidAccessKeyId", "", "does not know the credentials"),
            (400, "ExpiredToken", "The provided token has expired.", "role-duration-seconds"),
            (403, "RequestTimeTooSkewed", "", "The clock of this machine"),
            (301, "PermanentRedirect", "", "correct `region`"),
            (400, "AuthorizationHeaderMalformed", "", "correct `region`"),
        ] {
            let Fault::Final(RemoteError::Refused(text)) = of(status, code, message, &[]) else { panic!("{code}") };
            assert!(text.contains(remedy) && text.starts_with("the bucket b at h answered"), "{text}");
        }
        let moved = of(301, "PermanentRedirect", "", &[("x-amz-bucket-region", "eu-west-3")]);
        assert!(format!("{moved:?}").contains("region=eu-west-3"), "{moved:?}");
    }

    #[test]
    fn what_passes_is_retried_after_the_pause_that_the_store_asks_for() {
        for (status, code) in [(503, "SlowDown"), (503, ""), (500, "InternalError"), (400, "RequestTimeout"), (429, "")]
        {
            assert!(matches!(of(status, code, "", &[]), Fault::Again(_, Duration::ZERO)), "{code}");
        }
        assert!(matches!(of(409, "ConditionalRequestConflict", "", &[]), Fault::Again(..)));
        let pause = |value| match of(503, "SlowDown", "", &[("retry-after", value)]) {
            Fault::Again(_, pause) => pause.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!((pause("7"), pause("86400"), pause("soon"), pause("-1")), (7, 30, 0, 0));
    }

    #[test]
    fn facts_about_an_object_are_told_from_trouble() {
        assert!(matches!(of(412, "PreconditionFailed", "", &[]), Fault::Taken));
        assert!(matches!(of(404, "NoSuchKey", "", &[]), Fault::Missing(_)));
        assert!(matches!(of(404, "", "", &[]), Fault::Missing(_)));
        assert!(matches!(of(416, "InvalidRange", "", &[]), Fault::Short(_)));
        assert!(matches!(of(501, "NotImplemented", "", &[]), Fault::NoConditions(_)));
        assert!(matches!(of(403, "AccessDenied", "Request has expired", &[]), Fault::Expired(_)));
        assert!(matches!(fault_in("<Error><Code>InternalError</Code></Error>", "b", ""), Some(Fault::Again(..))));
        assert!(fault_in("<CompleteMultipartUploadResult/>", "b", "").is_none());
    }

    #[test]
    fn no_secret_of_an_answer_is_repeated() {
        let fault = of(400, "Odd", "GET /k?X-Amz-Security-Token=abc&amp;X-Amz-Signature=0f", &[]);
        let text = format!("{fault:?}");
        assert!(!text.contains("abc") && !text.contains("=0f"), "{text}");
    }
}
