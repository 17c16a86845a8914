//! What the integration tests share.

pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod envelope;
#[allow(dead_code, reason = "a fake that tests can steer in every way, whether or not a test does so now")]
pub(crate) mod fake;
pub(crate) mod folder;
pub(crate) mod machine;
pub(crate) mod moto;
pub(crate) mod nix;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod realnix;
pub(crate) mod rows;
pub(crate) mod tree;

/// Says that something is not tested here, and why; a failure where everything is required.
pub(crate) fn skip(why: &str) {
    let required = std::env::var("NIX_CACHE_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "Not tested, though everything is required: {why}");
    eprintln!("Skipped: {why}");
}

/// As [`skip`], for what a machine or kernel may refuse however much is installed on it.
pub(crate) fn skip_refused(why: &str) {
    eprintln!("Skipped: {why}");
}
