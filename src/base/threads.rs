//! Running work in parallel threads.

use std::io;

/// Applies `work` to all items at the same time, with one thread per item, and returns the results in order. For a few items that
/// wait for the system.
///
/// # Errors
/// The error of the first item that failed; `crashed` creates the error for a thread that panicked.
pub(crate) fn side_by_side<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
    crashed: impl Fn(io::Error) -> E,
) -> Result<Vec<R>, E> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<R, E>>| {
            thread.join().unwrap_or_else(|_| Err(crashed(io::Error::other("a thread crashed"))))
        };
        // All threads are joined before the first error is returned.
        threads.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_wins() {
        let give = |number: &u32| if *number < 3 { Ok(number * 2) } else { Err(number.to_string()) };
        let crashed = |error: io::Error| error.to_string();
        assert_eq!(side_by_side(&[2, 0, 1], give, crashed), Ok(vec![4, 0, 2]));
        assert_eq!(side_by_side(&[1, 5, 3], give, crashed), Err("5".to_owned()));
        assert_eq!(side_by_side(&[], give, crashed), Ok(Vec::new()));
    }

    #[test]
    fn a_crash_is_an_error() {
        let work = |number: &u32| if *number == 2 { panic!("as it should") } else { Ok::<_, String>(*number) };
        assert_eq!(side_by_side(&[1, 2, 3], work, |error| error.to_string()), Err("a thread crashed".to_owned()));
    }
}
