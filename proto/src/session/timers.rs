//! Every timer of a session, and which one is due first.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{ExchangeId, IncomingId};
use crate::CallId;

/// Why a session wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Timer {
    /// The handshake has taken too long.
    Handshake,
    /// The peer has been silent; probe it or give it up.
    Keepalive,
    /// The peer has taken no byte for too long.
    Write,
    /// A call of ours has reached its deadline.
    Call(CallId),
    /// A handler has run for too long, or its requester has given up.
    Execution(IncomingId),
    /// A body takes too long to be complete.
    Collect(ExchangeId),
}

/// The deadline table. At most one deadline for each timer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    handshake: Option<Instant>,
    keepalive: Option<Instant>,
    write: Option<Instant>,
    /// Of calls and executions, of which there may be many.
    table: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Sets a timer that is not set.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        match self.slot(timer) {
            Some(slot) => *slot = Some(at),
            None => {
                self.table.insert((at, timer));
            }
        }
    }

    /// Stops a timer; `at` is when it was set to go off, where there may be many of its kind.
    pub(super) fn stop(&mut self, timer: Timer, at: Option<Instant>) {
        match (self.slot(timer), at) {
            (Some(slot), _) => *slot = None,
            (None, Some(at)) => {
                self.table.remove(&(at, timer));
            }
            (None, None) => {}
        }
    }

    fn slot(&mut self, timer: Timer) -> Option<&mut Option<Instant>> {
        match timer {
            Timer::Handshake => Some(&mut self.handshake),
            Timer::Keepalive => Some(&mut self.keepalive),
            Timer::Write => Some(&mut self.write),
            Timer::Call(_) | Timer::Execution(_) | Timer::Collect(_) => None,
        }
    }

    /// Sets a timer that is not set, unless it would go off later than an [`Instant`] can say: never.
    pub(super) fn set_after(&mut self, timer: Timer, now: Instant, wait: Duration) {
        if let Some(at) = now.checked_add(wait) {
            self.set(timer, at);
        }
    }

    pub(super) fn watches_writes(&self) -> bool {
        self.write.is_some()
    }

    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        [
            self.handshake.map(|at| (at, Timer::Handshake)),
            self.keepalive.map(|at| (at, Timer::Keepalive)),
            self.write.map(|at| (at, Timer::Write)),
            self.table.first().copied(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes the first timer that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = self.next().filter(|(at, _)| *at <= now)?;
        self.stop(timer, Some(at));
        Some(timer)
    }

    /// Those of which there may be many.
    #[cfg(feature = "internals")]
    pub(super) fn many(&self) -> impl Iterator<Item = Timer> {
        self.table.iter().map(|(_, timer)| *timer)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
