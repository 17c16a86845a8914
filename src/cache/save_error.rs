//! The errors that end a save early.

use super::outcome::{SaveOutcome, SaveReason};
use crate::base::note::{Code, Note};
use crate::remote::RemoteError;

/// An error that ends a save early, without harm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the new layer could not be written: {0}. Is the disk full?")]
    Pack(#[from] std::io::Error),
    #[error("a task failed: {0}.")]
    Task(#[from] tokio::task::JoinError),
}

/// Notes why nothing was saved.
pub(super) fn note_error(error: &SaveError, outcome: &mut SaveOutcome) {
    let message = format!("Nothing was saved: {error}");
    let (reason, note) = match error {
        // The user or the machine intends this.
        SaveError::Remote(RemoteError::Denied(_) | RemoteError::Unavailable(_)) => {
            (SaveReason::Refused, Note::info(Code::SaveRefused, message))
        }
        SaveError::Remote(RemoteError::StillOutOfTime(_)) => {
            (SaveReason::Failed, Note::info(Code::SaveFailed, message))
        }
        SaveError::Remote(RemoteError::Refused(_)) => (SaveReason::Refused, Note::warn(Code::SaveRefused, message)),
        _ => (SaveReason::Failed, Note::warn(Code::SaveFailed, message)),
    };
    outcome.reason = reason;
    outcome.notes.push(note);
}
