//! Lists all entries of the repository's cache and deletes some, for pruning. Needs a token with `actions: write`.
//!
//! GitHub limits requests in two ways: 1,000 an hour for a job's token, and a secondary limit for many requests in a short time. Both
//! are answered with 403 or 429 and the time to wait, which is waited for up to [`Tuning::rest_patience`] in total.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use octocrab::models::actions::{ActionsCacheItem, ActionsCacheList};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::config::RestConfig;
use super::redact::excerpt;
use super::rest::{Rest, short};
use super::tuning::Tuning;
use super::version;
use crate::base::bounds::{MAX_ANSWER, from_json};
use crate::base::clock::{now, seconds};
use crate::remote::listing::{ListError, Listed, RefState, Shelf};
use crate::remote::{Kind, RemoteError};

const PER_PAGE: usize = 100;
/// Number of times that a list is begun again because entries were deleted while it was read.
const LISTS: usize = 5;
/// Number of attempts when the server fails.
const TRIES: u32 = 4;

/// The cache of a repository, for listing and deleting.
pub(crate) struct CacheShelf {
    octocrab: Octocrab,
    repository: String,
    tuning: Arc<Tuning>,
    /// The time that may still be waited.
    patience: Mutex<Duration>,
    /// When the last deletion was sent.
    deleted: Mutex<Option<Instant>>,
    /// Whether the token can see branches.
    sees_refs: OnceCell<bool>,
}

/// An answer other than success.
struct Refused {
    status: u16,
    message: String,
}

impl CacheShelf {
    /// Creates the shelf. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] when the address, the repository or the token is invalid.
    pub(crate) fn new(
        config: &RestConfig,
        tuning: Tuning,
        ca_file: Option<&std::path::Path>,
    ) -> Result<Self, RemoteError> {
        let http = crate::base::http::caller(ca_file).map_err(|error| RemoteError::Unavailable(error.to_string()))?;
        let tuning = Arc::new(tuning);
        let Rest { octocrab, owner, repository, .. } = Rest::new(http, config, &tuning)?;
        let patience = Mutex::new(tuning.rest_patience);
        let repository = format!("{owner}/{repository}");
        Ok(Self { octocrab, repository, tuning, patience, deleted: Mutex::new(None), sees_refs: OnceCell::new() })
    }

    /// Sends a request below the repository until it is answered.
    async fn send(&self, what: &str, is_deletion: bool, path: &str) -> Result<Result<Vec<u8>, Refused>, ListError> {
        let uri = format!("/repos/{}{path}", self.repository);
        let mut failures = 0;
        loop {
            let answer = tokio::time::timeout(self.tuning.rpc_timeout, self.once(is_deletion, &uri)).await;
            let why = match answer {
                Ok(Ok((status, _, body))) if (200..300).contains(&status) => return Ok(Ok(body)),
                Ok(Ok((status, wait, body))) => {
                    let message = message_in(&body);
                    let is_limit = matches!(status, 403 | 429)
                        && (status == 429 || wait.is_some() || message.to_lowercase().contains("rate limit"));
                    if is_limit {
                        // Without a time, GitHub asks for at least a minute.
                        self.wait(what, wait.unwrap_or(self.tuning.rest_pause), &message).await?;
                        continue;
                    }
                    if status < 500 {
                        return Ok(Err(Refused { status, message }));
                    }
                    format!("it answered {status}, {message:?}")
                }
                Ok(Err(why)) => why,
                Err(_) => format!("no answer in {} s", self.tuning.rpc_timeout.as_secs()),
            };
            failures += 1;
            if failures >= TRIES {
                return Err(ListError::Failed(format!("Cannot {what}: {why}.")));
            }
            tokio::time::sleep(self.tuning.rpc_delay * 2_u32.pow(failures)).await;
        }
    }

    /// Sends one request. Returns the status, how long the server asks to wait, and the body.
    async fn once(&self, is_deletion: bool, uri: &str) -> Result<(u16, Option<Duration>, Vec<u8>), String> {
        let response =
            if is_deletion { self.octocrab._delete(uri, None::<&()>).await } else { self.octocrab._get(uri).await };
        let response = response.map_err(|error| short(&error))?;
        let (status, wait) = (response.status().as_u16(), wait_in(response.headers()));
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes();
        Ok((status, wait, body.to_vec()))
    }

