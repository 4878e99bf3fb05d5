//! The timers of the calls of a connection, ordered by time.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::ids::{CallId, RequestId, StreamId};
use crate::kept::{free_if_empty, kept_capacity};

/// What is due when a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// A call of this side times out.
    Call(CallId),
    /// The caller's deadline of a request, plus a grace period, has passed.
    Caller(RequestId),
    /// A handler has exceeded the execution timeout.
    Execution(RequestId),
    /// A reassembly times out.
    Reassembly(StreamId),
    /// The spare memory of earlier bodies is freed.
    Spares,
}

/// At most one deadline of each kind for each call. The setter keeps the time, which it needs to
/// [`stop`](Self::stop) it.
///
/// Most calls have the same timeout, so most deadlines are set in the order in which they are due: these wait in a
/// queue, the others in a tree. With a tree alone, timers took a twentieth of the CPU time of small calls.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// In order. Not a heap, because most are stopped before they are due: a search finds them.
    queue: VecDeque<Queued>,
    /// How many of the queue are stopped. The first one never is.
    stopped: usize,
    tree: BTreeSet<(Instant, Deadline)>,
}

#[derive(Debug)]
struct Queued {
    key: (Instant, Deadline),
    stopped: bool,
}

/// Stopped deadlines that the queue may have in any case, so that a short one is not searched for them.
const STOPPED_MIN: usize = 32;

impl Deadlines {
    pub(super) fn set(&mut self, at: Instant, deadline: Deadline) {
        let key = (at, deadline);
        match self.queue.back() {
            Some(last) if last.key >= key => {
                self.tree.insert(key);
            }
            _ => self.queue.push_back(Queued { key, stopped: false }),
        }
    }

    #[inline]
    pub(super) fn stop(&mut self, at: Option<Instant>, deadline: Deadline) {
        if let Some(at) = at {
            self.remove((at, deadline));
        }
    }

    fn remove(&mut self, key: (Instant, Deadline)) {
        // Calls end about in the order in which they were made.
        let found = match self.queue.front() {
            Some(first) if first.key == key => Ok(0),
            _ => self.queue.binary_search_by(|queued| queued.key.cmp(&key)),
        };
        match found {
            Ok(index) if !self.queue[index].stopped => {
                self.queue[index].stopped = true;
                self.stopped += 1;
                self.trim();
            }
            _ => {
                self.tree.remove(&key);
            }
        }
    }

    /// Removes stopped deadlines: from both ends, and all once they are more than half of the queue.
    fn trim(&mut self) {
        while self.queue.front().is_some_and(|first| first.stopped) {
            self.queue.pop_front();
            self.stopped -= 1;
        }
        // Otherwise a long timeout would send the deadlines after it to the tree.
        while self.queue.back().is_some_and(|last| last.stopped) {
            self.queue.pop_back();
            self.stopped -= 1;
        }
        // Each search is paid for by as many calls of `stop` before.
        if self.stopped > STOPPED_MIN.max(self.queue.len() / 2) {
            self.queue.retain(|queued| !queued.stopped);
            self.stopped = 0;
        }
        // At least half of what had room was popped since.
        let room = (2 * self.queue.len()).max(kept_capacity::<Queued>());
        if self.queue.capacity() > 2 * room {
            self.queue.shrink_to(room);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    fn first(&self) -> Option<(Instant, Deadline)> {
        let (queued, other) = (self.queue.front().map(|first| first.key), self.tree.first().copied());
        match (queued, other) {
            (Some(queued), Some(other)) => Some(queued.min(other)),
            (queued, other) => queued.or(other),
        }
    }

    /// Takes the first deadline that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Deadline> {
        let first = self.first().filter(|(at, _)| *at <= now)?;
        self.remove(first);
        Some(first.1)
    }

    /// Frees memory that is kept for future deadlines.
    pub(super) fn shrink(&mut self) {
        free_if_empty(&mut self.queue);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = Deadline> {
        let queued = self.queue.iter().filter(|queued| !queued.stopped).map(|queued| queued.key);
        queued.chain(self.tree.iter().copied()).map(|(_, deadline)| deadline)
    }
}

#[cfg(test)]
mod tests;
