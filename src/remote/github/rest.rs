//! Lists the entries of the cache and their total size through the REST interface. This needs a token with `actions: read`.
//! Having none is normal, so every failure here is only a debug line.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use octocrab::models::actions::{ActionsCacheItem, ActionsCacheList, RepoActionsCacheUsage};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;

use super::config::RestConfig;
use super::redact::{chain, excerpt};
use super::tuning::Tuning;
use crate::base::bounds::{MAX_ANSWER, from_json};
use crate::remote::RemoteError;

const PER_PAGE: u8 = 100;

/// An entry of the repository's cache, by any tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntryInfo {
    /// Its name.
    pub key: String,
    /// Its version; [`super::version`] gives ours.
    pub version: String,
    pub size: u64,
    /// The Git reference that it belongs to. Empty if GitHub names none.
    pub git_ref: String,
    /// When it was last read.
    pub last_accessed: SystemTime,
    /// When it was stored.
    pub created: SystemTime,
}

/// Usage of the repository's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The number of entries.
    pub count: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// The REST interface for one repository.
pub struct Rest {
    pub(super) octocrab: Octocrab,
    pub(super) owner: String,
    pub(super) repository: String,
    timeout: Duration,
    pages: u32,
}

impl Rest {
    /// Creates the interface for `config`, on the shared client. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`RemoteError::Unavailable`] when the address, the repository or the token is invalid.
    pub fn new(http: reqwest::Client, config: &RestConfig, tuning: &Arc<Tuning>) -> Result<Self, RemoteError> {
        let wrong = |what: &str| RemoteError::Unavailable(format!("{what}, so GitHub's cache cannot be listed."));
        let (owner, repository) = config
            .repository
            .split_once('/')
            .filter(|(owner, name)| plain(owner) && plain(name))
            .ok_or_else(|| wrong(&format!("GITHUB_REPOSITORY is {:?} and not owner/name", config.repository)))?;
        // The builder would panic on a token that is not a valid header value.
        if !config.token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("The token has characters that are not allowed in a token"));
        }
        // Its user agent is `octocrab`; our name would only be added to that.
        let octocrab = Octocrab::builder()
            .base_uri(&*config.api_url)
            .map_err(|_| wrong("GITHUB_API_URL is not an address"))?
            .personal_token(config.token.expose_secret())
            .build_with_reqwest(http)
            .map_err(|error| wrong(&short(&error)))?;
        let (owner, repository) = (owner.to_owned(), repository.to_owned());
        Ok(Self { octocrab, owner, repository, timeout: tuning.rpc_timeout, pages: tuning.rest_pages })
    }

    /// Lists all entries whose key starts with `prefix`, oldest first. None if the list is incomplete, because a missing entry
    /// counts as evicted.
    pub async fn caches(&self, prefix: &str) -> Option<Vec<CacheEntryInfo>> {
        let mut found = Vec::new();
        let mut most = 0;
        for page in 1..=self.pages {
            // Oldest first, so that new entries come last and do not move others to another page.
            let query = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("key", prefix), ("sort", "created_at"), ("direction", "asc")])
                .extend_pairs([("per_page", &*PER_PAGE.to_string()), ("page", &*page.to_string())])
                .finish();
            let answer: ActionsCacheList = self.answer("list", &format!("caches?{query}")).await?;
            if answer.total_count < most {
                tracing::debug!("GitHub's cache shrank while it was listed");
                return None;
            }
            most = answer.total_count;
            let last = answer.actions_caches.len() < usize::from(PER_PAGE);
            found.extend(answer.actions_caches.into_iter().map(info));
            if last {
                return Some(found);
            }
        }
        tracing::debug!("GitHub's cache has more than {} entries under {prefix}", found.len());
        None
    }

    /// Returns the usage of the repository's cache by all tools.
    pub async fn usage(&self) -> Option<Usage> {
        let usage: RepoActionsCacheUsage = self.answer("measure", "cache/usage").await?;
        Some(Usage {
            count: u64::try_from(usage.active_caches_count).ok()?,
            bytes: u64::try_from(usage.active_caches_size_in_bytes).ok()?,
        })
    }

    async fn answer<T: DeserializeOwned>(&self, what: &str, path: &str) -> Option<T> {
        match tokio::time::timeout(self.timeout, self.get(path)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(why)) => tracing::debug!("cannot {what} GitHub's cache: {why}"),
            Err(_) => tracing::debug!("cannot {what} GitHub's cache: no answer in {:?}", self.timeout),
        }
        None
    }
}

impl Rest {
    /// Requests a path below the repository's actions.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        self.request(&format!("actions/{path}")).await
    }

    /// Requests a path below the repository, within the time of a call.
    pub(super) async fn below_repository<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let answer = tokio::time::timeout(self.timeout, self.request(path)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer in {} s", self.timeout.as_secs())))
    }

    /// octocrab itself would read answers and errors of any size.
    async fn request<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let path = format!("/repos/{}/{}/{path}", self.owner, self.repository);
        let response = self.octocrab._get(path).await.map_err(|error| short(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes();
        if !status.is_success() {
            return Err(format!("it answered {status}, {}", excerpt(&body)));
        }
        from_json(&body).map_err(|error| format!("its answer cannot be read: {error}"))
    }
}

