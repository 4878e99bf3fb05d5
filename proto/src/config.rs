//! The configuration of a connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::setters::setters;

/// Limits and times of one connection. The defaults are those of PROTOCOL.md, rule L-1.
///
/// Begin with [`Default`] and chain setters: `ConnectionConfig::default().max_body(1 << 20)`. A time that
/// ends later than an [`Instant`](std::time::Instant) can say, such as [`Duration::MAX`], never ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// Largest body taken from the peer, compressed or not, in bytes. A larger one is refused with the ERROR
    /// `BodyTooLarge`. Default 10 MiB.
    pub max_body: usize,
    /// Requests of the peer that may be open (waiting, running, or done and not yet answered). One more is
    /// refused with the ERROR `Busy`. Default 1,100.
    pub max_requests: usize,
    /// Bytes that may wait to be sent to the peer. A new call past it fails with
    /// [`InvokeError::QueueFull`](crate::InvokeError::QueueFull); past it with replies, no more requests of
    /// the peer start. Default 64 MiB.
    pub max_outgoing_bytes: usize,
    /// How long the handshake may take. Past it a connector closes the connection, and a binder takes its
    /// peer as one of dialect 1, which need not speak first (PROTOCOL.md, H-9). Default 10 s.
    pub handshake_timeout: Duration,
    /// How long the peer may accept no bytes before the connection is closed. Default 10 s.
    pub write_timeout: Duration,
    /// How long a handler may run before it is stopped and its caller gets the ERROR `ExecutionTimedOut`.
    /// Default: for ever.
    pub execution_timeout: Option<Duration>,
    /// The highest dialect that is offered to the peer. Default: [`Dialect::Two`].
    pub dialect: Dialect,
    /// Window of a stream before it is read for the first time, in bytes. At least 1 KiB and at most
    /// `stream_window`: another value is moved to the nearer of them. Default 16 KiB.
    ///
    /// Streams that nobody reads hold up no other stream as long as their initial windows take no more than
    /// half of `connection_window`: with the defaults, 3,072 of them.
    pub first_window: u64,
    /// Window of a stream that is read, in bytes. It grows where it holds its writer up. Less than 1 KiB
    /// counts as 1 KiB. Default 256 KiB.
    pub stream_window: u64,
    /// Window of all streams together: the most bytes that are held unread. Half of it is for initial
    /// windows, the other half for windows of streams that are read, which are narrower once it is used up.
    /// Less than `stream_window` counts as that. Default 96 MiB.
    pub connection_window: u64,
    /// What may wait to be sent of one stream, in bytes; its last write may exceed it. Default 256 KiB.
    pub stream_buffer: usize,
    /// Replies to calls with the same key leave one after the other, also where they are streams. Default
    /// true.
    pub ordered_replies: bool,
    /// Which requests get their arguments as streams. Default: none; large arguments are reassembled.
    pub stream_arguments: StreamArguments,
    /// Probes of the connection itself, for a transport that delivers messages and has no probes of its own.
    /// Default `None`.
    pub keepalive: Option<Keepalive>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            max_body: 10 * 1024 * 1024,
            max_requests: 1_100,
            max_outgoing_bytes: 64 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            execution_timeout: None,
            dialect: Dialect::Two,
            first_window: 16 * 1024,
            stream_window: 256 * 1024,
            connection_window: 96 * 1024 * 1024,
            stream_buffer: 256 * 1024,
            ordered_replies: true,
            stream_arguments: StreamArguments::None,
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

/// Which requests start as soon as they come, with an argument that is read as a stream. The others start
/// once their whole argument is there.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum StreamArguments {
    /// None of them.
    #[default]
    None,
    /// All of them.
    All,
    /// Those with a method for which this is true. The answer for a method should not change while a request
    /// waits.
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

/// A version of the messages; the handshake chooses the highest that both sides offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Python Callosum's.
    One,
    /// Packets of records: bodies in pieces, streams, metadata, deadlines that travel.
    Two,
}

impl Dialect {
    /// Its number, as in a hello.
    pub const fn number(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// This and all lower ones, as in a hello.
    pub(crate) const fn offered(self) -> u32 {
        (1 << self.number()) - 1
    }

    /// The highest that both offer.
    pub(crate) const fn common(self, theirs: u32) -> Self {
        match self {
            Self::Two if theirs & 0b10 != 0 => Self::Two,
            _ => Self::One,
        }
    }
}

/// When to probe an idle peer, and when to close the connection to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before a probe, and between probes. Less than 1 ms, for which a timer would spin, counts as 1
    /// ms. Default 30 s.
    pub idle: Duration,
    /// Unanswered probes before the connection is closed; with 0, silence alone closes it. Default 2.
    pub misses: u32,
}

impl Keepalive {
    pub(crate) fn without_spinning(self) -> Self {
        Self { idle: self.idle.max(Duration::from_millis(1)), ..self }
    }
}

impl Default for Keepalive {
    /// A dead peer is noticed after 90 s.
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), misses: 2 }
    }
}
