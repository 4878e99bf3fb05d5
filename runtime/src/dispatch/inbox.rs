//! Queues between the endpoint and a connection.

use std::collections::VecDeque;

use callosum_proto::{ConnectionEvent, ConnectionId, EndpointEvent, Reply, RequestId};
use futures_util::task::AtomicWaker;

use crate::lock::Mutex;
use crate::waiters;

/// A decision of the endpoint, with its connection.
pub(crate) type Decisions = Vec<(ConnectionId, ConnectionEvent)>;

/// What the endpoint has decided for the connections of one peer, until the driver of its link takes it. A peer has one
/// connection after another, so each event names its own.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    events: Mutex<Decisions>,
    /// The task that drives the peer's link.
    pub(crate) driver: AtomicWaker,
}

impl Inbox {
    /// Wakes what drives the peer's link.
    pub(crate) fn wake(&self) {
        self.driver.take().into_iter().for_each(waiters::wake);
    }

    pub(super) fn push(&self, connection: ConnectionId, event: ConnectionEvent) {
        self.events.lock().push((connection, event));
    }

    /// Moves what there is to the end of a vector.
    pub(crate) fn take(&self, into: &mut Decisions) {
        let mut events = self.events.lock();
        match into.is_empty() {
            true => std::mem::swap(&mut *events, into),
            false => into.append(&mut events),
        }
    }

    /// Moves to the front what was taken and not told to the connection.
    pub(crate) fn put_back(&self, taken: &mut Decisions) {
        let mut events = self.events.lock();
        taken.append(&mut events);
        std::mem::swap(&mut *events, taken);
    }

    /// Releases spare memory for later events.
    pub(crate) fn shrink(&self) {
        let mut events = self.events.lock();
        if events.is_empty() {
            *events = Decisions::new();
        }
    }
}

/// Events and replies that the driver of a link passes to the endpoint.
#[derive(Debug, Default)]
pub(crate) struct Relayed {
    pub(crate) reports: VecDeque<EndpointEvent>,
    /// Handlers that have ended, or never ran, in which case there is no reply.
    pub(crate) finished: VecDeque<(RequestId, Option<Reply>)>,
}

impl Relayed {
    pub(crate) fn is_empty(&self) -> bool {
        self.reports.is_empty() && self.finished.is_empty()
    }
}
