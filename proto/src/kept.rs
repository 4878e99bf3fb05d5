//! Tables and queues that are empty give their memory back, but for a little: a burst must not pin it after it is over.

use std::collections::VecDeque;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Capacity that an empty table or queue keeps, in entries.
pub(crate) const KEPT_CAPACITY: usize = 64;

/// Comes after each entry that is removed from a table.
pub(crate) fn shrink_table<K: Eq + Hash, V>(table: &mut FxHashMap<K, V>) {
    if table.is_empty() && table.capacity() > KEPT_CAPACITY {
        *table = FxHashMap::default();
    }
}

/// Comes after each entry that is removed from a queue.
pub(crate) fn shrink_queue<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > KEPT_CAPACITY {
        *queue = VecDeque::new();
    }
}
