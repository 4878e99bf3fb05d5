//! A request on its way through an endpoint, and the connection that it came from.

use crate::numbered::Numbered;
use crate::reply::Reply;

/// What a request or a held reply takes in memory besides its body and names, in bytes.
pub(super) const OVERHEAD: usize = 256;

/// A connection and its requests.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) phase: Phase,
    pub(super) requests: Numbered<Request>,
    /// How many of them wait, and how many run.
    pub(super) waiting: usize,
    pub(super) running: usize,
    /// Bytes of its held replies.
    pub(super) held_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Open,
    /// Only requests that run are left, until their handlers have ended.
    Closed,
}

#[derive(Debug)]
pub(super) enum Request {
    /// It has not started. The scheduler knows whether it is ready.
    Waiting,
    Running(Running),
    /// It has finished since the last poll, which is to find out whether its order has come.
    Finished(Reply),
    /// Its reply waits for its order. So many bytes of it count against its connection.
    Held {
        reply: Reply,
        bytes: usize,
    },
}

/// A handler that runs.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Nested calls that it waits for.
    pub(super) nested_calls: usize,
    /// It has given its slot back for good.
    pub(super) slot_released: bool,
    pub(super) streamed: Streamed,
    /// It is to be stopped, and this is its reply if it brings none.
    pub(super) withdrawn: Option<Reply>,
    /// Its caller has given it up, so that its reply leaves as soon as it has ended.
    pub(super) given_up: bool,
}

/// Whether the reply of a running handler is streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Streamed {
    #[default]
    No,
    /// It wants to begin, and waits for its order.
    Waiting,
    /// It may begin.
    Begun,
    /// It waits no more, and may want to begin again; `may` tells whether its order has come.
    Cancelled { may: bool },
}

impl Running {
    /// Whether others may have its slot, for a while or for good.
    pub(super) fn lends_slot(&self) -> bool {
        self.slot_released || self.nested_calls > 0 || self.streamed == Streamed::Waiting
    }
}

impl Peer {
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Drops a request of the table; returns whether it was there.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        match self.requests.get(number) {
            Some(Request::Waiting) => self.waiting -= 1,
            Some(Request::Running(_)) => self.running -= 1,
            Some(Request::Held { bytes, .. }) => self.held_bytes -= bytes,
            Some(Request::Finished(_)) => {}
            None => return false,
        }
        self.requests.discard(number);
        true
    }
}

/// Bytes that a reply takes while it is held; `None` if an ERROR in its place would take no less.
pub(super) fn held_size(reply: &Reply) -> Option<usize> {
    let size = match reply {
        Reply::Result { body, metadata, .. } => body.len() + metadata.size(),
        Reply::Failure(info) | Reply::Error(info) => info.size(),
        Reply::Cancelled | Reply::End => return None,
    };
    Some(OVERHEAD.saturating_add(size))
}
