//! The timers of the calls of a connection, ordered by time.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::ids::{CallId, RequestId, StreamId};

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

// A tree, not a heap: most timers are removed before they are due.
/// At most one deadline of each kind for each call. The setter keeps the time, which it needs to
/// [`stop`](Self::stop) it.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Instant, Deadline)>);

impl Deadlines {
    pub(super) fn set(&mut self, at: Instant, deadline: Deadline) {
        self.0.insert((at, deadline));
    }

    #[inline]
    pub(super) fn stop(&mut self, at: Option<Instant>, deadline: Deadline) {
        if let Some(at) = at {
            self.0.remove(&(at, deadline));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the first deadline that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Deadline> {
        self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.pop_first().map(|(_, deadline)| deadline)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = Deadline> {
        self.0.iter().map(|(_, deadline)| *deadline)
    }
}
