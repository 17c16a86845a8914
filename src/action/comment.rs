//! The step of the action `comment/`. It fails only for invalid inputs: a comment that is missing is a warning.

use super::comment_inputs::CommentInputs;
use super::given::ActionInputs;
use super::job::{Job, annotator};
use super::outputs::set_all;
use crate::app::Failure;
use crate::app::comment::{Done, Scene, comment, requests, sentence};
use crate::app::print::print;
use crate::comment::publish::Published;
use crate::remote::Remote;
use crate::remote::github::Comments;
use crate::report::page;

/// Time for all of it.
const LIMIT: std::time::Duration = std::time::Duration::from_mins(10);

/// Writes the comment.
pub(super) async fn run() -> Result<(), Failure> {
    let inputs = CommentInputs::from_environment().map_err(Failure::usage)?;
    let job = Job::with(inputs.of_the_job().map_err(Failure::usage)?)?;
    let comments = Comments(requests(|name| job.variable(name))?);
    let place = job.place(Some(LIMIT)).inspect_err(|error| tracing::info!("The base is unknown: {error}")).ok();
    let project = job.project();
    let scene = Scene {
        from: &project,
        facts: &job.facts,
        remote: place.as_ref().map(|place| &*place.remote as &dyn Remote),
        github: place.as_ref().and_then(|place| place.github.as_deref()),
        keys: &job.keys,
        comments,
    };
    let done = match tokio::time::timeout(LIMIT, comment(&inputs.comment, &scene)).await {
        Ok(done) => done?,
        Err(_) => Done::Trouble(format!("The comment was not written within {} minutes.", LIMIT.as_secs() / 60)),
    };
    match &done {
        Done::Text(body) => print(body),
        Done::Trouble(why) => {
            let mut annotator = annotator();
            annotator.warning("nix-cache", why);
            annotator.finish();
        }
        Done::Written(_) | Done::Nothing(_) => tracing::info!("{}", sentence(&done)),
    }
    if !inputs.job.no_summarize {
        page::write("Comment on the pull request", &[sentence(&done)], &[], &[]);
    }
    if let Err(error) = set_all(outputs(&done)) {
        tracing::warn!("{error}");
    }
    Ok(())
}

fn outputs(done: &Done) -> Vec<(&'static str, String)> {
    let (result, comment) = match done {
        Done::Written(Published::Created(comment)) => ("created", Some(comment)),
        Done::Written(Published::Updated(comment)) => ("updated", Some(comment)),
        Done::Text(_) | Done::Nothing(_) => ("skipped", None),
        Done::Trouble(_) => ("failed", None),
    };
    vec![
        ("comment-result", result.to_owned()),
        ("comment-id", comment.map_or_else(String::new, |comment| comment.id.to_string())),
        ("comment-url", comment.map_or_else(String::new, |comment| comment.url.clone())),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::outputs::declared;
    use super::*;
    use crate::remote::github::Comment;

    #[test]
    fn the_action_declares_just_what_is_set() {
        let comment = Comment { id: 7, author: "a".to_owned(), url: "https://github.com/a/b/pull/1#x".to_owned() };
        let all = outputs(&Done::Written(Published::Updated(comment)));
        let set: BTreeSet<_> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(declared(include_str!("../../comment/action.yml")), set);
        assert!(declared(include_str!("../../hook/action.yml")).is_superset(&set));
        assert_eq!((&*all[0].1, &*all[1].1), ("updated", "7"));
        assert_eq!(outputs(&Done::Trouble(String::new()))[0].1, "failed");
    }
}
