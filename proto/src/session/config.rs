//! What the owner of a session may set.

use std::time::Duration;

/// Limits and times of one session. The defaults are those of PROTOCOL.md, rule L-1.
///
/// A time that ends later than an [`Instant`](std::time::Instant) can say, such as [`Duration::MAX`], never ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionConfig {
    /// Largest body taken from the peer, compressed or not, in bytes. Default 10 MiB.
    pub max_body: usize,
    /// Requests of the peer that may be open (waiting, running, or done and not yet answered). Default 1,100.
    pub max_requests: usize,
    /// Bytes that may wait to be written to the peer. Default 64 MiB.
    ///
    /// A new call past it is refused; past it with replies, [`Session::is_backlogged`](super::Session::is_backlogged)
    /// asks the owner to start no more handlers for the peer.
    pub max_outgoing_bytes: usize,
    /// How long the handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long the peer may take none of the bytes that wait for it. Default 10 s.
    pub write_timeout: Duration,
    /// The highest dialect that is offered to the peer. Default: [`Dialect::Two`].
    pub dialect: Dialect,
    /// Content of one call and direction that the peer may send before anybody reads it, in bytes. Default 16 KiB.
    ///
    /// Contents that nobody reads hold up nobody as long as their first windows take no more than half of `link_window`: with
    /// the defaults, 3,072 of them.
    pub first_window: u64,
    /// Content of one call and direction that the peer may send ahead once it is being read, in bytes. It is widened
    /// for writers whom it holds up. Default 256 KiB.
    pub stream_window: u64,
    /// The same for all calls together: most that is held of contents which nobody has taken. Half of it is for first
    /// windows, the rest for windows of contents that are being read, which are narrower where it is used up. Default 96 MiB.
    pub link_window: u64,
    /// Bodies that are put together at a time, in bytes; more wait. One may be larger. Default 64 MiB.
    pub max_reassembly: usize,
    /// What may wait to be sent of one stream, in bytes; its last piece may exceed it. Default 256 KiB.
    pub stream_buffer: usize,
    /// Results of calls with the same key leave one after the other, not in turns. Default true.
    pub ordered_replies: bool,
    /// Liveness probes of the message layer; `None` where the layer below has its own. Default `None`.
    pub keepalive: Option<Keepalive>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            max_body: 10 * 1024 * 1024,
            max_requests: 1_100,
            max_outgoing_bytes: 64 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            dialect: Dialect::Two,
            first_window: 16 * 1024,
            stream_window: 256 * 1024,
            link_window: 96 * 1024 * 1024,
            max_reassembly: 64 * 1024 * 1024,
            stream_buffer: 256 * 1024,
            ordered_replies: true,
            keepalive: None,
        }
    }
}

/// A version of the messages; the handshake chooses the highest that both sides offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Python Callosum's.
    One,
    /// Packets of records: bodies in chunks, streams, metadata, deadlines that travel.
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

    /// This and all lower ones, as in [`Hello::dialects`](crate::wire::Hello::dialects).
    pub(super) const fn offered(self) -> u32 {
        (1 << self.number()) - 1
    }

    /// The highest that both offer.
    pub(super) const fn common(self, theirs: u32) -> Self {
        match self {
            Self::Two if theirs & 0b10 != 0 => Self::Two,
            _ => Self::One,
        }
    }
}

/// When to probe an idle peer, and when to give it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before a probe, and between probes. Less than 1 ms counts as 1 ms. Default 30 s.
    pub idle: Duration,
    /// Unanswered probes before the link is dead; with 0, silence alone ends it. Default 2.
    pub misses: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), misses: 2 }
    }
}
