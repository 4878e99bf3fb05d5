//! An open tunnelled connection: its properties, its byte counts, and stopping it from outside.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use callosum_runtime::rt::Broadcast;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::events::TunnelEvent;
use crate::totals::Counters;
use crate::{End, Reason, Target};

/// The end of a tunnelled connection in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The accepting end, to which the client has connected.
    Accepting,
    /// The connecting end, which connects to the target.
    Connecting,
}

/// The properties of a tunnelled connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number: unique in a [`Tunnel`](crate::Tunnel) or [`TunnelServer`](crate::TunnelServer), and never used again.
    pub id: u64,
    /// Which end of the connection this side has.
    pub side: Side,
    /// The user that the other side was admitted as; `None` on the side that requested the forward.
    pub user: Option<String>,
    /// The forward that it belongs to and is counted by: as it was requested, or the target or the address to listen
    /// on, as a peer names it.
    pub forward: Arc<str>,
    /// The target, if this side knows it.
    pub target: Option<Target>,
    /// The client's address, if it has one. On the connecting side, it comes from the other side, and is not verified.
    pub source: Option<SocketAddr>,
    /// When it began, on the clock of the runtime.
    pub since: Instant,
}

/// A tunnelled connection as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionState {
    /// Its description.
    pub info: Arc<ConnectionInfo>,
    /// Whether both ends are connected, and bytes travel.
    pub is_open: bool,
    /// Bytes that this side has moved towards the target.
    pub to_target: u64,
    /// Bytes that this side has moved from the target.
    pub from_target: u64,
}

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
}

impl Live {
    pub(crate) fn new(
        info: ConnectionInfo,
        totals: Arc<Counters>,
        stop: Arc<Stop>,
        events: Arc<Broadcast<TunnelEvent>>,
    ) -> Self {
        let (is_open, is_reset_here, to_target, from_target) = Default::default();
        Self { info: Arc::new(info), totals, stop, events, is_open, is_reset_here, to_target, from_target }
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

/// How what runs for long is ended from outside. Each has one task that waits.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    why: Mutex<Option<End>>,
    task: AtomicWaker,
}

impl Stop {
    /// Only the first of several reasons counts.
    pub(crate) fn stop(&self, why: End) {
        self.why.lock().get_or_insert(why);
        self.task.wake();
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<End> {
        self.task.register(cx.waker());
        self.why.lock().map_or(Poll::Pending, Poll::Ready)
    }

    /// The output of `future`, or why it was stopped before. Don't use it for futures of two tasks at the same time: one waker is kept.
    pub(crate) async fn or<F: Future>(&self, future: F) -> Result<F::Output, End> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(why) => Poll::Ready(Err(why)),
            Poll::Pending => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }
}
