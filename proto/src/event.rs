//! Events from a connection to its host, and between an endpoint and its connections.

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
    /// The ZMTP handshake on a byte stream is complete, and Callosum's begins.
    #[non_exhaustive]
    Connected {
        /// Routing id that the peer has requested; often empty. Not authenticated.
        identity: Bytes,
        /// The public key that the peer has proved to own; `None` without CURVE.
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
        /// Largest body that the peer accepts, in bytes; `None` if it has announced no limit, like Python,
        /// which speaks only dialect 1.
        max_body: Option<u64>,
        /// The dialect from now on.
        dialect: Dialect,
    },
    /// Run the handler of this request, and call [`finish`](crate::Endpoint::finish) once it has ended.
    Request(Request),
    /// Stop the handler of this request, and call [`finish`](crate::Endpoint::finish) once it has ended.
    /// Occurs at most once for a request. Ignore it if the handler has already ended.
    Stop {
        /// The request.
        request: RequestId,
        /// Why.
        reason: StopReason,
    },
    /// The streamed reply that [`Endpoint::begin_reply`](crate::Endpoint::begin_reply) requested may
    /// [begin](crate::Connection::begin_reply) now.
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
    /// There is something to [read](crate::RecvStream::read): bytes, the end, or an error.
    Readable(StreamId),
    /// There is room to [write](crate::SendStream::write) again, or the reader has read more, or has stopped.
    Writable(StreamId),
    /// The [reassembly](crate::RecvStream::reassemble) of a stream is complete or has failed. A call of this side ends
    /// once its result has arrived and its argument has been sent: [`Ended`](Self::Ended) may come before this event or
    /// after it.
    Reassembled {
        /// The stream.
        stream: StreamId,
        /// The rest of the stream.
        body: Result<Bytes, ReadError>,
    },
    /// The peer accepts no new calls. The calls that it had not accepted have ended.
    Goodbye,
    /// A call of this side has ended. There is exactly one such event for each accepted call, unless it was
    /// abandoned.
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
    /// The peer sent something faulty. The variants say what was dropped; only for [`Anomaly::Packet`], the
    /// connection is closed.
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

/// Why a request must not start, or its handler must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The caller cancelled the call.
    Cancelled,
    /// The caller's deadline has passed, plus a grace period of one second.
    DeadlinePassed,
    /// The handler has run for [`execution_timeout`](crate::ConnectionConfig::execution_timeout). It may have
    /// ended in the meantime.
    ExecutionTimedOut,
    /// The argument can't become complete.
    IncompleteArgument,
    /// The connection has ended.
    Disconnected,
}

impl StopReason {
    /// Whether the caller no longer waits for the reply, so that its order does not matter (PROTOCOL.md,
    /// O-18).
    pub fn is_given_up(self) -> bool {
        // After `ExecutionTimedOut` and `IncompleteArgument`, the caller still waits for the error.
        matches!(self, Self::Cancelled | Self::DeadlinePassed | Self::Disconnected)
    }
}

/// A request of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// The caller's deadline, if it has sent one, or the end of
    /// [`execution_timeout`](crate::ConnectionConfig::execution_timeout), whichever is earlier.
    pub deadline: Option<Instant>,
}

/// An argument. Exhaustive on purpose, like [`Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The whole body, as the caller's application serialized it.
    Whole(Bytes),
    /// A stream: [read](crate::RecvStream::read) or [reassemble](crate::RecvStream::reassemble) it.
    Stream {
        /// Its size in bytes, if the caller has sent it.
        size: Option<u64>,
    },
}

/// How a call of this side ended.
///
/// Exhaustive on purpose: a host must handle each outcome, so it should not compile without a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler returned this.
    Result(Bytes),
    // Errors are boxed: they are rare, and three texts would make every event larger.
    /// The handler failed.
    Failure(Box<ErrorInfo>),
    /// Callosum on the other side refused the call or failed.
    Error(Box<ErrorInfo>),
    /// The other side stopped the handler, or never started it.
    Cancelled,
    /// The call's deadline passed.
    TimedOut {
        /// Whether the call was sent; if so, a handler may have run.
        sent: bool,
    },
    /// The connection ended.
    Disconnected {
        /// Why it ended.
        cause: CloseCause,
        /// Whether the call was sent; if so, a handler may have run.
        sent: bool,
    },
    /// The body is larger than the peer's limit, which was unknown when the call was accepted. The call was
    /// not sent.
    TooLarge {
        /// Bytes of the body.
        size: usize,
        /// The peer's limit in bytes.
        limit: usize,
    },
    /// The reply is malformed or over a limit; a handler may have run.
    Malformed(DecodeError),
    /// The whole result that [`Event::Response`] announced has arrived.
    Complete,
    /// The peer violated the protocol in its result; a handler may have run.
    Fault(StreamFault),
    /// The call needs dialect 2, for its metadata or its streamed argument, and the peer speaks dialect 1. It
    /// was not sent.
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
    /// The peer did not answer the handshake in time.
    #[error("the peer did not answer the handshake in time")]
    HandshakeTimedOut,
    /// Probes went unanswered.
    #[error("the peer did not answer its keepalive probes")]
    KeepaliveTimedOut,
    /// The peer accepted no bytes for [`write_timeout`](crate::ConnectionConfig::write_timeout), or more than
    /// 4 MiB of answers that need no handler wait for it (K-3, K-4).
    #[error("the peer does not read its messages")]
    PeerNotReading,
    /// The peer violated a fatal rule of dialect 2.
    #[error("the peer violated the protocol: {0}")]
    ProtocolViolation(Violation),
    /// This side has no numbers left for its calls, after 2^52 calls.
    #[error("the connection has no numbers left for calls")]
    CallsExhausted,
    /// The peer started a new handshake: it was restarted, and has lost this connection.
    #[error("the peer was restarted")]
    PeerRestarted,
}

