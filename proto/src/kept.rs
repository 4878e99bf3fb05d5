//! Empty queues shrink to a small capacity: the memory of a burst is freed when it is over, and small bursts don't
//! allocate again.

use std::collections::VecDeque;

/// Memory that an empty queue keeps, in bytes, where it is given back once the connection is quiet, or where there is one queue for
/// all connections. Enough for 128 calls at a time: to grow for each burst of so many was a tenth of what they cost.
pub(crate) const MUCH: usize = 64 * 1024;

/// The same where it is kept as long as the connection lives.
pub(crate) const LITTLE: usize = 3 * 1024;

/// Capacity that an empty queue keeps, in entries.
pub(crate) const fn kept_capacity<T>(bytes: usize) -> usize {
    bytes / size_of::<T>()
}

/// Comes after each entry that is removed from a queue; with 0, where a queue that is empty gives back all of it.
#[inline]
pub(crate) fn shrink_queue<T, const KEPT: usize>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > kept_capacity::<T>(KEPT) {
        queue.shrink_to(kept_capacity::<T>(KEPT));
    }
}
