//! The three calls of the cache service with their messages. Requests use the field names of the protocol; answers may use camel
//! case, omit empty fields and have unknown ones.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use super::answers::refusal_in;
use super::redact::redact;
use super::twirp::{CallError, Method, Twirp};
use crate::remote::{Kind, Put, RemoteError};

/// Largest number of keys in one lookup, including the first one.
const MAX_KEYS: usize = 10;

#[derive(Serialize)]
struct FindRequest<'a> {
    key: &'a str,
    restore_keys: &'a [String],
    version: String,
}

#[derive(Deserialize)]
struct FindAnswer {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedDownloadUrl")]
    signed_download_url: Option<String>,
    #[serde(default, alias = "matchedKey")]
    matched_key: Option<String>,
}

#[derive(Serialize)]
struct CreateRequest<'a> {
    key: &'a str,
    version: String,
}

#[derive(Deserialize)]
struct CreateAnswer {
    #[serde(default)]
    ok: bool,
    #[serde(default, alias = "signedUploadUrl")]
    signed_upload_url: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Serialize)]
struct FinalizeRequest<'a> {
    key: &'a str,
    /// 64-bit numbers are strings in this JSON.
    size_bytes: String,
    version: String,
}

/// The `entry_id` is ignored: it is a string in some answers and a number in others, and not needed.
#[derive(Deserialize)]
struct FinalizeAnswer {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    message: Option<String>,
}

/// The version that separates entries of a kind from those of other kinds and other tools: 64 hexadecimal digits.
#[must_use]
pub fn version(kind: Kind) -> String {
    hex(&Sha256::digest(format!("nix-cache-action {} 1", kind.word())))
}

/// Formats bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

/// Looks up the entry that matches `prefixes` best, and returns its name and signed address.
pub(super) async fn find(twirp: &Twirp, kind: Kind, prefixes: &[String]) -> Result<Option<(String, Url)>, RemoteError> {
    // The first one is sent twice, because it is not certain that the service matches `key` alone. It counts twice.
    let keys = &prefixes[..prefixes.len().min(MAX_KEYS - 1)];
    let Some(key) = keys.first() else { return Ok(None) };
    if let Some(refusal) = twirp.refused(Method::Find) {
        tracing::debug!("{key} counts as a miss: {}", refusal.text);
        return Err(refusal.into());
    }
    let request = FindRequest { key, restore_keys: keys, version: version(kind) };
    let answer: FindAnswer = match twirp.call(Method::Find, &request).await {
        Ok(answer) => answer,
        Err(CallError::Missing { .. } | CallError::Taken) => return Ok(None),
        Err(CallError::Remote(error)) => return Err(error),
    };
    if !answer.ok {
        return Ok(None);
    }
    let matched = answer.matched_key.unwrap_or_default();
    if !keys.iter().any(|prefix| matched.starts_with(prefix.as_str())) {
        tracing::debug!("{key} is a miss: the service offers {matched:?}, which was not requested");
        return Ok(None);
    }
    let url = signed(twirp, answer.signed_download_url.as_deref(), &matched)?;
    Ok(Some((matched, url)))
}

/// Reserves `name` and returns the address for the upload, or None if it was already taken. If an answer got lost, our own
/// reservation counts as taken, because its address is lost as well.
pub(super) async fn create(twirp: &Twirp, kind: Kind, name: &str) -> Result<Option<Url>, RemoteError> {
    let request = CreateRequest { key: name, version: version(kind) };
    let answer: CreateAnswer = match twirp.call(Method::Create, &request).await {
        Ok(answer) => answer,
        Err(CallError::Taken) => return Ok(None),
        Err(CallError::Missing { what, .. }) => {
            return Err(RemoteError::Failed(format!("Cannot reserve {name} in GitHub's cache: {what}.")));
        }
        Err(CallError::Remote(error)) => return Err(error),
    };
    if answer.ok {
        return signed(twirp, answer.signed_upload_url.as_deref(), name).map(Some);
    }
    match answer.message.filter(|message| !message.is_empty()) {
        None => Ok(None),
        Some(message) => Err(refused(twirp, "reserve", name, &message)),
    }
}

/// Commits the uploaded bytes of `name` as an entry. The service may not see them at once.
pub(super) async fn finalize(
    twirp: &Twirp,
    kind: Kind,
    name: &str,
    size: u64,
    tuning: &super::Tuning,
) -> Result<Put, RemoteError> {
    let request = FinalizeRequest { key: name, size_bytes: size.to_string(), version: version(kind) };
    let mut retries = 0;
    let mut may_be_done = false;
    let answer: FinalizeAnswer = loop {
        match twirp.call(Method::Finalize, &request).await {
            Ok(answer) => break answer,
            // Only we could have committed this reservation, so an earlier answer got lost.
            Err(CallError::Taken) => return Ok(Put::Taken),
            Err(CallError::Missing { answer_lost, what }) => {
                may_be_done |= answer_lost;
                if retries < tuning.finalize_retries {
                    retries += 1;
                    tokio::time::sleep(tuning.finalize_delay).await;
                } else if may_be_done {
                    return Ok(Put::Taken);
                } else {
                    return Err(RemoteError::Failed(format!(
                        "GitHub does not find the {size} bytes that were uploaded as {name}: {what}. The next run \
                         stores them under another name."
                    )));
                }
            }
            Err(CallError::Remote(error)) => return Err(error),
        }
    };
    if answer.ok {
        return Ok(Put::Stored);
    }
    Err(refused(
        twirp,
        "commit",
        name,
        answer.message.as_deref().filter(|why| !why.is_empty()).unwrap_or("no reason given"),
    ))
}

