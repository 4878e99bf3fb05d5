//! What a session tells its owner.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{ContentError, ContentFault, Dialect, ExchangeId};
use crate::wire::{DecodeError, Hello};
use crate::{CallId, ErrorInfo, Metadata, OrderingKey, Text};

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
        /// What is spoken from now on.
        dialect: Dialect,
    },
    /// The peer calls a method. The owner must answer with [`Session::reply`](super::Session::reply), once.
    Request(Request),
    /// The peer cancels its request: stop the handler, then reply, with
    /// [`Reply::Cancelled`](super::Reply::Cancelled) unless it had ended by itself.
    CancelRequested(IncomingId),
    /// The time given to [`Session::started`](super::Session::started) is over: stop the handler, then reply.
    ExecutionTimedOut(IncomingId),
    /// The result of a call of ours has begun, and is more than one record: read it, or
    /// [put it together](super::Contents::collect). [`Ended`](Self::Ended) follows when all of it has come.
    Response {
        /// The call.
        call: CallId,
        /// What the responder says besides.
        metadata: Metadata,
        /// Bytes of the result, if the responder has said.
        size: Option<u64>,
    },
    /// There is something new to [read](super::Contents::read), be it the end or an error.
    Readable(ExchangeId),
    /// There is room to [write](super::Contents::write) again, or the reader has taken or refused something.
    Writable(ExchangeId),
    /// A content has been [put together](super::Contents::collect), or can't be. For a result, [`Ended`](Self::Ended) follows,
    /// unless all of the result had come, and the call had ended, before it was to be put together.
    Collected {
        /// Whose.
        exchange: ExchangeId,
        /// The whole of it.
        body: Result<Bytes, ContentError>,
    },
    /// The peer takes no new calls. Those that it has not taken have ended.
    Goodbye,
    /// A call of ours has ended. There is exactly one such event for each call that was accepted, except
    /// for those that were abandoned.
    Ended {
        /// The call.
        call: CallId,
        /// How it ended.
        outcome: Outcome,
        /// What the responder says besides; it has done so in [`Response`](Self::Response) if there was one.
        metadata: Metadata,
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
    /// The argument.
    pub body: Body,
    /// What the requester says besides.
    pub metadata: Metadata,
    /// When the requester gives up, if it has said.
    pub deadline: Option<Instant>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it, as the application's serializer wrote it.
    Whole(Bytes),
    /// It is on its way: [read](super::Contents::read) it, or [put it together](super::Contents::collect).
    Streamed {
        /// Bytes of it, if the requester has said.
        size: Option<u64>,
        /// Most bytes of it that are held before any is read.
        held: usize,
    },
}

impl Request {
    /// Bytes of method, key, metadata and body: what it may occupy while it waits
    /// ([`Arrival::bytes`](crate::scheduler::Arrival::bytes)).
    pub fn size(&self) -> usize {
        let body = match &self.body {
            Body::Whole(body) => body.len(),
            Body::Streamed { held, .. } => *held,
        };
        self.method.as_bytes().len() + self.key.as_bytes().len() + self.metadata.size() + body
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
    /// All of a result has come that was announced by [`Event::Response`].
    Complete,
    /// The peer broke the protocol in its result; a handler has run.
    Fault(ContentFault),
    /// The call needs dialect 2 (it has metadata, or an argument that is streamed), and the peer turned out to speak
    /// dialect 1. Not sent.
    NeedsDialect2,
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
    /// The peer broke the rules of dialect 2.
    #[error("the peer broke the protocol: {0}")]
    ProtocolViolation(Violation),
    /// This side has used up the numbers of its calls.
    #[error("the connection has carried as many calls as it can")]
    CallsExhausted,
    /// The peer started a new handshake: it has been restarted, and has forgotten this session.
    #[error("the peer was restarted")]
    PeerRestarted,
}

/// What a peer did that dialect 2 does not survive: afterwards nobody knows what either side means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A packet that can't be read.
    #[error("a packet that can't be read")]
    Packet,
    /// A call whose number is not the next one, or a record of a call that never was.
    #[error("a call out of sequence")]
    Sequence,
    /// A record that only the other side of a call may send.
    #[error("a record from the wrong side")]
    WrongSide,
    /// More content than the link had credit for.
    #[error("more content than there was credit for")]
    Credit,
    /// The acknowledgement of what was not sent.
    #[error("an acknowledgement of what was not sent")]
    Acknowledgement,
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
    /// A packet that can't be read; the session ends.
    #[error("a packet that can't be read: {0}")]
    Packet(DecodeError),
    /// An argument or a result that breaks the protocol; its call ends.
    #[error("content that breaks the protocol: {0}")]
    Content(ContentFault),
    /// A probe too large to be answered.
    #[error("a PING of {0} bytes")]
    OversizePing(usize),
}