    /// Waits for the server, as long as there is patience left.
    async fn wait(&self, what: &str, time: Duration, message: &str) -> Result<(), ListError> {
        let time = time.max(Duration::from_millis(1));
        {
            let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(left) = patience.checked_sub(time) else {
                return Err(ListError::Limited(format!(
                    "GitHub limits requests ({}) and asks to wait {} s, so this run ends here: it could not {what}. What is left is \
                     done by the next run.",
                    excerpt(message.as_bytes()),
                    time.as_secs()
                )));
            };
            *patience = left;
        }
        tracing::info!("GitHub limits requests; waiting {} s.", time.as_secs());
        tokio::time::sleep(time).await;
        Ok(())
    }

    async fn get<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<Result<T, Refused>, ListError> {
        Ok(match self.send(what, false, path).await? {
            Ok(body) => Ok(from_json(&body)
                .map_err(|error| ListError::Failed(format!("Cannot {what}: the answer cannot be read: {error}.")))?),
            Err(refused) => Err(refused),
        })
    }

    /// Reads all pages; None if entries were deleted meanwhile, so that some may be missing.
    async fn pages(&self) -> Result<Option<Vec<ActionsCacheItem>>, ListError> {
        let (mut found, mut most): (Vec<ActionsCacheItem>, u64) = (Vec::new(), 0);
        for page in 1.. {
            // Oldest first, so that new entries come last and move no others to another page.
            let path = format!("/actions/caches?sort=created_at&direction=asc&per_page={PER_PAGE}&page={page}");
            let answer: ActionsCacheList = match self.get("list the cache", &path).await? {
                Ok(answer) => answer,
                Err(refused) => return Err(refusal("list the cache", "actions: read", &self.repository, &refused)),
            };
            let total = u64::try_from(answer.total_count).unwrap_or(0);
            if total < most {
                return Ok(None);
            }
            most = total;
            let is_last = answer.actions_caches.len() < PER_PAGE;
            found.extend(answer.actions_caches);
            if is_last {
                break;
            }
        }
        found.sort_by_key(|item| item.id);
        found.dedup_by_key(|item| item.id);
        Ok((found.len() as u64 >= most).then_some(found))
    }

    /// Waits until the next deletion may be sent: GitHub asks for a second between requests that change something.
    async fn pace(&self) {
        let wait = {
            let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let next = deleted.map_or(now, |last| (last + self.tuning.delete_interval).max(now));
            *deleted = Some(next);
            next.duration_since(now)
        };
        tokio::time::sleep(wait).await;
    }
}

#[async_trait]
impl Shelf for CacheShelf {
    fn describe(&self) -> String {
        format!("the cache of {}", self.repository)
    }

    async fn list(&self) -> Result<Vec<Listed>, ListError> {
        for _ in 0..LISTS {
            if let Some(items) = self.pages().await? {
                return Ok(items.into_iter().map(listed).collect());
            }
            tracing::debug!("the cache shrank while it was listed; listing it again");
        }
        Err(ListError::Failed(format!(
            "Entries were deleted from {} whenever it was listed, so the list was never complete. Check what else prunes this cache.",
            self.describe()
        )))
    }

    async fn delete(&self, entry: &Listed) -> Result<(), ListError> {
        self.pace().await;
        let what = format!("delete {}", entry.name);
        match self.send(&what, true, &format!("/actions/caches/{}", entry.id)).await? {
            Ok(_) => Ok(()),
            // It was evicted, or an earlier answer was lost. Without the permission, GitHub answers 403.
            Err(refused) if refused.status == 404 => Ok(()),
            Err(refused) => Err(refusal(&what, "actions: write", &self.repository, &refused)),
        }
    }

    fn records_lookups(&self) -> bool {
        true
    }

    async fn default_scope(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Repository {
            default_branch: String,
        }
        let found = self.get::<Repository>("read the repository", "").await.ok()?.ok()?;
        Some(format!("refs/heads/{}", found.default_branch))
    }

