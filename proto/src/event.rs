//! Events: what a connection tells its host, and what an endpoint and its connections tell each other.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Dialect;
use crate::ids::{CallId, ConnectionId, RequestId, StreamId};
use crate::ordering::{Arrival, BusyReason};
use crate::reply::Reply;
use crate::stream::{ReadError, StreamFault};
use crate::wire::{DecodeError, Hello};
#[cfg(feature = "curve")]
use crate::zmtp::CurvePublicKey;
use crate::zmtp::PeerInfo;
use crate::{ErrorInfo, Metadata, OrderingKey, Text};

/// One probe of ours, unique within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PingId(pub(crate) u64);

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A byte stream is ready: ZMTP's handshake is complete, and Callosum's begins.
    Connected(PeerInfo),
    /// A client has proved to own this key, and waits for [`authenticate`](crate::Connection::authenticate) until the time of the
    /// handshake is over.
    #[cfg(feature = "curve")]
    AuthenticationRequested {
        /// The client's long-term key, which is who it is.
        public_key: CurvePublicKey,
    },
    /// The handshake is complete.
    Established {
        /// What the peer said of itself; `None` for a peer that only speaks dialect 1, such as Python's.
        hello: Option<Hello>,
        /// What is spoken from now on.
        dialect: Dialect,
    },
    /// Run the handler of this request, and give its reply to the endpoint once it has ended.
    Request(Request),
    /// Stop the handler of this request. The endpoint is told once it has really ended. Comes once for a request at the most; ignore it if
    /// the handler has ended by then.
    Stop {
        /// The request.
        request: RequestId,
        /// Why.
        reason: StopReason,
    },
    /// The streamed reply that was asked for may [begin](crate::Connection::begin_reply) now.
    MayReply(RequestId),
    /// The result of a call of ours that asked for a stream has begun: read it. [`Ended`](Self::Ended) follows when all of it has come.
    Response {
        /// The call.
        call: CallId,
        /// The metadata of the reply.
        metadata: Metadata,
        /// Bytes of the result, if the peer has said.
        size: Option<u64>,
    },
    /// There is something new to [read](crate::RecvStream::read), the end or an error included.
    Readable(StreamId),
    /// There is room to [write](crate::SendStream::write) again, or the reader has consumed something, or wants no more.
    Writable(StreamId),
    /// A stream has been [reassembled](crate::RecvStream::reassemble), or can't be. Of a call of ours, [`Ended`](Self::Ended) follows.
    Reassembled {
        /// Of which call.
        stream: StreamId,
        /// What was left of it.
        body: Result<Bytes, ReadError>,
    },
    /// The peer takes no new calls. Those that it has not taken have ended.
    Goodbye,
    /// A call of ours has ended. There is exactly one such event for each call that was accepted, unless it was abandoned.
    Ended {
        /// The call.
        call: CallId,
        /// How it ended.
        outcome: Outcome,
        /// The metadata of the reply; empty if [`Response`](Self::Response) had it.
        metadata: Metadata,
    },
    /// The peer answered a probe.
    Pong {
        /// The probe.
        ping: PingId,
        /// Time between the probe's transmission and its answer.
        round_trip: Duration,
    },
    /// The peer sent something that was dropped; the connection lives on.
    Anomaly(Anomaly),
    /// The connection is over; every call of ours has ended, and no request needs an answer any more.
    Closed(CloseCause),
}

impl Event {
    /// The end of a call without metadata.
    pub(crate) fn ended(call: CallId, outcome: Outcome) -> Self {
        Self::Ended { call, outcome, metadata: Metadata::new() }
    }
}

/// Why a handler is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The caller cancelled the call.
    Cancelled,
    /// The handler exceeded its time, or its caller gave up.
    TimedOut,
    /// The connection is over.
    Disconnected,
}

/// Why a request is withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WithdrawReason {
    /// The caller cancelled the call.
    Cancelled,
    /// The caller's own deadline is over.
    DeadlinePassed,
    /// The handler has run for [`execution_timeout`](crate::ConnectionConfig::execution_timeout), unless it has finished by now.
    ExecutionTimedOut,
    /// The argument can't be completed.
    IncompleteArgument,
}

impl WithdrawReason {
    /// Whether nobody waits for the reply any more, so that its order has no meaning (PROTOCOL.md, O-18).
    pub fn is_given_up(self) -> bool {
        matches!(self, Self::Cancelled | Self::DeadlinePassed)
    }
}

/// A request of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names it.
    pub id: RequestId,
    /// The method.
    pub method: Text,
    /// The ordering key, or "no key".
    pub key: OrderingKey,
    /// The argument.
    pub body: Body,
    /// What travels besides the argument.
    pub metadata: Metadata,
    /// When the caller gives up, if it has said.
    pub deadline: Option<Instant>,
}

