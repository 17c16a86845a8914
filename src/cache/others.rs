//! What other jobs have written under the key of a save, looked up while the last layer of this job is on its way.

use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Context;
use crate::remote::Kind;
use crate::series::{Ahead, Series, SystemClock, generation_prefix};

/// Time after which it is looked up again: as long as lookups lag.
const FRESH: Duration = Duration::from_secs(3);

/// What they have written, and when that was looked up.
pub(super) struct Others(Ahead, Instant);

impl Others {
    /// Returns it if it is recent.
    pub(super) fn fresh(self) -> Option<Ahead> {
        (self.1.elapsed() < FRESH).then_some(self.0)
    }
}

/// Waits for `work`, and looks up what others have written as soon as `all_packed`. None if that has not succeeded by then.
pub(super) async fn look_beside<T>(
    work: impl Future<Output = T>,
    context: &Context,
    all_packed: &Notify,
) -> (T, Option<Others>) {
    let look = async {
        all_packed.notified().await;
        look(context).await
    };
    tokio::pin!(work, look);
    tokio::select! {
        biased;
        done = &mut work => (done, None),
        found = &mut look => (work.await, found),
    }
}

async fn look(context: &Context) -> Option<Others> {
    let (clock, prefix, begin) = (SystemClock::start(), generation_prefix(&context.identity.key), Instant::now());
    let remote = &*context.place.remote;
    let series = Series { remote, kind: Kind::Snapshot, prefix, clock: &clock, writers: 0 };
    let found = if remote.is_readable() { series.look_ahead().await } else { return None };
    let found = found.inspect_err(|error| tracing::debug!("what others have written is not known yet: {error}"));
    Some(Others(found.ok()?, begin))
}
