//! What a request asks for, told from its method, path and query.

use axum::http::{HeaderMap, Method, Uri};
use serde::{Deserialize, Serialize};

/// A query, decoded.
pub(super) type Query = Vec<(String, String)>;

/// The first value of `name` in a query.
pub(super) fn value<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The operations of the service. Faults name them, and requests are counted by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// `CreateCacheEntry`.
    Create,
    /// `FinalizeCacheEntryUpload`.
    Finalize,
    /// `GetCacheEntryDownloadURL`.
    Lookup,
    /// `CreateArtifact`.
    CreateArtifact,
    /// `FinalizeArtifact`.
    FinalizeArtifact,
    /// `ListArtifacts`, of the run of the token.
    ListArtifacts,
    /// `GetSignedArtifactURL`.
    SignArtifact,
    /// A blob in one request.
    PutBlob,
    /// One block of a blob.
    PutBlock,
    /// The list that makes blocks a blob.
    PutBlockList,
    /// The bytes of a blob, or a range of them.
    Download,
    /// The size of a blob.
    Head,
    /// REST: the list of caches.
    List,
    /// REST: removal by id or by key.
    Delete,
    /// REST: how much is used.
    Usage,
    /// REST: the artifacts of the repository, or of a run.
    Artifacts,
    /// REST: the redirect to an artifact.
    ArtifactZip,
    /// REST: a run.
    Run,
    /// REST: the pull requests from a branch.
    Pulls,
    /// REST: the comments on a pull request, or a new one.
    Comments,
    /// The path of another service: cache v1, an unknown method, a typing error.
    Unknown,
}

impl Operation {
    /// Its name in faults and statistics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Finalize => "finalize",
            Self::Lookup => "lookup",
            Self::CreateArtifact => "create-artifact",
            Self::FinalizeArtifact => "finalize-artifact",
            Self::ListArtifacts => "list-artifacts",
            Self::SignArtifact => "sign-artifact",
            Self::PutBlob => "put-blob",
            Self::PutBlock => "put-block",
            Self::PutBlockList => "put-block-list",
            Self::Download => "download",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Usage => "usage",
            Self::Artifacts => "artifacts",
            Self::ArtifactZip => "artifact-zip",
            Self::Run => "run",
            Self::Pulls => "pulls",
            Self::Comments => "comments",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it is one of the three remote calls.
    pub(crate) fn is_call(self) -> bool {
        matches!(self, Self::Create | Self::Finalize | Self::Lookup)
    }

    /// Whether it is a remote call for artifacts.
    pub(crate) fn is_of_artifacts(self) -> bool {
        matches!(self, Self::CreateArtifact | Self::FinalizeArtifact | Self::ListArtifacts | Self::SignArtifact)
    }

    /// Whether it sends bytes of a blob, or their list.
    pub(crate) fn is_upload(self) -> bool {
        matches!(self, Self::PutBlob | Self::PutBlock | Self::PutBlockList)
    }

    /// Whether it goes to a signed address.
    pub(crate) fn is_blob(self) -> bool {
        self.is_upload() || matches!(self, Self::Download | Self::Head)
    }

    /// Whether it belongs to the REST interface.
    pub(crate) fn is_rest(self) -> bool {
        matches!(self, Self::List | Self::Delete | Self::Usage) || self.is_of_runs()
    }

    /// Whether it belongs to the part of the REST interface about runs and their artifacts.
    pub(crate) fn is_of_runs(self) -> bool {
        matches!(self, Self::Artifacts | Self::ArtifactZip | Self::Run | Self::Pulls | Self::Comments)
    }
}

/// The folder of the three remote calls.
pub(super) const TWIRP: &str = "/twirp/github.actions.results.api.v1.CacheService/";

/// The folder of those for artifacts.
pub(super) const ARTIFACTS: &str = "/twirp/github.actions.results.api.v1.ArtifactService/";

/// The container that signed addresses name.
pub(super) const CONTAINER: &str = "/actions-cache/";

/// One request without its body.
#[derive(Debug)]
pub(super) struct Call {
    /// What is asked for.
    pub operation: Operation,
    /// With which method.
    pub method: Method,
    /// The path, still encoded.
    pub path: String,
    /// The query, decoded.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
}

impl Call {
    /// Tells what a request asks for.
    pub(super) fn new(method: Method, uri: &Uri, headers: HeaderMap) -> Self {
        let path = uri.path().to_owned();
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Self { operation: operation(&method, &path, &query), method, path, query, headers }
    }

    /// The name of the blob that a signed address is about.
    pub(super) fn blob(&self) -> &str {
        self.path.strip_prefix(CONTAINER).unwrap_or_default()
    }

    /// A value of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        value(&self.query, name)
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

fn operation(method: &Method, path: &str, query: &Query) -> Operation {
    if let Some(call) = path.strip_prefix(TWIRP) {
        return match call {
            "CreateCacheEntry" if method == Method::POST => Operation::Create,
            "FinalizeCacheEntryUpload" if method == Method::POST => Operation::Finalize,
            "GetCacheEntryDownloadURL" if method == Method::POST => Operation::Lookup,
            _ => Operation::Unknown,
        };
    }
    if let Some(call) = path.strip_prefix(ARTIFACTS) {
        return match call {
            "CreateArtifact" if method == Method::POST => Operation::CreateArtifact,
            "FinalizeArtifact" if method == Method::POST => Operation::FinalizeArtifact,
            "ListArtifacts" if method == Method::POST => Operation::ListArtifacts,
            "GetSignedArtifactURL" if method == Method::POST => Operation::SignArtifact,
            _ => Operation::Unknown,
        };
    }
    if path.starts_with(CONTAINER) {
        return match (method.as_str(), value(query, "comp")) {
            ("PUT", None) => Operation::PutBlob,
            ("PUT", Some("block")) => Operation::PutBlock,
            ("PUT", Some("blocklist")) => Operation::PutBlockList,
            ("GET", None) => Operation::Download,
            ("HEAD", None) => Operation::Head,
            _ => Operation::Unknown,
        };
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["repos", _, _, "actions", "caches"]) => Operation::List,
        ("DELETE", ["repos", _, _, "actions", "caches"] | ["repos", _, _, "actions", "caches", _]) => Operation::Delete,
        ("GET", ["repos", _, _, "actions", "cache", "usage"]) => Operation::Usage,
        ("GET", ["repos", _, _, "actions", "artifacts"] | ["repos", _, _, "actions", "runs", _, "artifacts"]) => {
            Operation::Artifacts
        }
        ("GET", ["repos", _, _, "actions", "artifacts", _, "zip"]) => Operation::ArtifactZip,
        (
            "GET",
            ["repos", _, _, "actions", "runs"]
            | ["repos", _, _, "actions", "runs", _]
            | ["repos", _, _, "actions", "runs", _, "jobs"],
        ) => Operation::Run,
        ("GET" | "POST", ["repos", _, _, "issues", _, "comments"]) => Operation::Comments,
        ("GET", ["repos", _, _, "pulls"]) => Operation::Pulls,
        _ => Operation::Unknown,
    }
}
