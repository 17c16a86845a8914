//! Stores what is made meanwhile. While the last requests for one thing are answered, bytes of the next one are sent.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Number of things that are sent at once.
const AT_ONCE: usize = 2;
/// Number of things that may be here before they are stored, with the one that is being made. They take disk space.
const MOST_HERE: usize = 3;

/// Where things wait until they are sent.
pub(super) struct Queue<T> {
    places: Arc<Semaphore>,
    sender: mpsc::UnboundedSender<Waiting<T>>,
}

/// A thing, and its place among those that are here.
type Waiting<T> = (T, OwnedSemaphorePermit);

/// The other end of a [`Queue`].
pub(super) struct Sending<T>(mpsc::UnboundedReceiver<Waiting<T>>);

/// A place for a thing that is to be made.
pub(super) struct Place<'a, T>(&'a Queue<T>, OwnedSemaphorePermit);

impl<T> Queue<T> {
    pub(super) fn new() -> (Self, Sending<T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { places: Arc::new(Semaphore::new(MOST_HERE)), sender }, Sending(receiver))
    }

    /// Waits until another thing may be made. None if nothing more is sent.
    pub(super) async fn place(&self) -> Option<Place<'_, T>> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        (!self.sender.is_closed()).then_some(Place(self, place))
    }
}

impl<T> Place<'_, T> {
    /// What was made for this place is sent.
    pub(super) fn fill(self, thing: T) {
        // If nothing more is sent, there is an error that says why.
        let _ = self.0.sender.send((thing, self.1));
    }
}

impl<T> Sending<T> {
    /// Calls `store` with each thing and its number, from 0, and `stored` with the results in the same order. Returns the seconds in which
    /// something was being sent.
    ///
    /// # Errors
    /// The first error of `store`. Nothing more is sent then.
    pub(super) async fn run<R, E>(
        self,
        store: impl AsyncFn(u64, T) -> Result<R, E>,
        mut stored: impl FnMut(R),
    ) -> Result<f64, E> {
        let (store, mut seconds, mut until) = (&store, 0.0, Instant::now());
        let things = stream::unfold(self.0, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        let results = things.enumerate().map(|(number, (thing, place))| async move {
            let start = Instant::now();
            let result = store(number as u64, thing).await;
            drop(place);
            result.map(|result| (result, start, Instant::now()))
        });
        let mut results = std::pin::pin!(results.buffered(AT_ONCE));
        while let Some(result) = results.next().await {
            let (result, start, end) = result?;
            stored(result);
            seconds += end.saturating_duration_since(start.max(until)).as_secs_f64();
            until = until.max(end);
        }
        Ok(seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Barrier;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_next_thing_is_sent_before_the_last_one_is_stored() {
        let (queue, sending) = Queue::new();
        for number in 0..2 {
            queue.place().await.unwrap().fill(number);
        }
        drop(queue);
        let (both, mut stored) = (Barrier::new(2), Vec::new());
        let store = async |number: u64, thing: u64| {
            both.wait().await;
            if number == 0 {
                // The second one is stored first, and its result waits.
                tokio::task::yield_now().await;
            }
            Ok::<_, ()>((number, thing))
        };
        let seconds =
            timeout(LONG, sending.run(store, |result| stored.push(result))).await.expect("it waits for the second");
        assert!(seconds.is_ok_and(|seconds| seconds < LONG.as_secs_f64()));
        assert_eq!(stored, [(0, 0), (1, 1)]);
    }

    #[tokio::test]
    async fn only_so_many_things_are_here_before_they_are_stored() {
        let (queue, sending) = Queue::new();
        let (here, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let make = async {
            let queue = queue;
            for _ in 0..10 {
                let place = queue.place().await.unwrap();
                most.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                place.fill(());
            }
        };
        let store = async |_, ()| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            here.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(())
        };
        let mut stored = 0;
        let ((), result) =
            timeout(LONG, async { tokio::join!(make, sending.run(store, |()| stored += 1)) }).await.unwrap();
        assert!(result.is_ok());
        assert_eq!((stored, most.load(Ordering::SeqCst)), (10, MOST_HERE));
    }

    #[tokio::test]
    async fn after_an_error_nothing_more_is_made_or_sent() {
        let (queue, sending) = Queue::new();
        let count = AtomicUsize::new(0);
        let make = async {
            while let Some(place) = queue.place().await {
                place.fill(count.fetch_add(1, Ordering::SeqCst));
            }
        };
        let store = async |number, _| if number == 4 { Err("full") } else { Ok(()) };
        let mut stored = 0;
        let ((), result) =
            timeout(LONG, async { tokio::join!(make, sending.run(store, |()| stored += 1)) }).await.unwrap();
        assert_eq!((result, stored), (Err("full"), 4));
        assert!(count.load(Ordering::SeqCst) <= 4 + MOST_HERE);
    }
}
