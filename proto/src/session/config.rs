//! What the owner of a session may set.

use std::time::Duration;

/// Which side of a link a session is on. Calls go both ways all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It opened the link, and speaks first.
    Connector,
    /// It accepted the link.
    Binder,
}

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
            keepalive: None,
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
