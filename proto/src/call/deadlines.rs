//! When calls time out, handlers are stopped and reassemblies are given up.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::ids::{CallId, RequestId, StreamId};

/// Something that is due at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// A call of ours times out.
    Call(CallId),
    /// The caller of a request has given up.
    Caller(RequestId),
    /// A handler has run for too long.
    Execution(RequestId),
    /// A body takes too long to be complete.
    Reassembly(StreamId),
    /// The memory of earlier bodies is kept no longer.
    Spares,
}

/// At most one deadline of each kind for each call. Who sets one remembers when it is due, to clear it.
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

    /// Takes the first one that is due.
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
