//! The states of a request in an endpoint, and the connection on which it arrived.

use crate::numbered::Numbered;
use crate::reply::Reply;

/// Memory of a request or a held reply in addition to its body and names, in bytes.
pub(super) const OVERHEAD: usize = 256;

/// A connection, and its requests by number.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) phase: Phase,
    pub(super) requests: Numbered<Request>,
    /// Requests that have not started.
    pub(super) waiting: usize,
    /// Requests with a running handler.
    pub(super) running: usize,
    /// Bytes of the replies that are held.
    pub(super) held_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Open,
    /// Only requests with a running handler are left.
    Closed,
}

#[derive(Debug)]
pub(super) enum Request {
    /// The request has not started. Only the scheduler knows whether it is ready.
    Waiting,
    Running(Running),
    /// The handler has ended since the last poll. The next one releases the reply or holds it.
    Finished(Reply),
    /// The reply waits for its order. `bytes` of it count against the limit of its connection.
    Held {
        reply: Reply,
        bytes: usize,
    },
}

/// A running handler.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Nested calls that the handler waits for.
    pub(super) nested_calls: usize,
    /// The handler has released its slot for good.
    pub(super) slot_released: bool,
    pub(super) streamed: Streamed,
    /// The handler is being stopped. This is the reply if the host gives none.
    pub(super) withdrawn: Option<Reply>,
    /// The caller has given up, so the reply is sent as soon as the handler has ended.
    pub(super) given_up: bool,
}

/// How far the streamed reply of a running handler has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Streamed {
    #[default]
    No,
    /// The handler wants to begin its reply, and waits for its order.
    Waiting,
    /// The reply may begin, or has begun.
    Begun,
    /// The handler no longer waits, but may ask again. `may` is whether its order has come.
    Cancelled { may: bool },
}

impl Running {
    /// Whether other handlers may use the slot, for a while or for good.
    pub(super) fn lends_slot(&self) -> bool {
        // `Begun` is not a reason: a handler that writes its reply runs, however slowly its caller reads.
        self.slot_released || self.nested_calls > 0 || self.streamed == Streamed::Waiting
    }
}

impl Peer {
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Removes a request from the table; returns whether there was one.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        match self.requests.get(number) {
            Some(Request::Waiting) => self.waiting -= 1,
            Some(Request::Running(_)) => self.running -= 1,
            Some(Request::Held { bytes, .. }) => self.held_bytes -= bytes,
            // It no longer runs, and is only held if the next poll does not release it.
            Some(Request::Finished(_)) => {}
            None => return false,
        }
        self.requests.discard(number);
        true
    }
}

/// Bytes of a reply while it is held; `None` if replacing it by an ERROR would not save any.
pub(super) fn held_size(reply: &Reply) -> Option<usize> {
    let size = match reply {
        Reply::Result { body, metadata, .. } => body.len() + metadata.size(),
        Reply::Failure(info) | Reply::Error(info) => info.size(),
        Reply::Cancelled | Reply::End => return None,
    };
    Some(OVERHEAD.saturating_add(size))
}
