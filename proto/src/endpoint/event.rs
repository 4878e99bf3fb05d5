//! What an endpoint and its connections tell each other. The host carries these events between the two, so that each may have
//! a lock of its own, or none.

use crate::call::Reply;
use crate::ids::{ConnectionId, RequestId, StreamId};
use crate::ordering::BusyReason;
use crate::OrderingKey;

/// From a connection to its endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// A request has come. Its place in the order is the one in which these events are handled.
    Arrived(Arrival),
    /// The argument of a request that arrived incomplete is complete.
    Ready(RequestId),
    /// The caller gave the request up, or its time is over, or its argument can't be completed: it does not start any more.
    Withdrawn {
        /// The request.
        request: RequestId,
        /// What is replied, unless the handler has ended by itself.
        reply: Reply,
    },
    /// A result of `bytes` bytes is to be reassembled.
    ReassemblyWanted {
        /// Where.
        connection: ConnectionId,
        /// Of which stream.
        stream: StreamId,
        /// Its size, or the limit if the size is not known.
        bytes: usize,
    },
    /// It has been reassembled, or never will be.
    ReassemblyEnded {
        /// Where.
        connection: ConnectionId,
        /// Of which stream.
        stream: StreamId,
    },
    /// So much waits to be sent to this peer that no more of its requests should start.
    Paused(ConnectionId),
    /// They may start again.
    Resumed(ConnectionId),
    /// The connection is over.
    Closed(ConnectionId),
}

/// A request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The request.
    pub request: RequestId,
    /// Its ordering key, or "no key". It shares the buffer that the connection keeps.
    pub key: OrderingKey,
    /// What the request takes while it waits, in bytes.
    pub bytes: usize,
    /// Bytes of memory in which its argument is to be reassembled before it starts; `None` if it is ready to start.
    pub incomplete: Option<usize>,
}

/// From an endpoint to one of its connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// Hand the request to the host, which runs its handler.
    Start(RequestId),
    /// Answer the request with an ERROR `Busy`, ahead of other replies with its key.
    Refuse {
        /// The request.
        request: RequestId,
        /// The limit that was met.
        reason: BusyReason,
    },
    /// Send this reply.
    Reply {
        /// The request.
        request: RequestId,
        /// The reply.
        reply: Reply,
    },
    /// The reply of this request may begin to leave as a stream.
    MayReply(RequestId),
    /// There is memory to reassemble this body.
    Reassemble(StreamId),
    /// Make and take no new calls.
    Drain,
}
