//! Why layers are missing: GitHub's list of entries distinguishes evicted entries from those that lookups do not find yet.

use super::job::{Job, Place};
use crate::base::note::{Code, Note};
use crate::cache::{LayerFetch, LayerState};
use crate::remote::Kind;
use crate::remote::github::{CacheEntryInfo, Rest, version};
use crate::report::Severity;

/// Largest number of layers that are checked: each needs one request, of a thousand per hour and repository.
const MOST: usize = 20;

/// Adds a note about missing layers that are no longer in any scope of GitHub's cache. Does nothing without the permission
/// `actions: read`.
pub(super) async fn note(job: &mut Job, place: &Place, layers: &[LayerFetch]) {
    let missing: Vec<&LayerFetch> = layers.iter().filter(|layer| layer.state == LayerState::Missing).collect();
    let Some(rest) = place.github.as_ref().and_then(|github| github.rest()).filter(|_| !missing.is_empty()) else {
        return;
    };
    let mut evicted = Vec::new();
    for layer in missing.into_iter().take(MOST) {
        match is_evicted(rest, &layer.id).await {
            Some(true) => evicted.push(layer),
            Some(false) => tracing::debug!("layer {} is in the list of GitHub's cache", layer.id),
            None => return,
        }
    }
    if evicted.is_empty() {
        return;
    }
    let bytes = evicted.iter().map(|layer| layer.bytes).sum();
    let message = message(evicted.len(), layers.len(), bytes);
    tracing::info!("{message}");
    let remedy = "GitHub deletes what was not used for longest when the repository's cache is full, and everything after \
                  seven days without use. The next save stores what is needed again; `max-size` keeps this cache small, and \
                  the limit can be raised in the repository's settings.";
    job.report.note(Note::silent(Severity::Notice, Code::Evicted, message).with_remedy(remedy));
}

async fn is_evicted(rest: &Rest, id: &str) -> Option<bool> {
    let kept = rest.caches(id).await?;
    let layers = version(Kind::Layer);
    Some(!kept.iter().any(|entry: &CacheEntryInfo| entry.version == layers))
}

fn message(evicted: usize, all: usize, bytes: u64) -> String {
    let were = if evicted == 1 { "was" } else { "were" };
    format!(
        "{evicted} of {} that this job wanted {were} evicted from GitHub's cache ({}).",
        crate::base::human::count(all as u64, "layer"),
        crate::base::human::bytes(bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_was_and_two_were() {
        assert_eq!(
            message(1, 3, 2_500_000),
            "1 of 3 layers that this job wanted was evicted from GitHub's cache (2.4 MiB)."
        );
        assert!(message(2, 2, 0).starts_with("2 of 2 layers that this job wanted were evicted"));
    }
}
