//! Events: from a connection to its host, and between an endpoint and its connections.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Dialect;
use crate::ids::{CallId, ConnectionId, RequestId, StreamId};
use crate::ordering::{Arrival, Busy};
use crate::reply::Reply;
use crate::stream::{ReadError, StreamFault};
use crate::wire::DecodeError;
#[cfg(feature = "curve")]
use crate::zmtp::CurvePublicKey;
use crate::{ErrorInfo, Metadata, OrderingKey, Text};

/// An event of a connection, for its host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A byte stream is ready: ZMTP's handshake is complete, and Callosum's begins.
    #[non_exhaustive]
    Connected {
        /// Routing id that the peer asks for; often empty. Nothing proves that it is the peer's own.
        identity: Bytes,
        /// The key that the peer has proved to own; `None` without CURVE.
        #[cfg(feature = "curve")]
        public_key: Option<CurvePublicKey>,
    },
    /// A client has proved to own this key, and waits for [`admit`](crate::Connection::admit) or
    /// [`refuse`](crate::Connection::refuse) until the handshake times out.
    #[cfg(feature = "curve")]
    AuthenticationRequested {
        /// The client's long-term public key.
        public_key: CurvePublicKey,
    },
    /// The handshake is complete.
    Established {
        /// Largest body that the peer takes, in bytes; `None` for a peer that speaks only dialect 1 and says no more, such as Python's.
        max_body: Option<u64>,
        /// The dialect from now on.
        dialect: Dialect,
    },
    /// Run the handler of this request, and give its reply to the endpoint once it has ended.
    Request(Request),
    /// Stop the handler of this request, and call [`finish`](crate::Endpoint::finish) once it has ended. Occurs at most
    /// once for a request; ignore it if the handler has already ended.
    Stop {
        /// The request.
        request: RequestId,
        /// Why.
        reason: StopReason,
    },
    /// The streamed reply that was asked for may [begin](crate::Connection::begin_reply) now.
    MayReply(RequestId),
    /// The result of a call with [`Delivery::Stream`](crate::Delivery::Stream) has begun: read it.
    /// [`Ended`](Self::Ended) follows when all of it has arrived.
    Response {
        /// The call.
        call: CallId,
        /// The metadata of the reply.
        metadata: Metadata,
        /// The size of the result in bytes, if the peer has sent it.
        size: Option<u64>,
    },
    /// There is something new to [read](crate::RecvStream::read), the end or an error included.
    Readable(StreamId),
    /// There is room to [write](crate::SendStream::write) again, or the reader has read something, or has stopped.
    Writable(StreamId),
    /// A stream has been [reassembled](crate::RecvStream::reassemble), or can't be. For a call of this side,
    /// [`Ended`](Self::Ended) follows.
    Reassembled {
        /// Of which call.
        stream: StreamId,
        /// The rest of the stream.
        body: Result<Bytes, ReadError>,
    },
    /// The peer accepts no new calls. The calls that it had not accepted have ended.
    Goodbye,
    /// A call of this side has ended. There is exactly one such event for each accepted call, unless it was abandoned.
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
        /// The number of the probe.
        ping: u64,
        /// Time between the probe's transmission and its answer.
        round_trip: Duration,
    },
    /// A message of the peer was dropped; the connection goes on.
    Anomaly(Anomaly),
    /// The connection has ended; every call of this side has ended, and no request needs an answer any more.
    Closed(CloseCause),
}

impl Event {
    /// The end of a call without metadata.
    pub(crate) fn ended(call: CallId, outcome: Outcome) -> Self {
        Self::Ended { call, outcome, metadata: Metadata::new() }
    }
}

/// Why a request is not to start, or its handler has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The caller cancelled the call.
    Cancelled,
    /// The caller's own deadline is over.
    DeadlinePassed,
    /// The handler has run for [`execution_timeout`](crate::ConnectionConfig::execution_timeout), unless it has finished by now.
    ExecutionTimedOut,
    /// The argument can't be completed.
    IncompleteArgument,
    /// The connection is over.
    Disconnected,
}

impl StopReason {
    /// Whether the caller does not wait for the reply, so that its order does not matter (PROTOCOL.md, O-18).
    pub fn is_given_up(self) -> bool {
        matches!(self, Self::Cancelled | Self::DeadlinePassed | Self::Disconnected)
    }
}

/// A request of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The id of the request.
    pub id: RequestId,
    /// The method.
    pub method: Text,
    /// The ordering key, or "no key".
    pub key: OrderingKey,
    /// The argument.
    pub body: Body,
    /// The caller's metadata.
    pub metadata: Metadata,
    /// The caller's deadline, if it has sent one.
    pub deadline: Option<Instant>,
}

/// An argument. Exhaustive on purpose, as [`Outcome`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The whole body, as the application's serializer wrote it.
    Whole(Bytes),
    /// A stream, to be [read](crate::RecvStream::read) or [reassembled](crate::RecvStream::reassemble).
    Stream {
        /// Its size in bytes, if the caller has sent it.
        size: Option<u64>,
    },
}

