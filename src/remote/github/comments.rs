//! Pull requests and their comments, through the REST interface. Needs a token with `pull-requests: write`.

use serde::Deserialize;
use serde_json::json;

use super::pull_request::{Account, Pull};
use super::requests::{Answer, Call, CallError, Refused, Requests, read};

const PER_PAGE: usize = 100;
/// Most pull requests from a branch that are looked at, which are all but for bots that use a branch again and again.
pub(crate) const MOST_PULLS: usize = 50;
/// Most pages of a list: 10,000 comments.
const MOST_PAGES: usize = 100;

/// A comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    pub id: u64,
    /// The login of its author; empty if the account was deleted.
    pub author: String,
    /// Its page.
    pub url: String,
}

#[derive(Deserialize)]
struct WireComment {
    id: u64,
    #[serde(default)]
    user: Option<Account>,
    #[serde(default)]
    html_url: String,
    #[serde(default)]
    body: Option<String>,
}

impl From<WireComment> for Comment {
    fn from(wire: WireComment) -> Self {
        let author = wire.user.map(|user| user.login).unwrap_or_default();
        Self { id: wire.id, author, url: wire.html_url }
    }
}

impl Requests {
    /// The pull requests from a branch of `owner`, open or not, the most recently changed first.
    pub(crate) async fn pulls_from(&self, owner: &str, branch: &str) -> Answer<Vec<Pull>> {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("state", "all"),
                ("sort", "updated"),
                ("direction", "desc"),
                ("per_page", &*MOST_PULLS.to_string()),
            ])
            .append_pair("head", &format!("{owner}:{branch}"))
            .finish();
        self.get("list pull requests", &format!("/pulls?{query}")).await
    }
}

/// The pull requests of a repository.
pub(crate) struct Comments(pub Requests);

impl Comments {
    /// The pull request of this number.
    pub(crate) async fn pull(&self, number: u64) -> Answer<Pull> {
        self.0.get(&format!("read the pull request {number}"), &format!("/pulls/{number}")).await
    }

    /// The comments on a pull request whose text begins with `marker`, oldest first. All pages are read: with a part of them, an older comment
    /// would not be found, and another one would be written.
    pub(crate) async fn marked(&self, number: u64, marker: &str) -> Answer<Vec<Comment>> {
        let what = format!("list the comments on the pull request {number}");
        let mut found = Vec::new();
        for page in 1..=MOST_PAGES {
            let path = format!("/issues/{number}/comments?per_page={PER_PAGE}&page={page}");
            let comments: Vec<WireComment> = match self.0.get(&what, &path).await? {
                Ok(comments) => comments,
                Err(refused) => return Ok(Err(refused)),
            };
            let is_last = comments.len() < PER_PAGE;
            let is_marked =
                |comment: &WireComment| comment.body.as_ref().is_some_and(|body| body.trim_start().starts_with(marker));
            found.extend(comments.into_iter().filter(is_marked).map(Comment::from));
            if is_last {
                return Ok(Ok(found));
            }
        }
        Err(CallError::Failed(format!("Cannot {what}: there are more than {}.", MOST_PAGES * PER_PAGE)))
    }

    /// Writes a comment.
    pub(crate) async fn create(&self, number: u64, body: &str) -> Answer<Comment> {
        let path = format!("/issues/{number}/comments");
        self.write("write a comment", Call::Post(&json!({ "body": body })), &path).await
    }

    /// Replaces the text of a comment.
    pub(crate) async fn update(&self, id: u64, body: &str) -> Answer<Comment> {
        let path = format!("/issues/comments/{id}");
        self.write("update the comment", Call::Patch(&json!({ "body": body })), &path).await
    }

    async fn write(&self, what: &str, call: Call<'_>, path: &str) -> Answer<Comment> {
        match self.0.send(what, call, path).await? {
            Ok(answer) => Ok(Ok(read::<WireComment>(what, &answer)?.into())),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// The login of the token's account; None for the token of a job or of an app, which may not ask.
    pub(crate) async fn login(&self) -> Result<Option<String>, CallError> {
        let what = "ask who the token belongs to";
        match self.0.send_to(what, Call::Get, "/user").await? {
            Ok(answer) => Ok(Some(read::<Account>(what, &answer)?.login)),
            Err(Refused { status, message }) => {
                tracing::debug!("GitHub does not say who the token belongs to: {status}, {message}");
                Ok(None)
            }
        }
    }
}
