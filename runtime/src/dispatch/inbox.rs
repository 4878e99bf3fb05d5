//! What is on its way between the endpoint and a connection.

use std::collections::VecDeque;

use callosum_proto::{ConnectionEvent, ConnectionId, EndpointEvent, Reply, RequestId};
use futures_util::task::AtomicWaker;

use crate::lock::Mutex;

/// What the endpoint has decided for the connections of one peer, until the driver of its link takes it. A peer has one
/// connection after another, so each event names its own.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    events: Mutex<Vec<(ConnectionId, ConnectionEvent)>>,
    /// Wakes what drives the peer's link.
    pub(crate) driver: AtomicWaker,
}

impl Inbox {
    pub(super) fn push(&self, connection: ConnectionId, event: ConnectionEvent) {
        self.events.lock().push((connection, event));
    }

    /// Swaps what there is for an empty vector.
    pub(crate) fn take(&self, into: &mut Vec<(ConnectionId, ConnectionEvent)>) {
        debug_assert!(into.is_empty(), "nothing is overwritten");
        let mut events = self.events.lock();
        if !events.is_empty() {
            std::mem::swap(&mut *events, into);
        }
    }

    /// Gives back the memory that is kept for events to come.
    pub(crate) fn shrink(&self) {
        let mut events = self.events.lock();
        if events.is_empty() {
            *events = Vec::new();
        }
    }
}

/// What the driver of a link has to tell the endpoint.
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
