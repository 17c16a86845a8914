//! The objects of one bucket: looked up, read, listed and written.
//!
//! How a request is sent is in `call`, and how a large object is written in `upload`. No message contains an address or a key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use jiff::Timestamp;
use reqwest::Client;
use rusty_s3::signing::sign;
use rusty_s3::{Bucket, Credentials, Method};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use url::Url;

use super::address::S3Address;
use super::answer::Fault;
use super::call::{Call, Send};
use super::upload::Existing;
use super::xml;
use crate::base::env_vars::{
    AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_REGION, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, ca_file,
};
use crate::base::http::{body, caller};
use crate::remote::blob::source::Source;
use crate::remote::tuning::Tuning;
use crate::remote::{Handover, Put, RemoteError};

/// Time for which a signed address is valid. Only the start of a request has to be within it.
const VALID: Duration = Duration::from_mins(15);
/// Largest number of pages of a list, of at most 1,000 objects each.
const MAX_PAGES: usize = 1000;
/// Largest size of a list in memory, in bytes, and that of an object in it besides its key.
const MAX_LIST: usize = 64 << 20;
const OBJECT: usize = size_of::<Listed>();
/// The object with which a store proves that it knows conditions.
const PROBE: &str = "v1/probe/if-none-match";

/// An object of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its key below the prefix of the address.
    pub key: String,
    pub size: u64,
    /// When it was written, in milliseconds since 1970; 0 if the store does not say.
    pub modified: i64,
}

/// A client for one bucket, and one prefix in it. Every key is below that prefix.
#[derive(Clone)]
pub(crate) struct S3Client {
    pub(super) http: Client,
    pub(super) tuning: Arc<Tuning>,
    bucket: Bucket,
    credentials: Credentials,
    /// With a slash at the end, or empty.
    prefix: String,
    place: String,
    /// What [`S3Client::new`] was given, for another process.
    given: Given,
    /// Whether the store knows `If-None-Match: *`.
    conditional: Arc<OnceCell<bool>>,
    /// Set once unfinished uploads of killed jobs were removed.
    pub(super) tidied: Arc<OnceCell<()>>,
}

/// Where a client came from. The keys are in its credentials.
#[derive(Clone)]
struct Given {
    address: String,
    region: Option<String>,
    endpoint: Option<String>,
    ca_file: Option<PathBuf>,
}

impl S3Client {
    /// Creates a client for `address`. Keys and what the address leaves open come from `variable`, which reads the environment. No
    /// request is sent.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] without keys or with an incomplete address, or where HTTPS does not work.
    pub(crate) fn new(
        address: &S3Address,
        variable: impl Fn(&str) -> Option<String>,
        tuning: Tuning,
    ) -> Result<Self, RemoteError> {
        Self::trusting(address, variable, tuning, ca_file())
    }

    /// As [`S3Client::new`], with the CA certificates in a file.
    pub(in crate::remote) fn trusting(
        address: &S3Address,
        variable: impl Fn(&str) -> Option<String>,
        tuning: Tuning,
        ca_file: Option<PathBuf>,
    ) -> Result<Self, RemoteError> {
        let unavailable = |why: String| RemoteError::Unavailable(format!("Cannot use {address}: {why}."));
        let bucket = address.bucket(&variable).map_err(unavailable)?;
        let secret = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let (Some(key), Some(secret_key)) = (secret(AWS_ACCESS_KEY_ID), secret(AWS_SECRET_ACCESS_KEY)) else {
            return Err(unavailable(format!(
                "{AWS_ACCESS_KEY_ID} or {AWS_SECRET_ACCESS_KEY} is not set. Use aws-actions/configure-aws-credentials in a step \
                 before, or set both in `env` from secrets"
            )));
        };
        let credentials = match secret(AWS_SESSION_TOKEN) {
            Some(token) => Credentials::new_with_token(key, secret_key, token),
            None => Credentials::new(key, secret_key),
        };
        // A signed request must not be sent to another host.
        let http = caller(ca_file.as_deref()).map_err(|error| RemoteError::Unavailable(error.to_string()))?;
        let host = bucket.base_url().host_str().unwrap_or_default().to_owned();
        let place = match bucket.base_url().port() {
            Some(port) => format!("the bucket {} at {host}:{port}", address.bucket),
            None => format!("the bucket {} at {host}", address.bucket),
        };
        let prefix = if address.prefix.is_empty() { String::new() } else { format!("{}/", address.prefix) };
        Ok(Self {
            http,
            tuning: Arc::new(tuning),
            bucket,
            credentials,
            prefix,
            place,
            given: Given {
                address: address.to_string(),
                region: variable(AWS_REGION),
                endpoint: variable(AWS_ENDPOINT_URL),
                ca_file,
            },
            conditional: Arc::default(),
            tidied: Arc::default(),
        })
    }

