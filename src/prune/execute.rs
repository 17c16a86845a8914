//! Carries a plan out.
//!
//! 1. Everything but layers is deleted, in the order of the plan. A kill in between leaves layers that nothing names; the next run
//!    deletes them.
//! 2. The entries are listed again and planned again. A layer is deleted only if both plans say so: a job may have saved a snapshot
//!    in the meantime that names it.
//!
//! First of all, the layers of current keys are looked up, so that they are not evicted meanwhile.

use std::collections::BTreeSet;

use super::plan::Reason;
use super::prepare::{Place, Prepared, plan_for};
use crate::remote::{Kind, ListError, Listed};

/// What was deleted.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The deleted entries with the reasons.
    pub deleted: Vec<(Listed, Reason)>,
    /// Number of layers that were looked up, so that they are not evicted next.
    pub refreshed: u64,
    /// Why it ended early; None if everything was deleted.
    pub ended: Option<ListError>,
}

/// Deletes what the plan in `prepared` says, as far as it is possible.
pub(crate) async fn carry_out(place: &Place<'_>, prepared: Prepared) -> Done {
    let mut done = Done::default();
    let of = |prepared: &Prepared, layers: bool| -> Vec<(Listed, Reason)> {
        let all = prepared.plan.deletions.iter();
        let all = all.map(|(index, reason)| (prepared.entries[*index].clone(), *reason));
        all.filter(|(entry, _)| (entry.kind == Some(Kind::Layer)) == layers).collect()
    };
    let (first, layers) = (of(&prepared, false), of(&prepared, true));
    done.refreshed = refresh(place, &prepared).await;
    if let Err(error) = delete(place, first, &mut done).await {
        done.ended = Some(error);
        return done;
    }
    if layers.is_empty() {
        return done;
    }
    match plan_for(place, Some(prepared)).await {
        Ok(again) => {
            let still: BTreeSet<String> = of(&again, true).into_iter().map(|(entry, _)| entry.id).collect();
            let layers = layers.into_iter().filter(|(entry, _)| still.contains(&entry.id)).collect();
            done.ended = delete(place, layers, &mut done).await.err();
        }
        Err(error) => done.ended = Some(error),
    }
    done
}

/// Looks up the layers of current keys. Returns how many were found.
async fn refresh(place: &Place<'_>, prepared: &Prepared) -> u64 {
    let Some(remote) = place.remote else { return 0 };
    let names: BTreeSet<&String> = prepared.plan.refresh.iter().map(|index| &prepared.entries[*index].name).collect();
    let mut found = 0;
    for name in names {
        match remote.find(Kind::Layer, std::slice::from_ref(name)).await {
            Ok(entry) => found += u64::from(entry.is_some_and(|entry| entry.name == *name)),
            Err(error) => {
                tracing::debug!("layers are not looked up: {error}");
                break;
            }
        }
    }
    found
}

async fn delete(place: &Place<'_>, all: Vec<(Listed, Reason)>, done: &mut Done) -> Result<(), ListError> {
    for (entry, reason) in all {
        place.shelf.delete(&entry).await?;
        tracing::debug!("deleted {}", entry.name);
        done.deleted.push((entry, reason));
    }
    Ok(())
}