fn refused(twirp: &Twirp, what: &str, name: &str, message: &str) -> RemoteError {
    if let Some(refusal) = refusal_in(message) {
        twirp.remember(&refusal);
        return refusal.into();
    }
    RemoteError::Failed(format!("GitHub's cache service does not {what} {name}: {}.", redact(message)))
}

/// Parses the signed address in an answer. Errors never contain it. If the service uses HTTPS, its blobs must use it too.
pub(super) fn signed(twirp: &Twirp, text: Option<&str>, name: &str) -> Result<Url, RemoteError> {
    let url = text.and_then(|text| Url::parse(text).ok());
    match url.as_ref().map(Url::scheme) {
        Some("http") if twirp.is_secure() => Err(RemoteError::Failed(format!(
            "The cache service at {} returned an address without HTTPS for {name}, which is not used.",
            twirp.host()
        ))),
        Some("http" | "https") => Ok(url),
        _ => Ok(None),
    }?
    .ok_or_else(|| RemoteError::Failed(format!("GitHub's cache service answered without a usable address for {name}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_64_digits_and_differ() {
        let all = Kind::ALL.map(version);
        assert!(all.iter().all(|version| version.len() == 64));
        assert_eq!(std::collections::BTreeSet::from(all.clone()).len(), all.len());
        // From `printf 'nix-cache-action layer 1' | sha256sum`: a change would lose every stored entry.
        assert_eq!(version(Kind::Layer), "e618cd2cd054fb16d37132ee4ad116c0b771afa59fdd9aa3218ce0db763a2fd7");
    }

    #[test]
    fn requests_have_the_names_and_types_of_the_service() {
        let find = FindRequest { key: "k", restore_keys: &["k".into(), "j".into()], version: "v".into() };
        assert_eq!(serde_json::to_string(&find).unwrap(), r#"{"key":"k","restore_keys":["k","j"],"version":"v"}"#);
        let finalize = FinalizeRequest { key: "k", size_bytes: 7.to_string(), version: "v".into() };
        assert_eq!(serde_json::to_string(&finalize).unwrap(), r#"{"key":"k","size_bytes":"7","version":"v"}"#);
    }

    #[test]
    fn answers_may_use_either_case_and_say_more() {
        for text in [
            r#"{"ok":true,"signed_download_url":"u","matched_key":"m","new":1}"#,
            r#"{"ok":true,"signedDownloadUrl":"u","matchedKey":"m"}"#,
        ] {
            let answer: FindAnswer = serde_json::from_str(text).unwrap();
            assert_eq!((answer.signed_download_url.as_deref(), answer.matched_key.as_deref()), (Some("u"), Some("m")));
        }
        for text in [r#"{"ok":true,"entry_id":"7"}"#, r#"{"ok":true,"entryId":7,"message":null}"#] {
            assert!(serde_json::from_str::<FinalizeAnswer>(text).unwrap().ok);
        }
        assert!(!serde_json::from_str::<CreateAnswer>("{}").unwrap().ok);
    }

    fn service(base: &str) -> Twirp {
        let token = secrecy::SecretString::from("t");
        let http = crate::base::http::client(None).unwrap();
        Twirp::new(http, base.parse().unwrap(), &token, std::sync::Arc::default()).unwrap()
    }

    #[test]
    fn an_unusable_address_is_not_shown() {
        let twirp = service("https://results.test");
        for text in [
            None,
            Some(""),
            Some("file:///etc/passwd?sig=secret"),
            Some("sig=secret"),
            Some("http://blob.test/?sig=secret"),
        ] {
            let error = signed(&twirp, text, "n").unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_service_with_https_has_no_blobs_without_it() {
        let (plain, secure) = ("http://blob.test/x?sig=s", "https://blob.test/x?sig=s");
        let twirp = service("https://results.test");
        assert_eq!(signed(&twirp, Some(secure), "n").unwrap().scheme(), "https");
        let error = signed(&twirp, Some(plain), "n").unwrap_err().to_string();
        assert!(error.contains("without HTTPS") && error.contains("results.test"), "{error}");
        let twirp = service("http://127.0.0.1:1");
        for text in [plain, secure] {
            assert_eq!(signed(&twirp, Some(text), "n").unwrap().as_str(), text);
        }
    }
}