    /// What another process needs to read the entries of `repository`.
    pub(super) fn handover(&self, repository: &str) -> Handover {
        let keys = [
            (AWS_ACCESS_KEY_ID, Some(self.credentials.key())),
            (AWS_SECRET_ACCESS_KEY, Some(self.credentials.secret())),
            (AWS_SESSION_TOKEN, self.credentials.token()),
            (AWS_REGION, self.given.region.as_deref()),
            (AWS_ENDPOINT_URL, self.given.endpoint.as_deref()),
        ];
        let set = keys.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        Handover::S3 {
            address: self.given.address.clone(),
            variables: set.collect(),
            repository: repository.to_owned(),
            ca_file: self.given.ca_file.clone(),
            tuning: Tuning::text(),
        }
    }

    /// The bucket and host, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Returns the size of an object; None if it does not exist.
    ///
    /// # Errors
    /// When the store does not answer or refuses.
    pub(crate) async fn head(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        match self.call(&Call::new(Method::Head, key, "s3:GetObject")).await {
            Ok(answer) => {
                let length = answer.headers().get(reqwest::header::CONTENT_LENGTH);
                let size = length.and_then(|value| value.to_str().ok()?.parse().ok());
                size.map(Some)
                    .ok_or_else(|| RemoteError::Failed(format!("{} did not say how large {key} is.", self.place)))
            }
            Err(Fault::Missing(_)) => Ok(None),
            Err(fault) => Err(self.error(fault, &format!("look up {key}"))),
        }
    }

    /// Reads a small object; None if it does not exist.
    ///
    /// # Errors
    /// When it has more than `most` bytes, or the store does not answer or refuses.
    pub(crate) async fn get(&self, key: &str, most: usize) -> Result<Option<Vec<u8>>, RemoteError> {
        let what = format!("read {key}");
        match self.call(&Call::new(Method::Get, key, "s3:GetObject")).await {
            Ok(answer) => match timeout(self.tuning.rpc_timeout, body(answer, most)).await {
                Ok(Ok(bytes)) => Ok(Some(bytes)),
                Ok(Err(error)) => Err(RemoteError::Failed(format!("Cannot {what} from {}: {error}.", self.place))),
                Err(_) => Err(RemoteError::Failed(format!("Cannot {what} from {}: it stalled.", self.place))),
            },
            Err(Fault::Missing(_)) => Ok(None),
            Err(fault) => Err(self.error(fault, &what)),
        }
    }

