//! Empty queues shrink to a small capacity: the memory of a burst is freed when it is over, and small bursts don't
//! allocate again.

use std::collections::VecDeque;

/// Memory that an empty queue keeps until its connection is quiet, in bytes. Enough for 128 calls at a time: to grow for each burst of
/// so many was a tenth of what they cost.
pub(crate) const KEPT_BYTES: usize = 64 * 1024;

/// Capacity that an empty queue keeps, in entries.
pub(crate) const fn kept_capacity<T>(bytes: usize) -> usize {
    bytes / size_of::<T>()
}

/// Takes the first entry. A queue that turns out to be empty gives its memory back.
#[inline]
pub(crate) fn pop_or_shrink<T>(queue: &mut VecDeque<T>) -> Option<T> {
    if queue.is_empty() {
        shrink_queue::<_, KEPT_BYTES>(queue);
    }
    queue.pop_front()
}

/// Comes after each entry that is removed from a queue; with 0, where a queue that is empty gives back all of it.
#[inline]
pub(crate) fn shrink_queue<T, const KEPT: usize>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > kept_capacity::<T>(KEPT) {
        queue.shrink_to(kept_capacity::<T>(KEPT));
    }
}