/// How a call of this side ended.
///
/// Exhaustive on purpose: a host handles each outcome, so a new one has to break hosts that don't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler returned this.
    Result(Bytes),
    /// The handler failed.
    Failure(Box<ErrorInfo>),
    /// Callosum on the other side refused the call or failed.
    Error(Box<ErrorInfo>),
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
    /// The body is larger than the peer's limit, which became known only after the call was accepted. It was not sent.
    TooLarge {
        /// Bytes of the body.
        size: usize,
        /// The peer's limit in bytes.
        limit: usize,
    },
    /// The reply is malformed; a handler has run.
    Malformed(DecodeError),
    /// The whole result that [`Event::Response`] announced has arrived.
    Complete,
    /// The peer broke the protocol in its result; a handler has run.
    Fault(StreamFault),
    /// The call needs dialect 2, for its metadata or its streamed argument, and the peer speaks dialect 1. It was not
    /// sent.
    NeedsDialect2,
}

/// Why a connection has ended.
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

/// How a peer broke a fatal rule of dialect 2 (PROTOCOL.md, R-7).
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

/// A message of a peer that this side dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Anomaly {
    /// Not three frames, or an unknown marker.
    #[error("a message that is neither PING, PONG nor UPPER in three frames")]
    NotAMessage,
    /// A malformed header, which names no call to answer.
    #[error("a header that can't be read: {0}")]
    Header(DecodeError),
    /// A request whose body can't be read; it was answered with an ERROR.
    #[error("a request whose body can't be read: {0}")]
    Body(DecodeError),
    /// A request with the id of one that is still open.
    #[error("a request with the id of one that is still open")]
    DuplicateRequest,
    /// A reply to a call that was never made, or has ended.
    #[error("a reply to a call that is not waiting for one")]
    UnknownReply,
    /// A cancellation of a request that was never made, or has been answered.
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

/// From a connection to the endpoint. Pass the events of one connection in the order in which they were polled; events
/// of different connections may be in any order. An event for an unknown connection or request, or in the wrong state,
/// is ignored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// A request has arrived; the order of these events is the order of arrival.
    ///
    /// [`Arrival::bytes`] are the bytes that the connection holds: method, key, metadata, and the body if that is
    /// complete. The endpoint counts 256 bytes more.
    Arrived(Arrival),
    /// The argument of a request that arrived unready is complete: the request may start in its order. If its bytes
    /// would exceed the limit on waiting bytes, [`ConnectionEvent::Refuse`] follows.
    Ready {
        /// Which.
        request: RequestId,
        /// Bytes of the argument, which count in addition to those of its [`Arrival`] from now on.
        bytes: usize,
    },
    /// The caller has cancelled the request, its time is over, or its argument can't be completed.
    ///
    /// If the request has not started, it does not start. If it runs, the connection has told the host to stop the
    /// handler, and `reply` is used if [`finish`](crate::Endpoint::finish) brings none; of several, the first. If it
    /// has finished and its reply is held, `reply` replaces that one, unless the reason is
    /// [`StopReason::ExecutionTimedOut`]: the handler has finished in time.
    ///
    /// If the caller [does not wait](StopReason::is_given_up), the reply is sent at once, or as soon as the handler
    /// has ended; otherwise in its order.
    Withdrawn {
        /// Which.
        request: RequestId,
        /// Why.
        reason: StopReason,
        /// The reply to the caller, such as [`Reply::Cancelled`].
        reply: Reply,
    },
    /// The request had been started, and the connection never handed it out, because it had been withdrawn or the connection
    /// closed before [`ConnectionEvent::Start`] got there. It ends as if its handler had been stopped at once.
    NeverRan(RequestId),
    /// A body needs memory for reassembly, and waits until [`ConnectionEvent::Reassemble`].
    ReassemblyWanted {
        /// The connection whose limit it counts against.
        connection: ConnectionId,
        /// The stream of the body.
        stream: StreamId,
        /// Memory that the body takes.
        bytes: usize,
    },
    /// A body has been reassembled, or was given up, even if it still waits for memory.
    ReassemblyEnded {
        /// As it was given in [`ReassemblyWanted`](Self::ReassemblyWanted).
        connection: ConnectionId,
        /// As it was given in [`ReassemblyWanted`](Self::ReassemblyWanted).
        stream: StreamId,
    },
    /// The send queue of this peer is over its limit: no more of its requests start.
    Paused(ConnectionId),
    /// The end of [`Paused`](Self::Paused).
    Resumed(ConnectionId),
    /// Nothing has been received from the peer for a second: spare memory for further requests may be freed.
    Quiet(ConnectionId),
    /// The connection has ended: its waiting requests are forgotten, its running ones keep slot and key until
    /// [`finish`](crate::Endpoint::finish). It gets no more events.
    Closed(ConnectionId),
}

/// From the endpoint to a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// Pass the request to its handler now, or answer with [`EndpointEvent::NeverRan`].
    Start(RequestId),
    /// The request exceeds a limit: answer it with an ERROR `Busy`, out of order.
    Refuse {
        /// Which.
        request: RequestId,
        /// The limit.
        reason: Busy,
    },
    /// Send this reply now.
    Reply {
        /// The request that it answers.
        request: RequestId,
        /// The handler's reply, or the one of [`EndpointEvent::Withdrawn`], or an ERROR `ReplyTooLarge` in its place.
        reply: Reply,
    },
    /// The streamed reply of this running request may begin now: all earlier ones that it has to follow have been
    /// released.
    MayReply(RequestId),
    /// There is memory: reassemble this body now.
    Reassemble(StreamId),
    /// Make and accept no new calls.
    Drain,
}
