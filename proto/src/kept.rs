//! Empty queues shrink to a small capacity: the memory of a burst is freed when it is over, and small bursts
//! don't allocate again.

use std::collections::VecDeque;

/// Memory that an empty queue keeps until its connection is quiet, in bytes. Enough for 128 calls at a time:
/// to grow for each burst of so many was a tenth of what they cost.
const KEPT_BYTES: usize = 64 * 1024;

/// Capacity that an empty queue keeps, in entries.
pub(crate) const fn kept_capacity<T>() -> usize {
    KEPT_BYTES / size_of::<T>()
}

/// Takes the first entry. A queue that turns out to be empty gives the memory of a burst back.
#[inline]
pub(crate) fn pop_or_shrink<T>(queue: &mut VecDeque<T>) -> Option<T> {
    shrink_if_empty(queue);
    queue.pop_front()
}

/// Gives the memory of a burst back.
#[inline]
pub(crate) fn shrink_if_empty<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > kept_capacity::<T>() {
        queue.shrink_to(kept_capacity::<T>());
    }
}

/// Gives all memory of an empty queue back.
pub(crate) fn free_if_empty<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
}