    async fn ref_state(&self, scope: &str) -> RefState {
        let number = scope.strip_prefix("refs/pull/").and_then(|rest| rest.split('/').next());
        if let Some(number) = number {
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            return if is_number { self.pull_state(number).await } else { RefState::Live };
        }
        self.branch_state(scope).await
    }
}

impl CacheShelf {
    async fn pull_state(&self, number: &str) -> RefState {
        #[derive(Deserialize)]
        struct Pull {
            state: String,
        }
        match self.get::<Pull>("read a pull request", &format!("/pulls/{number}")).await {
            Ok(Ok(pull)) if pull.state == "closed" => RefState::Closed,
            Ok(Ok(_)) => RefState::Live,
            Ok(Err(refused)) => {
                tracing::debug!("pull request {number} counts as open: {}, {}", refused.status, refused.message);
                RefState::Live
            }
            Err(error) => {
                tracing::debug!("pull request {number} counts as open: {error}");
                RefState::Live
            }
        }
    }

    /// A branch or tag that is not found counts as deleted only if the default branch is found in the same way: a token without
    /// `contents: read` may find none.
    async fn branch_state(&self, scope: &str) -> RefState {
        if self.exists(scope).await != Some(false) {
            return RefState::Live;
        }
        let can_see = self.sees_refs.get_or_init(async || match self.default_scope().await {
            Some(default) => self.exists(&default).await == Some(true),
            None => false,
        });
        if *can_see.await { RefState::Deleted } else { RefState::Live }
    }

    /// Whether the reference is in the list of references; None if that cannot be read.
    async fn exists(&self, scope: &str) -> Option<bool> {
        #[derive(Deserialize)]
        struct Named {
            r#ref: String,
        }
        let name = scope.strip_prefix("refs/")?;
        let path = format!("/git/matching-refs/{}", escaped(name));
        let (status, why) = match self.get::<Vec<Named>>("read a reference", &path).await {
            Ok(Ok(found)) => return Some(found.iter().any(|found| found.r#ref == scope)),
            Ok(Err(refused)) => (refused.status, refused.message),
            Err(error) => (0, error.to_string()),
        };
        tracing::debug!("{scope} counts as live: {status}, {why}");
        None
    }
}

/// Escapes a reference for a path; slashes stay.
fn escaped(name: &str) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    let mut out = String::new();
    for byte in name.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&super::calls::hex(&[byte]));
        }
    }
    out
}

fn listed(item: ActionsCacheItem) -> Listed {
    let kind = Kind::ALL.into_iter().find(|kind| version(*kind) == item.version);
    Listed {
        id: item.id.to_string(),
        kind,
        name: item.key,
        scope: item.r#ref.unwrap_or_default(),
        size: u64::try_from(item.size_in_bytes).unwrap_or(0),
        created: seconds(item.created_at.into()),
        accessed: Some(seconds(item.last_accessed_at.into())),
    }
}

/// The error for an answer that is neither success nor a limit.
fn refusal(what: &str, permission: &str, repository: &str, refused: &Refused) -> ListError {
    let Refused { status, message } = refused;
    match status {
        401 => ListError::Permission(format!(
            "Cannot {what}: GitHub does not accept the token ({message:?}). Use a valid one."
        )),
        403 | 404 => ListError::Permission(format!(
            "Cannot {what}: GitHub answers {status} ({message:?}). The token needs the permission `{permission}` for {repository}. In a \
             workflow, add it under `permissions:` of the job."
        )),
        _ => ListError::Failed(format!("Cannot {what}: GitHub answers {status}, {message:?}.")),
    }
}

/// The message in an error of the REST interface, without secrets.
fn message_in(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let message = serde_json::from_slice::<Message>(body).map(|found| found.message);
    message.map_or_else(|_| excerpt(body), |message| excerpt(message.as_bytes()))
}

/// How long an answer asks us to wait: `retry-after` in seconds, or until `x-ratelimit-reset` if no requests remain.
fn wait_in(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(seconds));
    }
    let reset = number("x-ratelimit-reset").filter(|_| number("x-ratelimit-remaining") == Some(0))?;
    Some(Duration::from_secs(reset.saturating_sub(now()) + 1))
}