    /// Lists all objects whose key starts with `prefix`.
    ///
    /// # Errors
    /// When the store does not answer or refuses, or there are more than a million, or than fit into 64 MiB.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, RemoteError> {
        let (full, mut all, mut token) = (format!("{}{prefix}", self.prefix), Vec::new(), None::<String>);
        let too_many =
            || RemoteError::Failed(format!("{} has too many objects below {full}. Use another prefix.", self.place));
        let mut bytes = 0;
        for _ in 0..MAX_PAGES {
            let size = self.tuning.list_page.to_string();
            let mut query = vec![("list-type", "2"), ("max-keys", &size), ("prefix", full.as_str())];
            if let Some(token) = &token {
                query.insert(0, ("continuation-token", token));
            }
            let page = self
                .text(&Call { query: &query, ..Call::new(Method::Get, "", "s3:ListBucket") }, "list objects")
                .await?;
            for object in xml::elements(&page, "Contents").filter_map(|object| self.listed(object)) {
                // A store may list something else than it was asked for.
                if object.key.starts_with(prefix) {
                    bytes += OBJECT + object.key.len();
                    all.push(object);
                }
                if bytes > MAX_LIST {
                    return Err(too_many());
                }
            }
            token = xml::text(&page, "NextContinuationToken").filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(all);
            }
        }
        Err(too_many())
    }

    fn listed(&self, object: &str) -> Option<Listed> {
        let key = xml::text(object, "Key")?.strip_prefix(&self.prefix)?.to_owned();
        let modified = xml::text(object, "LastModified").and_then(|time| DateTime::parse_from_rfc3339(&time).ok());
        let size = xml::text(object, "Size")?.parse().ok()?;
        Some(Listed { key, size, modified: modified.map_or(0, |time| time.timestamp_millis()) })
    }

    /// Writes an object unless it exists. The store decides, so of two writers one wins.
    ///
    /// # Errors
    /// When the store does not answer or refuses; [`RemoteError::Refused`] if it ignores the condition.
    pub(crate) async fn put_if_absent(&self, key: &str, source: &Source) -> Result<Put, RemoteError> {
        let conditional = self.conditional.get_or_try_init(|| self.is_conditional());
        // Side by side, because the way to a store is long.
        let (conditional, is_taken) = tokio::join!(conditional, self.is_taken(key, source));
        if !*conditional? {
            return Err(RemoteError::Refused(format!(
                "{} ignores `If-None-Match: *`, so two jobs that save at once could replace each other's entries. Nothing is \
                 saved there. Use a store with conditional writes (S3, R2, MinIO, Ceph), or a newer version of this one.",
                capitalised(&self.place)
            )));
        }
        if is_taken? {
            return Ok(Put::Taken);
        }
        self.upload(key, source, Existing::Stays).await
    }

    /// Writes an object, and replaces the one of this name if there is one.
    ///
    /// # Errors
    /// When the store does not answer or refuses.
    pub(crate) async fn put(&self, key: &str, source: &Source) -> Result<(), RemoteError> {
        self.upload(key, source, Existing::IsReplaced).await.map(|_| ())
    }

    /// Deletes an object. One that does not exist counts as deleted.
    ///
    /// # Errors
    /// When the store does not answer or refuses.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), RemoteError> {
        match self.call(&Call::new(Method::Delete, key, "s3:DeleteObject")).await {
            Ok(_) | Err(Fault::Missing(_)) => Ok(()),
            Err(fault) => Err(self.error(fault, &format!("delete {key}"))),
        }
    }

    /// Returns whether the store refuses to write an existing object. The object stays, so that later jobs need one request.
    async fn is_conditional(&self) -> Result<bool, RemoteError> {
        let source = Source::Bytes(Bytes::from_static(b"This object shows that the store knows `If-None-Match: *`.\n"));
        let range = 0..source.size();
        for _ in 0..2 {
            let call = Call {
                send: Send::Part(&source, &range),
                if_absent: true,
                ..Call::new(Method::Put, PROBE, "s3:PutObject")
            };
            match self.call(&call).await {
                Ok(_) => {}
                Err(Fault::Taken | Fault::TakenLater) => return Ok(true),
                Err(Fault::NoConditions(why)) => {
                    tracing::debug!("no conditional writes: {why}");
                    return Ok(false);
                }
                Err(fault) => return Err(self.error(fault, "write")),
            }
        }
        Ok(false)
    }

    /// Returns an address for reading an object. It is a secret.
    pub(super) fn address(&self, key: &str) -> Url {
        self.sign(Method::Get, key, &[])
    }

    pub(super) fn sign(&self, method: Method, key: &str, query: &[(&str, &str)]) -> Url {
        let full = if key.is_empty() { String::new() } else { format!("{}{key}", self.prefix) };
        sign(
            &Timestamp::now(),
            method,
            self.bucket.object_url(&full),
            self.credentials.key(),
            self.credentials.secret(),
            self.credentials.token(),
            self.bucket.region(),
            VALID.as_secs(),
            query.iter().copied(),
            std::iter::empty(),
        )
    }

    /// The prefix of the address and `rest`, for queries.
    pub(super) fn full(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// The part of a whole key that is below the prefix of the address.
    pub(super) fn below<'a>(&self, whole: &'a str) -> Option<&'a str> {
        whole.strip_prefix(&self.prefix)
    }
}

/// A sentence starts with a capital letter.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
