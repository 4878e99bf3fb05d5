//! The timers of the calls of a connection, ordered by time.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::ids::{CallId, RequestId, StreamId};
use crate::queue::Queue;

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
    /// Not a heap, because most are stopped before they are due: a search finds them.
    queue: Queue<(), (Instant, Deadline)>,
    tree: BTreeSet<(Instant, Deadline)>,
}

impl Deadlines {
    pub(super) fn set(&mut self, at: Instant, deadline: Deadline) {
        let key = (at, deadline);
        match self.queue.last() {
            Some(last) if last >= key => {
                self.tree.insert(key);
            }
            _ => self.queue.push(key, ()),
        }
    }

    #[inline]
    pub(super) fn stop(&mut self, at: Option<Instant>, deadline: Deadline) {
        if let Some(at) = at {
            self.remove((at, deadline));
        }
    }

    fn remove(&mut self, key: (Instant, Deadline)) {
        if self.queue.remove(key).is_none() {
            self.tree.remove(&key);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    fn first(&self) -> Option<(Instant, Deadline)> {
        let (queued, other) = (self.queue.front().map(|(first, ())| first), self.tree.first().copied());
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
        self.queue.shrink();
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = Deadline> {
        let queued = self.queue.iter().map(|(key, ())| key);
        queued.chain(self.tree.iter().copied()).map(|(_, deadline)| deadline)
    }
}

#[cfg(test)]
mod tests;
