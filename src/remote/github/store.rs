//! Stores an entry: reserve the name, upload, commit. A reservation that is not committed makes its name unusable, so nothing is
//! reserved before its bytes are available.

use std::sync::atomic::Ordering;

use super::blob::BlobError;
use super::blob::source::Source;
use super::twirp::Method;
use super::upload::Upload;
use super::{Hub, calls};
use crate::remote::{Kind, Put, RemoteError};

/// Stores the bytes of `source` under `name`.
pub(super) async fn put(hub: &Hub, kind: Kind, name: &str, source: &Source) -> Result<Put, RemoteError> {
    if !hub.mode.writable() {
        return Err(hub.forbidden("saving", "write-only"));
    }
    if source.size() == 0 {
        return Err(RemoteError::Failed(format!("{name} is empty, but GitHub's cache does not store empty entries.")));
    }
    may_write(hub)?;
    hub.pacer.turn().await;
    // Another put may have been refused while this one waited.
    may_write(hub)?;
    let Some(url) = calls::create(&hub.twirp, kind, name).await? else {
        tracing::debug!("{name} is taken");
        return Ok(Put::Taken);
    };
    hub.creations.fetch_add(1, Ordering::Relaxed);
    let upload = Upload { http: &hub.http, url: &url, source, name, tuning: &hub.tuning };
    upload.run().await.map_err(|error| burnt(name, error))?;
    let size = source.size();
    let commit = calls::finalize(&hub.twirp, kind, name, size, &hub.tuning);
    let committed = tokio::time::timeout(hub.tuning.commit_budget, commit).await.unwrap_or_else(|_| {
        Err(RemoteError::Failed(format!("The commit of {name} was not answered in {:?}.", hub.tuning.commit_budget)))
    });
    match committed {
        // An answer got lost. Only we could commit this reservation, so if the entry can be found, we did.
        Ok(Put::Taken) | Err(RemoteError::Failed(_)) if was_committed(hub, kind, name).await => Ok(Put::Stored),
        other => other,
    }
}

/// Returns whether a lookup finds an entry of exactly this name. Lookups lag behind a little.
async fn was_committed(hub: &Hub, kind: Kind, name: &str) -> bool {
    if !hub.mode.readable() {
        return false;
    }
    for attempt in 0..2 {
        if attempt > 0 {
            tokio::time::sleep(hub.tuning.finalize_delay).await;
        }
        match calls::find(&hub.twirp, kind, &[name.to_owned()]).await {
            Ok(Some((found, _))) if found == name => return true,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!("whether {name} was committed is not known: {error}");
                return false;
            }
        }
    }
    false
}

fn may_write(hub: &Hub) -> Result<(), RemoteError> {
    hub.twirp.refused(Method::Create).map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// The address of an upload cannot be renewed, so if it expires, the reservation is lost too.
fn burnt(name: &str, error: BlobError) -> RemoteError {
    let why = reason(error);
    RemoteError::Failed(format!(
        "Cannot upload {name} to GitHub's cache: {why}. The name is used up without an entry; the next run uses \
        another one."
    ))
}

/// Why an upload failed, as a clause.
pub(super) fn reason(error: BlobError) -> String {
    match error {
        BlobError::Expired(why) => format!("{why}, the upload address is not valid or has expired"),
        BlobError::Again(why)
        | BlobError::Busy(why, _)
        | BlobError::Gone(why)
        | BlobError::Short(why)
        | BlobError::Slow(why)
        | BlobError::Failed(why) => why,
    }
}

#[cfg(test)]
mod tests;
