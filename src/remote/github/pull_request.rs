//! Pull requests as the REST interface describes them.

use serde::Deserialize;

/// A pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Pull {
    pub number: u64,
    /// `open` or `closed`.
    pub state: String,
    /// Who opened it; None if the account was deleted.
    pub user: Option<Account>,
    pub head: Side,
    pub base: Side,
}

/// One of the two branches of a pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Side {
    /// The branch, short.
    #[serde(rename = "ref")]
    pub branch: String,
    /// Its newest commit.
    pub sha: String,
    /// Its repository; None if that was deleted.
    pub repo: Option<Repository>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Repository {
    /// `owner/name`.
    pub full_name: String,
    #[serde(default)]
    pub default_branch: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Account {
    pub login: String,
}

impl Side {
    /// The repository as `owner/name`; None if it was deleted.
    pub(crate) fn repository(&self) -> Option<&str> {
        self.repo.as_ref().map(|repo| &*repo.full_name)
    }
}

impl Pull {
    pub(crate) fn is_open(&self) -> bool {
        self.state == "open"
    }

    /// Whether it comes from another repository than that of its base.
    pub(crate) fn is_from_fork(&self) -> bool {
        self.head.repository() != self.base.repository()
    }

    /// The login of its author; empty if the account was deleted.
    pub(crate) fn author(&self) -> String {
        self.user.as_ref().map(|user| user.login.clone()).unwrap_or_default()
    }
}
