//! The remote and its client against a real server, and against a proxy in front of it that misbehaves.

mod contract;
mod misbehaving;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::moto::{KEYS, bucket, server};
use super::*;
use crate::remote::github::testing::quick;

/// A bucket of its own on the real server, reached at `endpoint`.
struct Scene {
    server: SocketAddr,
    bucket: String,
    endpoint: String,
}

/// None if there is no server here.
fn scene() -> Option<Scene> {
    let server = server()?;
    Some(Scene { server, bucket: bucket(server), endpoint: format!("http://{server}") })
}

/// Short pauses, and time for a server on a busy machine.
fn patient() -> Tuning {
    let long = Duration::from_secs(30);
    Tuning { stall: long, upload_stall: long, lookup_timeout: long, ..quick() }
}

/// Small parts and short pauses.
fn small() -> Tuning {
    Tuning { single_put: 100_000, block: 5 << 20, list_page: 5, ..patient() }
}

fn variables() -> HashMap<String, String> {
    KEYS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Scene {
    fn client_with(&self, tuning: Tuning) -> S3Client {
        let variables = variables();
        let address = S3Address::parse(&format!("{}/ci?endpoint={}", self.bucket, self.endpoint)).unwrap();
        S3Client::new(&address, |name| variables.get(name).cloned(), tuning).unwrap()
    }

    fn client(&self) -> S3Client {
        self.client_with(small())
    }

    fn remote(&self) -> S3Remote {
        S3Remote::new(self.client(), "owner/repo")
    }
}

/// Bytes without a pattern.
fn noise(size: usize) -> Bytes {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

#[test]
fn what_is_missing_is_named_before_any_request() {
    let address = S3Address::parse("abc?endpoint=http://127.0.0.1:1").unwrap();
    for (without, says) in
        [("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"), ("AWS_SECRET_ACCESS_KEY", "configure-aws-credentials")]
    {
        let mut variables = variables();
        variables.insert(without.to_owned(), " \n".to_owned());
        let made = S3Client::new(&address, |name| variables.get(name).cloned(), Tuning::default());
        let Err(RemoteError::Unavailable(text)) = made.map(|_| ()) else { panic!("made without {without}") };
        assert!(text.contains(says) && !text.contains("tests/secret"), "{text}");
    }
}
