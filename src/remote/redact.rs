//! Removes signatures and tokens from texts that may be logged.

use std::error::Error;

/// The replacement of a secret.
const MASK: &str = "***";

/// Marks that precede a secret, in lower case. They stay in the text. A signed address may be encoded twice if it is the
/// parameter of another one.
const BEFORE: [&str; 9] = [
    "sig=",
    "sig%3d",
    "token=",
    "bearer ",
    "\"token\":\"",
    "x-amz-signature=",
    "x-amz-credential=",
    "x-amz-signature%3d",
    "x-amz-credential%3d",
];

/// Prefixes of GitHub's tokens: the JWT of the runtime, then the kinds of access tokens. They are removed as well.
const START: [&str; 7] = ["eyJ", "ghs_", "ghp_", "gho_", "ghu_", "ghr_", "github_pat_"];

/// Replaces every signature and token in the text with `***`. If in doubt, it removes too much.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some(mark) = BEFORE.iter().find(|mark| starts_with_any_case(rest, mark)) {
            clean.push_str(&rest[..mark.len()]);
            clean.push_str(MASK);
            rest = after_secret(&rest[mark.len()..]);
        } else if START.iter().any(|start| rest.starts_with(start)) {
            clean.push_str(MASK);
            rest = after_secret(rest);
        } else {
            clean.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    clean
}

/// Formats an error and all its causes as one redacted line. Remove the address of a reqwest error first.
#[must_use]
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    redact(&text)
}

/// Shortens a server's text for a message: one redacted line of at most 200 characters.
#[must_use]
pub(super) fn excerpt(body: &[u8]) -> String {
    let text = redact(&String::from_utf8_lossy(body));
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(200) {
        words.truncate(end);
        words.push('…');
    }
    words
}

fn starts_with_any_case(text: &str, mark: &str) -> bool {
    text.as_bytes().get(..mark.len()).is_some_and(|head| head.eq_ignore_ascii_case(mark.as_bytes()))
}

fn after_secret(text: &str) -> &str {
    let end = text.find(|c: char| c.is_whitespace() || "&\"'<>(),;{}[]\\".contains(c)).unwrap_or(text.len());
    &text[end..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_go_and_the_rest_of_the_address_stays() {
        assert_eq!(
            redact("GET https://x.test/a?se=2026&sig=aB%2Bc%3D&sp=r failed"),
            "GET https://x.test/a?se=2026&sig=***&sp=r failed"
        );
        assert_eq!(redact("SIG=abc"), "SIG=***");
        assert_eq!(redact("u=https%3A%2F%2Fx%3Fsig%3Dabc%26se%3D1 x"), "u=https%3A%2F%2Fx%3Fsig%3D*** x");
    }

    #[test]
    fn tokens_go() {
        assert_eq!(redact("Authorization: Bearer abc.def, then"), "Authorization: Bearer ***, then");
        assert_eq!(redact("with eyJhbGciOi.eyJz.sig_"), "with ***");
        assert_eq!(redact("ghs_16C7e42F292c6912E7710c838347Ae178B4a."), "***");
        assert_eq!(redact("(github_pat_11ABC_x)"), "(***)");
        assert_eq!(
            redact("/k?X-Amz-Credential=AKIA%2F1&X-Amz-Date=1&X-Amz-Security-Token=abc&X-Amz-Signature=0f&x=1"),
            "/k?X-Amz-Credential=***&X-Amz-Date=1&X-Amz-Security-Token=***&X-Amz-Signature=***&x=1"
        );
        assert_eq!(redact("?access_token=abc&x=1"), "?access_token=***&x=1");
        assert_eq!(redact(r#"{"token":"abc","a":1}"#), r#"{"token":"***","a":1}"#);
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in ["", "cache write denied: token has no writable scopes", "größe: 5 – „ja“", "s", "sig"] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn excerpts_are_short_single_lines() {
        assert_eq!(excerpt(b"<a>\n  sig=secret\n</a>"), "<a> sig=*** </a>");
        assert_eq!(excerpt("ä".repeat(500).as_bytes()).chars().count(), 201);
    }

    proptest::proptest! {
        #[test]
        fn no_signature_survives(before in ".*", secret in "[A-Za-z0-9%+/=]{8,40}", after in "[& \"].*") {
            let text = format!("{before}sig={secret}{after}");
            let clean = redact(&text);
            // The random text around it may hold the secret by chance only when it is not a secret at all.
            proptest::prop_assume!(!before.contains(&secret) && !after.contains(&secret));
            proptest::prop_assert!(!clean.contains(&secret), "{clean}");
        }
    }
}
