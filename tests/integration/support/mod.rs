//! What the integration tests share.

pub mod cache;
pub mod check;
#[allow(dead_code, reason = "a fake that tests can steer in every way, whether or not a test does so now")]
pub mod fake;
pub mod folder;
pub mod machine;
pub mod nix;
pub mod program;
pub mod random;
pub mod realnix;
pub mod rows;
pub mod tree;

/// Says that something is not tested here, and why; a failure where everything is required.
pub fn skip(why: &str) {
    let required = std::env::var("NIX_CACHE_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "Not tested, though everything is required: {why}");
    eprintln!("Skipped: {why}");
}

/// As [`skip`], for what a machine or kernel may refuse however much is installed on it.
pub fn skip_refused(why: &str) {
    eprintln!("Skipped: {why}");
}
