//! Lists all entries of the repository's cache and deletes some, for pruning. Needs a token with `actions: write`.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use octocrab::models::actions::{ActionsCacheItem, ActionsCacheList};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::config::RestConfig;
use super::requests::{Call, CallError, Refused, Requests};
use super::tuning::Tuning;
use super::version;
use crate::base::clock::seconds;
use crate::remote::listing::{ListError, Listed, RefState, Shelf};
use crate::remote::{Kind, RemoteError};

const PER_PAGE: usize = 100;
/// Number of times that a list is begun again because entries were deleted while it was read.
const LISTS: usize = 5;

/// The cache of a repository, for listing and deleting.
pub(crate) struct CacheShelf {
    requests: Requests,
    /// When the last deletion was sent.
    deleted: Mutex<Option<Instant>>,
    /// Whether the token can see branches.
    sees_refs: OnceCell<bool>,
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
        let requests = Requests::new(config, tuning, ca_file)?;
        Ok(Self { requests, deleted: Mutex::new(None), sees_refs: OnceCell::new() })
    }

    async fn get<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<Result<T, Refused>, ListError> {
        Ok(self.requests.get(what, path).await?)
    }

    /// Reads all pages; None if entries were deleted meanwhile, so that some may be missing.
    async fn pages(&self) -> Result<Option<Vec<ActionsCacheItem>>, ListError> {
        let (mut found, mut most): (Vec<ActionsCacheItem>, u64) = (Vec::new(), 0);
        for page in 1.. {
            // Oldest first, so that new entries come last and move no others to another page.
            let path = format!("/actions/caches?sort=created_at&direction=asc&per_page={PER_PAGE}&page={page}");
            let answer: ActionsCacheList = match self.get("list the cache", &path).await? {
                Ok(answer) => answer,
                Err(refused) => {
                    return Err(refusal("list the cache", "actions: read", &self.requests.repository, &refused));
                }
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
            let next = deleted.map_or(now, |last| (last + self.requests.tuning.delete_interval).max(now));
            *deleted = Some(next);
            next.duration_since(now)
        };
        tokio::time::sleep(wait).await;
    }
}

#[async_trait]
impl Shelf for CacheShelf {
    fn describe(&self) -> String {
        format!("the cache of {}", self.requests.repository)
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
        match self.requests.send(&what, Call::Delete, &format!("/actions/caches/{}", entry.id)).await? {
            Ok(_) => Ok(()),
            // It was evicted, or an earlier answer was lost. Without the permission, GitHub answers 403.
            Err(refused) if refused.status == 404 => Ok(()),
            Err(refused) => Err(refusal(&what, "actions: write", &self.requests.repository, &refused)),
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
    let why = refused.explain(what, permission, repository);
    if refused.is_about_rights() { ListError::Permission(why) } else { ListError::Failed(why) }
}

impl From<CallError> for ListError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Limited { .. } => Self::Limited(format!("{error} What is left is done by the next run.")),
            CallError::Failed(why) => Self::Failed(why),
        }
    }
}