/// How a peer violated a fatal rule of dialect 2 (PROTOCOL.md, R-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A malformed packet.
    #[error("a malformed packet")]
    Packet,
    /// A call whose number is not the next one, or a record of a call that was never opened.
    #[error("a call out of sequence")]
    Sequence,
    /// A record that only the other side of a call may send.
    #[error("a record from the wrong side")]
    WrongSide,
    /// More stream data than the connection had credit for.
    #[error("more stream data than the connection had credit for")]
    Credit,
    /// An acknowledgement of bytes that were not sent.
    #[error("an acknowledgement of bytes that were not sent")]
    Acknowledgement,
}

/// A faulty message of the peer. Except where noted, it is dropped without other effects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Anomaly {
    /// A message with a wrong number of frames, or an unknown marker.
    #[error("a message that is neither PING, PONG nor UPPER in three frames")]
    NotAMessage,
    /// A malformed header, so there is no call to answer.
    #[error("a malformed header: {0}")]
    Header(DecodeError),
    /// A request with a malformed or too large body. It was answered with an ERROR.
    #[error("a request whose body can't be read: {0}")]
    Body(DecodeError),
    /// A request of dialect 1 with the name of an open one.
    #[error("a request with the name of an open one")]
    DuplicateRequest,
    /// A reply to a call that was never made, or has ended.
    #[error("a reply to a call that is not waiting for one")]
    UnknownReply,
    /// A cancellation of a request that was never made, or has been answered.
    #[error("a cancellation of a request that is not open")]
    UnknownCancel,
    /// A malformed packet. The connection is closed.
    #[error("a malformed packet: {0}")]
    Packet(DecodeError),
    /// A fault in an argument or a result. Its call ends, unless it had already ended.
    #[error("a fault in a stream: {0}")]
    Stream(StreamFault),
    /// A PING that is too large to be answered: its header and body have this many bytes.
    #[error("a PING of {0} bytes")]
    OversizePing(usize),
}

/// From a connection to the endpoint. Pass the events of one connection in the order in which they were
/// polled; events of different connections can be in any order. The endpoint ignores an event for an unknown
/// connection or request, or for one in the wrong state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EndpointEvent {
    /// A request has arrived; the order of these events is the order of arrival.
    ///
    /// [`Arrival::bytes`] are the bytes that the connection holds: method, key, metadata, and the body or the
    /// window of a stream, unless the argument has to be complete first. The endpoint counts 256 bytes more.
    Arrived(Arrival),
    /// The argument of a request that arrived unready is complete, so the request may start, in its order. If
    /// its bytes would exceed the limit on waiting bytes, [`ConnectionEvent::Refuse`] follows.
    Ready {
        /// The request.
        request: RequestId,
        /// Bytes of the argument, which count in addition to those of its [`Arrival`] from now on.
        bytes: usize,
    },
    /// The caller has cancelled the request, a deadline or timeout has passed, or the argument can't become
    /// complete.
    ///
    /// A request that has not started does not start. If it runs, the connection has told the host to stop
    /// the handler, and `reply` is used if [`finish`](crate::Endpoint::finish) gets none; of several, the
    /// first. If it has finished and its reply waits for its order, `reply` replaces that one, unless the
    /// reason is [`StopReason::ExecutionTimedOut`]: the handler has finished in time.
    ///
    /// If the caller [has given up](StopReason::is_given_up), the reply is sent at once, or as soon as the
    /// handler has ended; otherwise in its order.
    Withdrawn {
        /// The request.
        request: RequestId,
        /// Why.
        reason: StopReason,
        /// The reply to the caller, such as [`Reply::Cancelled`].
        reply: Reply,
    },
    /// The connection does not pass the request to the host, because it was withdrawn, the host has
    /// [answered](crate::Connection::reply) it, or the connection closed before [`ConnectionEvent::Start`]
    /// arrived. If the endpoint has started it, it ends as if its handler had been stopped at once. If it
    /// waits, it was answered, and is forgotten.
    NeverRan(RequestId),
    /// A body needs memory for its reassembly, and waits for [`ConnectionEvent::Reassemble`].
    ReassemblyWanted {
        /// The connection whose limit it counts against.
        connection: ConnectionId,
        /// The stream of the body.
        stream: StreamId,
        /// Memory that the body takes, in bytes.
        bytes: usize,
    },
    /// A body is complete or has failed, and needs no memory any more. Also if it still waits for memory.
    ReassemblyEnded {
        /// As in [`ReassemblyWanted`](Self::ReassemblyWanted).
        connection: ConnectionId,
        /// As in [`ReassemblyWanted`](Self::ReassemblyWanted).
        stream: StreamId,
    },
    /// The send queue of this peer is over its limit: no more of its requests start.
    Paused(ConnectionId),
    /// The end of [`Paused`](Self::Paused).
    Resumed(ConnectionId),
    /// Nothing has been received from the peer for a second: free memory that is kept for its future
    /// requests.
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
    /// The request exceeds a limit: answer with an ERROR `Busy`, out of order.
    Refuse {
        /// The request.
        request: RequestId,
        /// The limit.
        reason: Busy,
    },
    /// Send this reply now.
    Reply {
        /// The request that it answers.
        request: RequestId,
        /// The handler's reply, that of [`EndpointEvent::Withdrawn`], or an ERROR `ReplyTooLarge` in its
        /// place.
        reply: Reply,
    },
    /// The streamed reply of this running request may begin now: all earlier ones that it has to follow have
    /// been released.
    MayReply(RequestId),
    /// There is memory for this body: reassemble it now.
    Reassemble(StreamId),
    /// Make and accept no new calls.
    Drain,
}
