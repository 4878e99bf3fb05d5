//! A connection that lives: its byte counts, and whether it is open.
//!
//! Shared between the task that relays and the list of connections. Not responsible for the relaying itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use callosum_runtime::rt::Broadcast;

use crate::connection::{ConnectionInfo, ConnectionState, Side};
use crate::events::TunnelEvent;
use crate::measure::Bytes;
use crate::stop::Stop;
use crate::totals::Counters;
use crate::{End, Reason};

/// How it ended, or why it was never open.
pub(crate) type Outcome = Result<End, Reason>;

/// A connection, from the moment in which it is wanted to its end.
pub(crate) struct Live {
    pub(crate) info: Arc<ConnectionInfo>,
    /// Shared with all that is counted together with it.
    pub(crate) totals: Arc<Counters>,
    pub(crate) stop: Arc<Stop>,
    events: Arc<Broadcast<TunnelEvent>>,
    is_open: AtomicBool,
    is_reset_here: AtomicBool,
    to_target: AtomicU64,
    from_target: AtomicU64,
    /// The same in the metrics.
    measured: Bytes,
}

impl Live {
    pub(crate) fn new(
        info: ConnectionInfo,
        totals: Arc<Counters>,
        stop: Arc<Stop>,
        events: Arc<Broadcast<TunnelEvent>>,
        measured: Bytes,
    ) -> Self {
        let (is_open, is_reset_here, to_target, from_target) = Default::default();
        let info = Arc::new(info);
        Self { info, totals, stop, events, is_open, is_reset_here, to_target, from_target, measured }
    }

    pub(crate) fn is_accepting(&self) -> bool {
        self.info.side == Side::Accepting
    }

    /// Both ends are connected.
    pub(crate) fn open(&self) {
        if !self.is_open.swap(true, Relaxed) {
            self.totals.open();
            self.events.send(TunnelEvent::Opened(self.info.clone()));
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// The socket on this side was reset, or has failed.
    pub(crate) fn reset_here(&self) {
        self.is_reset_here.store(true, Relaxed);
    }

    /// The outcome. If the other side's reset only followed one on this side, the outcome is the latter.
    pub(crate) fn first_cause(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Ok(End::ResetThere) if self.is_reset_here.load(Relaxed) => Ok(End::ResetHere),
            outcome => outcome,
        }
    }

    /// Bytes went from the socket on this side to the stream.
    pub(crate) fn count_up(&self, bytes: usize) {
        self.count(self.is_accepting(), bytes as u64);
    }

    /// Bytes went from the stream to the socket on this side.
    pub(crate) fn count_down(&self, bytes: usize) {
        self.count(!self.is_accepting(), bytes as u64);
    }

    fn count(&self, to_target: bool, bytes: u64) {
        let (own, total) = match to_target {
            true => (&self.to_target, &self.totals.to_target),
            false => (&self.from_target, &self.totals.from_target),
        };
        own.fetch_add(bytes, Relaxed);
        total.fetch_add(bytes, Relaxed);
        self.measured.count(to_target, bytes);
    }

    /// Bytes so far: towards the target, and from it.
    pub(crate) fn moved(&self) -> [u64; 2] {
        [self.to_target.load(Relaxed), self.from_target.load(Relaxed)]
    }

    pub(crate) fn state(&self) -> ConnectionState {
        let [to_target, from_target] = self.moved();
        ConnectionState { info: self.info.clone(), is_open: self.is_open(), to_target, from_target }
    }
}
