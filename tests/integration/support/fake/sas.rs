//! Signed addresses of blobs: what they allow and until when.

use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded::Serializer;

use super::blobs::BlobError;
use super::clock::{Millis, parse_rfc3339, rfc3339};
use super::operation::{CONTAINER, Call};
use super::token::Mint;

/// An address under `base` that allows `permissions` (letters as in `sp`) on `blob` until `expires`.
pub(super) fn sign(mint: &Mint, base: &str, blob: &str, permissions: &str, expires: Millis) -> String {
    format!("{base}{CONTAINER}{blob}?{}", query(mint, blob, permissions, expires))
}

/// An address of an artifact to read: the service says that it is an archive, whatever it was uploaded as.
pub(super) fn sign_archive(mint: &Mint, base: &str, (blob, name): (&str, &str), expires: Millis) -> String {
    let kind = Serializer::new(String::new())
        .append_pair("rscd", &format!("attachment; filename=\"{name}.zip\""))
        .append_pair("rsct", "application/zip")
        .finish();
    format!("{base}{CONTAINER}{blob}?{kind}&{}", query(mint, blob, "r", expires))
}

fn query(mint: &Mint, blob: &str, permissions: &str, expires: Millis) -> String {
    let expires = rfc3339(expires);
    Serializer::new(String::new())
        .append_pair("se", &expires)
        .append_pair("sig", &signature(mint, blob, permissions, &expires))
        .append_pair("sp", permissions)
        .append_pair("spr", "https,http")
        .append_pair("sr", "b")
        .append_pair("sv", "2025-11-05")
        .finish()
}

/// Checks that the address of `call` was signed here, is not too old, and allows one of the letters of `need`.
///
/// # Errors
/// The answer of the blob store.
pub(super) fn check(mint: &Mint, call: &Call, need: &str, now: Millis) -> Result<(), BlobError> {
    // A token that is sent along with a signed address reaches a storage provider that has no business with it.
    if call.headers.contains_key(header::AUTHORIZATION) {
        return Err(BlobError::new(
            400,
            "InvalidAuthenticationInfo",
            "A signed address takes no Authorization header.",
        ));
    }
    let (Some(permissions), Some(expires), Some(given)) = (call.query("sp"), call.query("se"), call.query("sig"))
    else {
        return Err(failed());
    };
    if signature(mint, call.blob(), permissions, expires) != given {
        return Err(failed());
    }
    if parse_rfc3339(expires).is_none_or(|until| until <= now) {
        return Err(failed());
    }
    if !permissions.contains(|letter| need.contains(letter)) {
        let message = "This request is not authorized to perform this operation using this permission.";
        return Err(BlobError::new(403, "AuthorizationPermissionMismatch", message));
    }
    Ok(())
}

/// What an address that is too old or not signed is answered.
pub(super) fn failed() -> BlobError {
    let message = "Server failed to authenticate the request. Check the signature and the expiry of the address.";
    BlobError::new(403, "AuthenticationFailed", message)
}

fn signature(mint: &Mint, blob: &str, permissions: &str, expires: &str) -> String {
    STANDARD.encode(mint.digest(&format!("{blob}\n{permissions}\n{expires}")))
}
