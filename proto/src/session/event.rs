//! What a session tells its owner.

use std::time::Duration;

use bytes::Bytes;

use crate::wire::{DecodeError, Hello};
use crate::{CallId, ErrorInfo, OrderingKey, Text};

/// One request of the peer, unique within its session and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncomingId(pub u64);

/// One probe of ours, unique within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PingId(pub u64);

/// What happened. See [`Session`](super::Session) for when to poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete.
    Established {
        /// What the peer said of itself; `None` for a peer that only speaks dialect 1, such as Python's.
        hello: Option<Hello>,
    },
    /// The peer calls a method. The owner must answer with [`Session::reply`](super::Session::reply), once.
    Request(Request),
    /// The peer cancels its request: stop the handler, then reply, with
    /// [`Reply::Cancelled`](super::Reply::Cancelled) unless it had ended by itself.
    CancelRequested(IncomingId),
    /// The time given to [`Session::started`](super::Session::started) is over: stop the handler, then reply.
    ExecutionTimedOut(IncomingId),
    /// A call of ours has ended. There is exactly one such event for each call that was accepted, except
    /// for those that were abandoned.
    Ended {
        /// The call.
        call: CallId,
        /// How it ended.
        outcome: Outcome,
    },
    /// The peer answered a probe.
    Pong {
        /// The probe.
        ping: PingId,
        /// Time between the probe's transmission and its answer.
        round_trip: Duration,
    },
    /// The peer sent something that was dropped; the link lives on.
    Anomaly(Anomaly),
    /// The session is over; every call of ours has ended, and no request needs an answer any more.
    Closed(CloseCause),
}

/// A request of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it in the methods of the session.
    pub id: IncomingId,
    /// The method.
    pub method: Text,
    /// The ordering key, or "no key".
    pub key: OrderingKey,
    /// The argument, as the application's serializer wrote it.
    pub body: Bytes,
}

impl Request {
    /// Bytes of method, key and body: what it occupies while it waits
    /// ([`Arrival::bytes`](crate::scheduler::Arrival::bytes)).
    pub fn size(&self) -> usize {
        self.method.as_bytes().len() + self.key.as_bytes().len() + self.body.len()
    }
}

/// How a call of ours ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler returned this.
    Result(Bytes),
    /// The handler failed.
    Failure(ErrorInfo),
    /// Callosum on the other side refused the call or failed.
    Error(ErrorInfo),
    /// The other side stopped the handler, or never started it.
    Cancelled,
    /// The call's deadline passed.
    TimedOut {
        /// Whether the request had left; if so a handler may have run.
        sent: bool,
    },
    /// The session ended.
    Disconnected {
        /// Why it ended.
        cause: CloseCause,
        /// Whether the request had left; if so a handler may have run.
        sent: bool,
    },
    /// The body is larger than the peer takes, which was learnt after the call was accepted. Not sent.
    TooLarge {
        /// Bytes of the body.
        size: usize,
        /// The peer's limit in bytes.
        limit: usize,
    },
    /// The reply came, but can't be read; a handler has run.
    Malformed(DecodeError),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseCause {
    /// The owner closed it.
    #[error("this side closed the connection")]
    Local,
    /// The layer below lost the link.
    #[error("the connection was lost")]
    LinkLost,
    /// No PONG came in time.
    #[error("the peer did not answer the handshake in time")]
    HandshakeTimedOut,
    /// Probes went unanswered.
    #[error("the peer did not answer its keepalive probes")]
    KeepaliveTimedOut,
    /// The peer took none of the bytes that wait for it, or let answers that it asked for pile up.
    #[error("the peer does not read what it is sent")]
    PeerNotReading,
    /// The peer started a new handshake: it has been restarted, and has forgotten this session.
    #[error("the peer was restarted")]
    PeerRestarted,
}

/// What a peer sent and a session dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Anomaly {
    /// Not three frames, or an unknown marker.
    #[error("a message that is neither PING, PONG nor UPPER in three frames")]
    NotAMessage,
    /// A header that can't be read, so that there is nothing to answer to.
    #[error("a header that can't be read: {0}")]
    Header(DecodeError),
    /// A request whose body can't be read; it was answered with an ERROR.
    #[error("a request whose body can't be read: {0}")]
    Body(DecodeError),
    /// A request with the id of one that is still open.
    #[error("a request with the id of one that is still open")]
    DuplicateRequest,
    /// A reply to a call that never was, or has ended.
    #[error("a reply to a call that is not waiting for one")]
    UnknownReply,
    /// A cancellation of a request that never was, or has been answered.
    #[error("a cancellation of a request that is not open")]
    UnknownCancel,
    /// A probe too large to be answered.
    #[error("a PING of {0} bytes")]
    OversizePing(usize),
}
