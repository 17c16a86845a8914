//! Writes the comment: the earlier one is replaced, which is recognised by its first line and its author.
//!
//! Anybody can write a comment with the same first line. So another account's comment is never touched, even where the token could.

use crate::remote::github::{CallError, Comment, Comments, Pull, Refused};

/// The author of comments that are written with a job's own token.
pub(crate) const JOB: &str = "github-actions[bot]";
/// Number of times to look for the comment: an answer can be lost, or the comment deleted meanwhile.
const ROUNDS: usize = 2;

/// A comment that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    Created(Comment),
    Updated(Comment),
}

/// Replaces the comment of `author` on `pull` that begins with `marker` by `body`, or writes a new one.
///
/// # Errors
/// A sentence that says what is missing.
pub(crate) async fn publish(
    comments: &Comments,
    pull: &Pull,
    (marker, author): (&str, &str),
    body: &str,
) -> Result<Published, String> {
    let mut why = String::new();
    for _ in 0..ROUNDS {
        let known = match comments.marked(pull.number, marker).await {
            Ok(Ok(known)) => known,
            Ok(Err(refused)) => return Err(explain(&refused, "list the comments", comments, pull)),
            Err(error) => return Err(error.to_string()),
        };
        let ours = known.into_iter().find(|comment| comment.author.eq_ignore_ascii_case(author));
        let (answer, what) = match &ours {
            Some(comment) => (comments.update(comment.id, body).await, "update the comment"),
            None => (comments.create(pull.number, body).await, "write a comment"),
        };
        match answer {
            Ok(Ok(comment)) if ours.is_some() => return Ok(Published::Updated(comment)),
            Ok(Ok(comment)) => return Ok(Published::Created(comment)),
            // It was deleted after it was listed.
            Ok(Err(refused)) if refused.status == 404 && ours.is_some() => {
                why = explain(&refused, what, comments, pull);
            }
            Ok(Err(refused)) => return Err(explain(&refused, what, comments, pull)),
            Err(error @ CallError::Limited { .. }) => return Err(error.to_string()),
            // It may have been written nevertheless, so it is looked for before it is written again.
            Err(CallError::Failed(error)) => why = error,
        }
    }
    Err(why)
}

/// A sentence about an answer other than success.
fn explain(refused: &Refused, what: &str, comments: &Comments, pull: &Pull) -> String {
    if refused.message.to_lowercase().contains("locked") {
        return format!("Cannot {what}: the conversation of the pull request is locked ({:?}).", refused.message);
    }
    let text = refused.explain(what, "pull-requests: write", &comments.0.repository);
    if refused.is_about_rights() && pull.is_from_fork() {
        return format!(
            "{text} This pull request is from a fork, whose runs get a token that only reads: let a workflow on `workflow_run` write the \
             comment, as in examples/comment-forks.yml."
        );
    }
    text
}