/// Formats an error of octocrab as one line, without its backtrace.
pub(super) fn short(error: &octocrab::Error) -> String {
    excerpt(chain(error).as_bytes())
}

/// Returns whether `text` can be used in a path unescaped.
fn plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn info(item: ActionsCacheItem) -> CacheEntryInfo {
    CacheEntryInfo {
        key: item.key,
        version: item.version,
        size: u64::try_from(item.size_in_bytes).unwrap_or(0),
        git_ref: item.r#ref.unwrap_or_default(),
        last_accessed: item.last_accessed_at.into(),
        created: item.created_at.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::http::client;
    use crate::remote::github::testing::{answer, serve};
    use axum::extract::Query;
    use axum::http::HeaderMap;
    use axum::routing::get;
    use axum::{Json, Router};
    use secrecy::SecretString;
    use serde_json::{Value, json};
    use std::collections::HashMap;

    async fn rest(router: Router, path: &str) -> Rest {
        let api_url = format!("{}{path}", serve(router).await);
        let config = RestConfig { api_url, repository: "own/repo".into(), token: SecretString::from("ghs_secret") };
        Rest::new(client(None).unwrap(), &config, &Arc::new(Tuning { rest_pages: 3, ..Tuning::default() })).unwrap()
    }

    fn item(index: u64) -> Value {
        json!({"id": index, "ref": "refs/heads/main", "key": format!("k{index}"), "version": "v",
            "size_in_bytes": index, "created_at": "2026-09-21T14:13:20Z", "last_accessed_at": "2026-09-21T14:13:21.5Z"})
    }

    /// A repository with `count` entries that loses `loss` of them with every page.
    fn listing(count: u64, loss: u64) -> Router {
        let list = move |headers: HeaderMap, Query(query): Query<HashMap<String, String>>| async move {
            assert_eq!(headers["authorization"], "Bearer ghs_secret");
            assert_eq!(headers.get_all("user-agent").iter().count(), 1);
            assert_eq!((&*query["key"], &*query["sort"], &*query["direction"]), ("k+/", "created_at", "asc"));
            let page = query["page"].parse::<u64>().unwrap() - 1;
            let (start, count) = (page * 100, count - page * loss);
            let items: Vec<Value> = (start..count.min(start + 100)).map(item).collect();
            Json(json!({"total_count": count, "actions_caches": items}))
        };
        Router::new().route("/repos/own/repo/actions/caches", get(list))
    }

    #[tokio::test]
    async fn all_pages_of_a_listing_are_read() {
        let found = rest(listing(205, 0), "").await.caches("k+/").await.unwrap();
        assert_eq!(found.len(), 205);
        let known = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        assert_eq!(found[204].key, "k204");
        assert_eq!((found[204].size, &*found[204].git_ref, found[204].created), (204, "refs/heads/main", known));
        assert_eq!(found[204].last_accessed, known + Duration::from_millis(1500));
        assert_eq!(rest(listing(200, 0), "/").await.caches("k+/").await.unwrap().len(), 200);
    }

    #[tokio::test]
    async fn a_listing_that_is_not_complete_is_none() {
        assert_eq!(rest(listing(301, 0), "").await.caches("k+/").await, None);
        assert_eq!(rest(listing(205, 1), "").await.caches("k+/").await, None);
    }

    #[tokio::test]
    async fn a_base_address_may_have_a_path() {
        let usage = || async {
            Json(json!({"full_name": "own/repo", "active_caches_size_in_bytes": 9, "active_caches_count": 2}))
        };
        let router = Router::new().route("/api/v3/repos/own/repo/actions/cache/usage", get(usage));
        assert_eq!(rest(router, "/api/v3").await.usage().await, Some(Usage { count: 2, bytes: 9 }));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_no_answer() {
        let endless = |status: u16| {
            let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
            answer(status, &[], axum::body::Body::from_stream(pieces))
        };
        for status in [200, 404, 500] {
            let rest = rest(Router::new().fallback(async move || endless(status)), "").await;
            assert_eq!((rest.caches("k").await, rest.usage().await), (None, None), "{status}");
        }
    }

    #[tokio::test]
    async fn no_permission_is_no_answer() {
        let forbidden = || async { answer(403, &[], r#"{"message":"Resource not accessible by integration"}"#) };
        let rest = rest(Router::new().fallback(forbidden), "").await;
        assert_eq!((rest.caches("k").await, rest.usage().await), (None, None));
    }

    #[tokio::test]
    async fn what_cannot_be_right_is_refused_before_any_request() {
        let build = |api_url: &str, repository: &str, token: &str| {
            let config =
                RestConfig { api_url: api_url.into(), repository: repository.into(), token: SecretString::from(token) };
            Rest::new(client(None).unwrap(), &config, &Arc::default()).err().map(|error| error.to_string())
        };
        assert_eq!(build("https://api.test", "a/b", "t"), None);
        assert!(build("https://api.test", "a/b/../c", "t").unwrap().contains("GITHUB_REPOSITORY"));
        assert!(build("https://api.test", "ab", "t").unwrap().contains("GITHUB_REPOSITORY"));
        let error = build("https://api.test", "a/b", "se cret").unwrap();
        assert!(error.contains("token") && !error.contains("cret"), "{error}");
    }
}
