//! What an endpoint and its connections tell each other; the host carries it.

use crate::call::Reply;
use crate::ids::{ConnectionId, RequestId, StreamId};
use crate::ordering::{Arrival, BusyReason};

/// From a connection to the endpoint. An event that names an unknown connection or request, or comes in a state in which it
/// makes no sense, is ignored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// A request has come; its place in the order is the one in which these events are handled.
    ///
    /// [`Arrival::bytes`] is what the connection keeps of it: method, key, metadata, body. The endpoint counts 256 bytes
    /// besides.
    Arrived(Arrival),
    /// The argument of a request that arrived unready is complete: it may start when its order comes.
    Ready(RequestId),
    /// The caller has given the request up, or its time is over, or its argument can't be completed.
    ///
    /// One that has not started never will; its reply leaves in its order. If it runs, the connection has told the host to
    /// stop the handler, and the reply is used if [`finish`](super::Endpoint::finish) brings none. If it has finished
    /// and its reply is held, the reply replaces that. Of several, the first counts.
    Withdrawn {
        /// Which.
        request: RequestId,
        /// What the caller is told, such as [`Reply::Cancelled`].
        reply: Reply,
    },
    /// The request had been started, and the connection never handed it out, because it had been withdrawn or the connection
    /// closed before [`ConnectionEvent::Start`] got there. It ends as if its handler had been stopped at once.
    NeverRan(RequestId),
    /// A body is to be reassembled, and waits for memory until [`ConnectionEvent::Reassemble`].
    ReassemblyWanted {
        /// Whose limit it counts against.
        connection: ConnectionId,
        /// The stream that brings the body.
        stream: StreamId,
        /// Memory that the body takes.
        bytes: usize,
    },
    /// A body has been reassembled and taken, or never will be, even if it still waits for memory.
    ReassemblyEnded {
        /// As it was given in [`ReassemblyWanted`](Self::ReassemblyWanted).
        connection: ConnectionId,
        /// As it was given in [`ReassemblyWanted`](Self::ReassemblyWanted).
        stream: StreamId,
    },
    /// Too much waits to be written to this peer for more handlers to start.
    Paused(ConnectionId),
    /// The end of [`Paused`](Self::Paused).
    Resumed(ConnectionId),
    /// The connection is over: its requests that wait vanish, those that run keep slot and key until
    /// [`finish`](super::Endpoint::finish). It gets no more events.
    Closed(ConnectionId),
}

/// From the endpoint to a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// Hand the request to its handler now, or answer with [`EndpointEvent::NeverRan`].
    Start(RequestId),
    /// There is no place for this request: answer it with an ERROR `Busy`, out of order.
    Refuse {
        /// Which.
        request: RequestId,
        /// The limit that it met.
        reason: BusyReason,
    },
    /// Send this reply now.
    Reply {
        /// What it answers.
        request: RequestId,
        /// The handler's reply, or the one of [`EndpointEvent::Withdrawn`], or an ERROR `ReplyTooLarge` in its place.
        reply: Reply,
    },
    /// The streamed reply of this running request may begin now: its order has come.
    MayReply(RequestId),
    /// There is memory: reassemble this body now.
    Reassemble(StreamId),
    /// Make and take no new calls.
    Drain,
}
