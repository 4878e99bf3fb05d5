//! The configuration of a connection: limits, times, dialect, and which arguments are streams.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::setters::setters;

/// Limits and times of one connection. PROTOCOL.md, rule L-1, lists the defaults.
///
/// Start with [`Default`] and chain setters: `ConnectionConfig::default().max_body(1 << 20)`. A timeout whose
/// end an [`Instant`](std::time::Instant) can't represent, such as [`Duration::MAX`], never expires.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// Largest body accepted from the peer, in bytes before compression. A call with a larger one is refused
    /// with the ERROR `BodyTooLarge`; a larger result ends its call as
    /// [`Outcome::Malformed`](crate::Outcome::Malformed). Default: 10 MiB.
    pub max_body: usize,
    /// Requests of the peer that may be open: waiting, running, or finished and not yet answered. One more is
    /// refused with the ERROR `Busy`. Default: 1,100.
    pub max_requests: usize,
    /// Bytes of calls and replies that may wait to be sent to the peer. A call that would exceed it fails
    /// with [`InvokeError::QueueFull`](crate::InvokeError::QueueFull), unless nothing waits. Replies may
    /// exceed it; then no more requests of the peer start until the queue is within the limit again. Default:
    /// 64 MiB.
    pub max_outgoing_bytes: usize,
    /// How long the handshake may take. Then a connector closes the connection, and a binder assumes a peer
    /// of dialect 1, which need not send anything first (PROTOCOL.md, H-9). Default: 10 s.
    pub handshake_timeout: Duration,
    /// How long the peer may accept no bytes before the connection is closed (PROTOCOL.md, K-3). Default: 10
    /// s.
    pub write_timeout: Duration,
    /// How long a handler may run before it is stopped and its caller gets the ERROR `ExecutionTimedOut`.
    /// Default: `None`, no limit.
    pub execution_timeout: Option<Duration>,
    /// The highest dialect that is offered to the peer. Default: [`Dialect::Two`].
    pub dialect: Dialect,
    /// Window of a stream until half of it has been read, in bytes. Clamped to at least 1 KiB and at most
    /// `stream_window`. Default: 16 KiB.
    ///
    /// Unread streams don't delay other streams while their initial windows take up no more than half of
    /// `connection_window`: with the defaults, up to 3,072 streams.
    pub first_window: u64,
    /// Window of a stream once half of `first_window` has been read, in bytes. It doubles whenever the application reads a whole window
    /// in less than two round trips, up to a part of `connection_window`. Less than 1 KiB counts as 1 KiB.
    /// Default: 256 KiB.
    pub stream_window: u64,
    /// Window of all streams together, in bytes: the most that is buffered unread. Half of it is reserved for
    /// initial windows. The other half widens the windows of streams that are read; once it is used up,
    /// windows stay at their size. Less than `stream_window` counts as `stream_window`. Default: 96 MiB.
    pub connection_window: u64,
    /// Bytes of one stream that may wait to be sent. A write is accepted while fewer wait, so the last one
    /// may exceed it; otherwise it fails with [`WriteError::Full`](crate::WriteError::Full). A write counts
    /// as at least 32 bytes. Default: 256 KiB.
    pub stream_buffer: usize,
    /// Whether replies to calls with the same key are sent one after the other, even if they are streams.
    /// Default: true.
    pub ordered_replies: bool,
    /// Which requests get their arguments as streams. Default: none, so large arguments are reassembled.
    pub stream_arguments: StreamArguments,
    /// Probes for a transport that delivers messages and has no heartbeats of its own. Default: `None`.
    pub keepalive: Option<Keepalive>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            max_body: 10 * 1024 * 1024,
            // An endpoint's defaults: 100 slots, and 1,000 requests of a connection that wait.
            max_requests: 1_100,
            max_outgoing_bytes: 64 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            execution_timeout: None,
            dialect: Dialect::Two,
            // A larger window would let fewer streams stay unread at a time (F-9). Up to 16 KiB more come with
            // the OPEN or RESULT.
            first_window: 16 * 1024,
            stream_window: 256 * 1024,
            connection_window: 96 * 1024 * 1024,
            stream_buffer: 256 * 1024,
            ordered_replies: true,
            stream_arguments: StreamArguments::None,
            // K-1: only transports without heartbeats need probes, and ZMTP has heartbeats.
            keepalive: None,
        }
    }
}

impl ConnectionConfig {
    setters! {
        max_body: usize,
        max_requests: usize,
        max_outgoing_bytes: usize,
        handshake_timeout: Duration,
        write_timeout: Duration,
        execution_timeout: Option<Duration>,
        dialect: Dialect,
        first_window: u64,
        stream_window: u64,
        connection_window: u64,
        stream_buffer: usize,
        ordered_replies: bool,
        stream_arguments: StreamArguments,
        keepalive: Option<Keepalive>,
    }
}

/// Which requests start as soon as they arrive, with an argument that the handler reads as a stream. The
/// others start once their whole argument has arrived.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum StreamArguments {
    /// None of them.
    #[default]
    None,
    /// All of them.
    All,
    /// Those with a method for which this function returns true. It should always return the same for a
    /// method.
    Of(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl StreamArguments {
    pub(crate) fn has(&self, method: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Of(has) => has(method),
        }
    }
}

impl fmt::Debug for StreamArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::All => "All",
            Self::Of(_) => "Of(..)",
        })
    }
}

/// A version of the wire format. The handshake selects the highest that both sides offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// The dialect of Python Callosum: one message for each call and each answer.
    One,
    /// Packets of records: adds bodies in pieces, streams, metadata, urgency and deadlines.
    Two,
}

impl Dialect {
    /// Its number in a hello.
    pub const fn number(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// The bits of this dialect and all lower ones; bit n stands for dialect n + 1.
    pub(crate) const fn offered(self) -> u32 {
        (1 << self.number()) - 1
    }

    /// The highest dialect that this side (`self` and lower) and the peer (bits) offer.
    pub(crate) const fn common(self, theirs: u32) -> Self {
        match self {
            // H-14: dialect 1 is spoken even if the peer does not list it.
            Self::Two if theirs & 0b10 != 0 => Self::Two,
            _ => Self::One,
        }
    }
}

/// When to probe a silent peer, and when to close the connection to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before a probe, and between probes. Less than 1 ms counts as 1 ms, so that timers don't spin.
    /// Default: 30 s.
    pub idle: Duration,
    /// Unanswered probes before the connection is closed, one `idle` after the last; with 0, silence alone
    /// closes it, except for ZMTP, which counts 0 as 1. Default: 2.
    pub misses: u32,
}

impl Keepalive {
    pub(crate) fn without_spinning(self) -> Self {
        Self { idle: self.idle.max(Duration::from_millis(1)), ..self }
    }
}

impl Default for Keepalive {
    /// A dead peer is detected after 90 s.
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), misses: 2 }
    }
}
