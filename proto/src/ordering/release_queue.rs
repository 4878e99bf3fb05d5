//! Decides which reply may be sent: one queue per key, in the order of arrival.
//!
//! A request that has finished, or wants to begin its reply, waits until it is at the front of its key's
//! queue. Each step looks only at the front of one queue. Example: A, B and C arrive, and B and C finish.
//! Nothing is due until A finishes; then A, B and C are released.

use std::collections::VecDeque;

use super::Action;
use super::keys::KeyId;
use crate::ids::RequestId;
use crate::kept::pop_or_shrink;
use crate::numbered::Numbered;
use crate::queue::Queue;

/// Position of a request in the order of arrival, over all connections.
pub(super) type Seq = u64;

#[derive(Debug, Default)]
pub(super) struct ReleaseQueue {
    /// No queue is empty, and the front of each has not finished.
    keys: Numbered<Queue<Entry>>,
    /// Actions that are due, in order. The caller of `pop` skips those of requests that were forgotten.
    due: VecDeque<(Seq, Action)>,
}

#[derive(Debug)]
struct Entry {
    request: RequestId,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Unfinished,
    /// The request runs, and wants to begin its reply.
    Wants,
    Finished,
}

impl ReleaseQueue {
    /// Adds a request with a key, in the order of arrival.
    pub(super) fn push(&mut self, key: KeyId, seq: Seq, request: RequestId) {
        let entry = Entry { request, progress: Progress::Unfinished };
        self.keys.get_or_insert_with(key.0, Queue::default).push(seq, entry);
    }

    /// The request has finished. Without a key, it is released at once.
    pub(super) fn finish(&mut self, key: Option<KeyId>, seq: Seq, request: RequestId) {
        match key {
            Some(key) => self.progress(key, seq, Progress::Finished),
            // O-6: nothing orders requests without a key. The unordered mode passes no key at all.
            None => self.due.push_back((seq, Action::Release(request))),
        }
    }

    /// The request wants to begin its reply before it has finished. Without a key, it may at once.
    pub(super) fn want_to_reply(&mut self, key: Option<KeyId>, seq: Seq, request: RequestId) {
        match key {
            Some(key) => self.progress(key, seq, Progress::Wants),
            None => self.due.push_back((seq, Action::MayReply(request))),
        }
    }

    /// Removes a request from its queue without releasing it.
    pub(super) fn remove(&mut self, key: KeyId, seq: Seq) {
        if let Some(queue) = self.keys.get_mut(key.0) {
            // Those behind it may be due now. What is due already stays, and is skipped when it is polled: a
            // search for it would be O(n) for each request of a connection that closes.
            queue.remove(seq);
            self.advance(key);
        }
    }

    pub(super) fn pop(&mut self) -> Option<(Seq, Action)> {
        pop_or_shrink(&mut self.due)
    }

    fn progress(&mut self, key: KeyId, seq: Seq, progress: Progress) {
        // Always there: `KeyOrder` reports no progress of a request that it has removed.
        if let Some(entry) = self.keys.get_mut(key.0).and_then(|queue| queue.get_mut(seq)) {
            entry.progress = progress;
            self.advance(key);
        }
    }

    /// Makes the front of a queue due, as far as it has finished or wants to reply. Drops an empty queue.
    fn advance(&mut self, key: KeyId) {
        let Some(queue) = self.keys.get_mut(key.0) else { return };
        while let Some((seq, &Entry { request, progress })) = queue.front() {
            match progress {
                Progress::Unfinished => return,
                Progress::Wants => {
                    self.due.push_back((seq, Action::MayReply(request)));
                    // Asked and answered: it stays at the front until it has finished, and delays later
                    // replies.
                    if let Some(first) = queue.get_mut(seq) {
                        first.progress = Progress::Unfinished;
                    }
                    return;
                }
                Progress::Finished => {
                    self.due.push_back((seq, Action::Release(request)));
                    queue.pop();
                }
            }
        }
        // Peers can use ever new keys, so an empty queue must not stay.
        self.keys.discard(key.0);
    }

    /// The number of requests in all queues.
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn audit(&self) -> usize {
        let first = |queue: &Queue<Entry>| queue.front().map(|(_, first)| first.progress);
        assert!(self.keys.iter().all(|(_, queue)| first(queue) == Some(Progress::Unfinished)));
        self.keys.iter().map(|(_, queue)| queue.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn due(&self) -> usize {
        self.due.len()
    }

    /// Actions for which there is memory.
    #[cfg(test)]
    pub(super) fn due_capacity(&self) -> usize {
        self.due.capacity()
    }
}
