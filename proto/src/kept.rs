//! Queues that are empty give their memory back, but for a little: a burst must not pin it after it is over, nor must each small
//! one grow the queues anew.

use std::collections::VecDeque;

/// Memory that an empty queue keeps, in bytes.
const KEPT_BYTES: usize = 3 * 1024;

/// Capacity that an empty queue keeps, in entries.
pub(crate) const fn kept_capacity<T>() -> usize {
    KEPT_BYTES / size_of::<T>()
}

/// Comes after each entry that is removed from a queue.
#[inline]
pub(crate) fn shrink_queue<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > kept_capacity::<T>() {
        queue.shrink_to(kept_capacity::<T>());
    }
}
