//! The median of figures of jobs.

use std::cmp::Ordering;

/// The median; of an even number of values, the lower one of the two in the middle, so that it is a value that occurred.
pub(crate) fn lower_median<T>(values: impl IntoIterator<Item = T>, order: impl FnMut(&T, &T) -> Ordering) -> Option<T> {
    let mut sorted: Vec<T> = values.into_iter().collect();
    sorted.sort_unstable_by(order);
    let middle = sorted.len().checked_sub(1)? / 2;
    Some(sorted.swap_remove(middle))
}