/// An argument. Exhaustive on purpose, as [`Outcome`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it, as the application's serializer wrote it.
    Whole(Bytes),
    /// It comes as a stream, to be [read](crate::RecvStream::read) or [reassembled](crate::RecvStream::reassemble).
    Stream {
        /// Bytes of it, if the caller has said.
        size: Option<u64>,
    },
}

/// How a call of ours ended.
///
/// Exhaustive on purpose: the host tells a caller of each of them, so one that is added has to break those that don't know it.
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
    /// The connection ended.
    Disconnected {
        /// Why it ended.
        cause: CloseCause,
        /// Whether the request had left; if so a handler may have run.
        sent: bool,
    },
    /// The body is larger than the peer takes, which was known only after the call was accepted. Not sent.
    TooLarge {
        /// Bytes of the body.
        size: usize,
        /// The peer's limit in bytes.
        limit: usize,
    },
    /// The reply came, but can't be read; a handler has run.
    Malformed(DecodeError),
    /// All of a result has come that [`Event::Response`] announced.
    Complete,
    /// The peer broke the protocol in its result; a handler has run.
    Fault(StreamFault),
    /// The call needs dialect 2, for its metadata or its streamed argument, and the peer turned out to speak dialect 1. Not sent.
    NeedsDialect2,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseCause {
    /// The host closed it.
    #[error("this side closed the connection")]
    Local,
    /// The transport lost the connection.
    #[error("the connection was lost")]
    LinkLost,
    /// No PONG came in time.
    #[error("the peer did not answer the handshake in time")]
    HandshakeTimedOut,
    /// Probes went unanswered.
    #[error("the peer did not answer its keepalive probes")]
    KeepaliveTimedOut,
    /// The peer accepted no bytes for too long, or let answers that it caused pile up.
    #[error("the peer does not read what it is sent")]
    PeerNotReading,
    /// The peer broke the rules of dialect 2.
    #[error("the peer broke the protocol: {0}")]
    ProtocolViolation(Violation),
    /// This side has used up the numbers of its calls.
    #[error("the connection has carried as many calls as it can")]
    CallsExhausted,
    /// The peer started a new handshake: it has been restarted, and has forgotten this connection.
    #[error("the peer was restarted")]
    PeerRestarted,
}

/// How a peer broke a rule of dialect 2 that is fatal: what follows can't be understood any more.
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
    /// More stream data than the connection had credit for.
    #[error("more stream data than there was credit for")]
    Credit,
    /// The acknowledgement of what was not sent.
    #[error("an acknowledgement of what was not sent")]
    Acknowledgement,
}

/// What a peer sent and this side dropped.
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
    /// A packet that can't be read; the connection is closed.
    #[error("a packet that can't be read: {0}")]
    Packet(DecodeError),
    /// An argument or a result that breaks the protocol; its call ends.
    #[error("a stream that breaks the protocol: {0}")]
    Stream(StreamFault),
    /// A probe too large to be answered.
    #[error("a PING of {0} bytes")]
    OversizePing(usize),
}

/// From a connection to the endpoint. The events of one connection must be handed over in the order in which they were polled; those
/// of different connections, in any order. An event that names an unknown connection or request, or comes in a state in which
/// it makes no sense, is ignored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// A request has come; its place in the order is the one in which these events are handled.
    ///
    /// [`Arrival::bytes`] is what the connection keeps of it: method, key, metadata, and the body if that is complete. The
    /// endpoint counts 256 bytes besides.
    Arrived(Arrival),
    /// The argument of a request that arrived unready is complete: the request may start when its order comes. Where there is
    /// no place for it to wait, [`ConnectionEvent::Refuse`] follows.
    Ready {
        /// Which.
        request: RequestId,
        /// Bytes of the argument, which count besides those of its [`Arrival`] from now on.
        bytes: usize,
    },
    /// The caller has given the request up, or its time is over, or its argument can't be completed.
    ///
    /// One that has not started never will. If it runs, the connection has told the host to stop the handler, and the reply is used
    /// if [`finish`](crate::Endpoint::finish) brings none; of several, the first. If it has finished and its reply is held, the
    /// reply replaces that, unless the reason is [`WithdrawReason::ExecutionTimedOut`]: the handler has finished in time.
    ///
    /// Where the caller [has given it up](WithdrawReason::is_given_up), the reply leaves at once, or as soon as the handler has ended;
    /// else in its order.
    Withdrawn {
        /// Which.
        request: RequestId,
        /// Why.
        reason: WithdrawReason,
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
    /// A body has been reassembled, or never will be, even if it still waits for memory.
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
    /// Nothing was heard of the peer for a second: memory that is kept for requests to come may go.
    Quiet(ConnectionId),
    /// The connection is over: its requests that wait vanish, those that run keep slot and key until
    /// [`finish`](crate::Endpoint::finish). It gets no more events.
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
