//! How much memory empty queues keep: enough for small bursts, so that these don't allocate again; the memory
//! of large bursts is freed.

use std::collections::VecDeque;
use std::time::Duration;

/// A connection that has received nothing for this long frees spare memory. After the handshake and the first
/// probes, which use each queue once, it can be most of what an idle connection holds.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// Memory that an empty queue keeps until its connection is quiet, in bytes. Enough for 128 calls at a time:
/// growing the queue for each burst of 128 calls took a tenth of their CPU time.
const KEPT_BYTES: usize = 64 * 1024;

/// The same in entries of type `T`.
pub(crate) const fn kept_capacity<T>() -> usize {
    KEPT_BYTES / size_of::<T>()
}

/// Takes the first entry. If the queue is empty, frees the memory that a burst has left.
#[inline]
pub(crate) fn pop_or_shrink<T>(queue: &mut VecDeque<T>) -> Option<T> {
    shrink_if_empty(queue);
    queue.pop_front()
}

/// Shrinks an empty queue to the capacity that it may keep.
#[inline]
pub(crate) fn shrink_if_empty<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > kept_capacity::<T>() {
        // Not to 0: the next burst would grow the queue from nothing.
        queue.shrink_to(kept_capacity::<T>());
    }
}

/// Frees all memory of an empty queue.
pub(crate) fn free_if_empty<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
}
