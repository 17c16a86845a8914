//! The runtime token: it is never printed, and its scopes can be read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// A part of the cache (a branch, a tag, a pull request) and the token's permissions for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TokenScope {
    /// The Git reference, such as `refs/heads/main`.
    pub scope: String,
    /// Bits: 1 to read, 2 to write.
    pub permission: u8,
}

impl TokenScope {
    /// Whether entries of this scope may be read.
    #[must_use]
    pub fn readable(&self) -> bool {
        self.permission & 1 != 0
    }

    /// Whether entries may be written to this scope.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.permission & 2 != 0
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    ac: String,
    #[serde(default)]
    scp: String,
}

/// The ids by which the service of artifacts knows this run and this job.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct BackendIds {
    #[serde(rename = "workflow_run_backend_id")]
    run: String,
    #[serde(rename = "workflow_job_run_backend_id")]
    job: String,
}

/// Reads the scopes of a runtime token, for messages and the summary. Only the service decides about permissions: the claim is
/// neither documented nor verified here. Empty if the token has none. Format: the `ac` claim of the JWT is a JSON text inside
/// JSON, as other clients of the service read it.
#[must_use]
pub fn scopes(token: &SecretString) -> Vec<TokenScope> {
    claims(token).and_then(|claims| serde_json::from_str(&claims.ac).ok()).unwrap_or_default()
}

/// Reads the ids of run and job from a runtime token: the claim `scp` has `Actions.Results:RUN:JOB` among words. None if it has not.
pub(super) fn backend_ids(token: &SecretString) -> Option<BackendIds> {
    let claims = claims(token)?;
    let ids = claims.scp.split(' ').find_map(|scope| scope.strip_prefix("Actions.Results:"))?;
    let (run, job) =
        ids.split_once(':').filter(|(run, job)| !run.is_empty() && !job.is_empty() && !job.contains(':'))?;
    Some(BackendIds { run: run.to_owned(), job: job.to_owned() })
}

fn claims(token: &SecretString) -> Option<Claims> {
    let payload = token.expose_secret().split('.').nth(1)?.trim_end_matches('=');
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> SecretString {
        SecretString::from(format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(payload)))
    }

    #[test]
    fn scopes_come_from_the_ac_claim() {
        let ac = r#"[{"Scope":"refs/heads/main","Permission":1},{"Scope":"refs/pull/7/merge","Permission":3}]"#;
        let token = token(&serde_json::json!({"exp": 1, "ac": ac}).to_string());
        let found = scopes(&token);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], TokenScope { scope: "refs/heads/main".into(), permission: 1 });
        assert!(found[0].readable() && !found[0].writable());
        assert!(found[1].readable() && found[1].writable());
    }

    #[test]
    fn the_ids_of_run_and_job_come_from_the_scp_claim() {
        let of = |scp: &str| backend_ids(&token(&serde_json::json!({ "scp": scp }).to_string()));
        let ids = BackendIds { run: "ce7f".to_owned(), job: "ca39".to_owned() };
        assert_eq!(of("Actions.GenericRead:0:1 Actions.Results:ce7f:ca39"), Some(ids));
        for wrong in ["", "Actions.Results", "Actions.Results:a", "Actions.Results:a:b:c", "Actions.Results::b"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn other_tokens_say_nothing() {
        for text in ["", "abc", "a.b.c", "a..c"] {
            assert_eq!(scopes(&SecretString::new(text.into())), []);
        }
        assert_eq!(scopes(&token(r#"{"exp":1}"#)), []);
        assert_eq!(scopes(&token(r#"{"ac":"no list"}"#)), []);
    }
}
