//! The two kinds of token: the runtime token of the cache service, and the REST token of a job.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::clock::{Millis, millis};

/// One scope of a runtime token, in the spelling of its `ac` claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Scope {
    /// A Git ref.
    #[serde(rename = "Scope")]
    pub name: String,
    /// Bits: 1 may read, 2 may write.
    pub permission: u8,
}

impl Scope {
    /// A scope that can be read only.
    pub(crate) fn read(name: &str) -> Self {
        Self { name: name.to_owned(), permission: 1 }
    }

    /// A scope that can be written only.
    pub(crate) fn write(name: &str) -> Self {
        Self { name: name.to_owned(), permission: 2 }
    }

    /// A scope that can be read and written.
    pub(crate) fn read_write(name: &str) -> Self {
        Self { name: name.to_owned(), permission: 3 }
    }

    /// Whether entries of this scope may be looked up.
    pub(crate) fn readable(&self) -> bool {
        self.permission & 1 != 0
    }

    /// Whether entries may be created in this scope.
    pub(crate) fn writable(&self) -> bool {
        self.permission & 2 != 0
    }
}

/// What a runtime token says.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// In the order of search: own ref, base of the pull request, default branch.
    pub scopes: Vec<Scope>,
    /// The repository whose entries it reaches.
    pub repository: u64,
    /// When it stops to work.
    pub expires: Millis,
}

impl Claims {
    /// The names of the scopes that can be read, in the order of search.
    pub(super) fn readable(&self) -> Vec<&str> {
        self.scopes.iter().filter(|scope| scope.readable()).map(|scope| scope.name.as_str()).collect()
    }

    /// The one scope that is written: the first that may be.
    pub(super) fn writable(&self) -> Option<&str> {
        self.scopes.iter().find(|scope| scope.writable()).map(|scope| scope.name.as_str())
    }
}

/// What a REST token may do with the caches of its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RestPermission {
    /// Nothing: a job without `actions:` in its permissions.
    None,
    /// `actions: read`.
    Read,
    /// `actions: write`.
    Write,
}

/// The ids of the run and the job that all tokens are of.
pub(super) const RUN: &str = "ce7f54c7-61c7-4aae-887f-30da475f5f1a";
pub(super) const JOB: &str = "ca395085-040a-526b-2ce8-bdc85f692774";

/// Mints tokens and knows its own.
#[derive(Debug)]
pub(super) struct Mint {
    secret: String,
}

impl Mint {
    /// A mint whose tokens no other one accepts.
    pub(super) fn new(secret: String) -> Self {
        Self { secret }
    }

    /// A runtime token: three parts as a JWT has them, with the scopes as a JSON text in the claim `ac`.
    pub(super) fn runtime(&self, scopes: &[Scope], repository: u64, now: Millis, valid: Duration) -> String {
        let ac = serde_json::to_string(scopes).expect("scopes are plain data");
        let claims = json!({
            "ac": ac,
            "scp": format!("Actions.GenericRead:0:1 Actions.Results:{RUN}:{JOB}"),
            "repository_id": repository.to_string(),
            "iat": now / 1000,
            "exp": (now + millis(valid)) / 1000,
        });
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let body = URL_SAFE_NO_PAD.encode(claims.to_string());
        let seal = self.seal(&format!("{head}.{body}"));
        format!("{head}.{body}.{seal}")
    }

    /// What the runtime token of a request says, or why it is refused.
    pub(super) fn claims(&self, headers: &HeaderMap, now: Millis) -> Result<Claims, &'static str> {
        let token = bearer(headers).ok_or("no bearer token was sent")?;
        let (signed, seal) = token.rsplit_once('.').ok_or("the token is not a JWT")?;
        if self.seal(signed) != seal {
            return Err("the token's signature is wrong");
        }
        let claims = signed
            .split_once('.')
            .and_then(|(_, body)| URL_SAFE_NO_PAD.decode(body).ok())
            .and_then(|body| serde_json::from_slice::<serde_json::Value>(&body).ok())
            .ok_or("the token has no claims")?;
        let scopes =
            serde_json::from_str(claims["ac"].as_str().unwrap_or("[]")).map_err(|_| "the claim ac is broken")?;
        let repository = claims["repository_id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
        let expires = claims["exp"].as_u64().unwrap_or_default() * 1000;
        if expires <= now {
            return Err("the token is expired");
        }
        Ok(Claims { scopes, repository, expires })
    }

    /// The REST token with this permission.
    pub(super) fn rest(&self, permission: RestPermission) -> String {
        format!("ghs_{}", self.seal(&format!("rest {permission:?}")))
    }

    /// What the REST token of a request may do; none if it is none of ours.
    pub(super) fn rest_permission(&self, headers: &HeaderMap) -> Option<RestPermission> {
        let token = bearer(headers)?;
        [RestPermission::None, RestPermission::Read, RestPermission::Write]
            .into_iter()
            .find(|permission| self.rest(*permission) == token)
    }

    /// A keyed digest of `text`, in the alphabet of JWT.
    pub(super) fn seal(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.digest(text))
    }

    /// A keyed digest of `text`. It guards tests against their own mistakes, not against an attacker.
    pub(super) fn digest(&self, text: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.secret.as_bytes());
        hash.update([0]);
        hash.update(text.as_bytes());
        hash.finalize().into()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token")).then_some(token.trim())
}
