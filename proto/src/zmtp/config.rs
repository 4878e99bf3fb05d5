//! The configuration of a link: its role, its mechanism, and its limits.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

#[cfg(feature = "curve")]
use super::{CurveKeyPair, CurvePublicKey};
use crate::Role;
use crate::setters::setters;

/// The socket types that can talk to a ROUTER or a DEALER (RFC 23, 28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketType {
    /// What a [`Role::Binder`] announces.
    Router,
    /// What a [`Role::Connector`] announces.
    Dealer,
    /// Strictly alternating requester.
    Req,
    /// Strictly alternating replier.
    Rep,
}

impl SocketType {
    const ALL: [Self; 4] = [Self::Router, Self::Dealer, Self::Req, Self::Rep];

    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Router => "ROUTER",
            Self::Dealer => "DEALER",
            Self::Req => "REQ",
            Self::Rep => "REP",
        }
    }

    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|socket| socket.as_str().as_bytes() == name)
    }

    /// Whether RFC 28 lets the two exchange messages.
    pub(super) fn talks_to(self, other: Self) -> bool {
        // Two that wait for a request would wait for ever; REQ and ROUTER fit, DEALER fits all.
        !matches!((self, other), (Self::Router, Self::Rep) | (Self::Rep, Self::Router))
    }
}

impl From<Role> for SocketType {
    fn from(role: Role) -> Self {
        match role {
            Role::Binder => Self::Router,
            Role::Connector => Self::Dealer,
        }
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the two ends authenticate and encrypt.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Mechanism {
    /// Neither (RFC 23, section "The NULL Security Mechanism").
    #[default]
    Null,
    /// The server's side of CURVE (RFC 26), on whichever end. It asks the application whom to admit, with
    /// [`LinkEvent::AuthenticationRequested`](super::LinkEvent::AuthenticationRequested).
    #[cfg(feature = "curve")]
    CurveServer {
        /// This end's.
        keys: CurveKeyPair,
    },
    /// The client's side of CURVE.
    #[cfg(feature = "curve")]
    CurveClient {
        /// This end's.
        keys: CurveKeyPair,
        /// The only server that this end talks to.
        server: CurvePublicKey,
    },
}

/// When a silent peer is pinged, and when it is given up (RFC 37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time without any input before a PING, and between two PINGs; at least a millisecond.
    pub interval: Duration,
    /// PINGs in a row that the peer may leave unanswered; at least one.
    pub misses: u32,
}

impl Default for Heartbeat {
    /// 30 s and 2, so a dead peer is noticed after 90 s.
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), misses: 2 }
    }
}

/// What a [`Link`](super::Link) is, and its limits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkConfig {
    /// Which end this is.
    pub role: Role,
    /// Routing id announced to the peer, at most 255 bytes (RFC 28); empty to let the peer choose one.
    pub identity: Bytes,
    /// The most bytes that an incoming message may have in all its frames together. Default: 11 MiB.
    pub max_message_size: usize,
    /// The most bytes accepted from the peer, its greeting included, until the handshake is complete.
    /// Default: 8 KiB.
    pub max_handshake_bytes: usize,
    /// Time from [`Link::new`](super::Link::new) until the handshake must be complete. Default: 10 s.
    pub handshake_timeout: Duration,
    /// `None` never pings. A peer that speaks ZMTP 3.0 is never pinged: PING came with 3.1.
    pub heartbeat: Option<Heartbeat>,
    /// Must be the same at both ends.
    pub mechanism: Mechanism,
}

impl LinkConfig {
    setters! {
        identity: Bytes,
        max_message_size: usize,
        max_handshake_bytes: usize,
        handshake_timeout: Duration,
        heartbeat: Option<Heartbeat>,
        mechanism: Mechanism,
    }

    /// The defaults for this role.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            identity: Bytes::new(),
            max_message_size: 11 << 20,
            max_handshake_bytes: 8 << 10,
            handshake_timeout: Duration::from_secs(10),
            heartbeat: Some(Heartbeat::default()),
            mechanism: Mechanism::default(),
        }
    }
}
