//! Chooses the commit to compare with.
//!
//! A target that did not change since the base needs no job only if it had one there. For a pull request this is assumed, because
//! its target branch has separate runs. For a push it is not, because the run of the previous push may have been cancelled. A push is
//! therefore compared with the newest earlier commit that was planned, or with none if there is no such commit.

use super::Repository;
use super::memory::{Planned, PlannedCommit};

/// How far back a planned commit is looked for.
const FAR: usize = 64;

/// Whether what is at the base counts as built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Yes: other runs see to that.
    Assumed,
    /// Only if the base was planned.
    Planned,
}

/// What is known of the base beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// This commit.
    Commit {
        /// Its name, as Git takes it.
        commit: String,
        /// Whether what is there counts as built.
        trust: Trust,
    },
    /// There is none.
    None {
        /// Why, as half a sentence.
        why: String,
    },
}

/// What the commit here is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// The commit; None when there is nothing to compare with.
    pub commit: Option<String>,
    /// How it came to be this one, or why there is none.
    pub why: String,
    /// What was planned for it.
    pub planned: Option<PlannedCommit>,
    /// The files that differ, or why that is not known.
    pub changed: Result<Vec<String>, String>,
}

impl Base {
    fn none(why: String) -> Self {
        Self { commit: None, why: why.clone(), planned: None, changed: Err(why) }
    }

    /// The first letters of the commit's name.
    #[must_use]
    pub(crate) fn short(&self) -> &str {
        self.commit.as_deref().map_or("", short)
    }
}

/// The first letters of a commit's name.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// The name under which the plan of a commit is kept: only plans of the same flake that look at the same targets (`scope`) know what
/// was planned.
pub(super) fn name(commit: &str, scope: &str) -> String {
    format!("{commit}:{scope}")
}

/// The base that `wish` comes to. `planned` is what is kept of plans; None where there is nowhere to keep them.
pub(super) fn choose(wish: &Wish, repository: Option<&Repository>, planned: Option<&Planned>, scope: &str) -> Base {
    let (commit, trust) = match wish {
        Wish::None { why } => return Base::none(why.clone()),
        Wish::Commit { commit, trust } => (commit.as_str(), *trust),
    };
    let Some(repository) = repository else { return Base::none("this is not a Git repository".to_owned()) };
    let got = repository.fetch(commit);
    let commit = repository.commit(commit).unwrap_or_else(|_| commit.to_owned());
    if let Some((ancestor, at)) = planned.and_then(|planned| nearest(repository, planned, &commit, scope)) {
        let why = if ancestor == commit {
            "planned before".to_owned()
        } else {
            format!("the newest one before {} that was planned", short(&commit))
        };
        return with_files(repository, ancestor, why, Some(at));
    }
    match (trust, planned, got) {
        (Trust::Planned, Some(_), _) => {
            Base::none(format!("no commit up to {} is known to have been planned", short(&commit)))
        }
        (_, _, Err(error)) => Base::none(format!("the base {} is not available: {error}", short(&commit))),
        (Trust::Assumed, ..) => with_files(repository, commit, "taken to be built".to_owned(), None),
        (Trust::Planned, None, _) => {
            with_files(repository, commit, "taken to be built, as no plans are kept without a cache".to_owned(), None)
        }
    }
}

fn with_files(repository: &Repository, commit: String, why: String, planned: Option<PlannedCommit>) -> Base {
    let changed = repository.fetch(&commit).and_then(|()| repository.changed_since(&commit));
    let changed = changed.map_err(|error| format!("the changed files are not known: {error}"));
    Base { commit: Some(commit), why, planned, changed }
}

/// The newest of `commit` and its first parents that was planned.
fn nearest(repository: &Repository, planned: &Planned, commit: &str, scope: &str) -> Option<(String, PlannedCommit)> {
    let of = |commit: &str| planned.get(&name(commit, scope)).cloned();
    if let Some(at) = of(commit) {
        return Some((commit.to_owned(), at));
    }
    let search = || {
        let line = repository.first_parents(commit, FAR);
        line.into_iter().find_map(|commit| of(&commit).map(|at| (commit, at)))
    };
    search().or_else(|| {
        // Where nothing kept is of this flake, more history would not help.
        let any = planned.keys().any(|key| key.split_once(':').is_some_and(|(_, of)| of == scope));
        (any && repository.deepen(commit).is_ok()).then(search)?
    })
}
