//! The configuration of a link: role, mechanism, and limits.

use std::time::Duration;

use bytes::Bytes;

use super::command::is_identity;
#[cfg(feature = "curve")]
use super::{CurveKeyPair, CurvePublicKey};
use crate::setters::setters;
use crate::{Keepalive, Role};

/// How the two ends authenticate each other and encrypt.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Mechanism {
    /// Not at all (RFC 23, section "The NULL Security Mechanism").
    #[default]
    Null,
    /// The server of CURVE (RFC 26); either role can have it. The application decides which clients to admit,
    /// see [`LinkEvent::AuthenticationRequested`](super::LinkEvent::AuthenticationRequested).
    #[cfg(feature = "curve")]
    CurveServer {
        /// The long-term keys of this end.
        keys: CurveKeyPair,
    },
    /// The client of CURVE.
    #[cfg(feature = "curve")]
    CurveClient {
        /// The long-term keys of this end.
        keys: CurveKeyPair,
        /// The public key of the only server that is accepted.
        server: CurvePublicKey,
    },
}

/// Role, mechanism and limits of a [`Link`](super::Link).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkConfig {
    /// Which end this is.
    pub role: Role,
    /// Not public: only the setter checks it.
    pub(super) identity: Bytes,
    /// Largest incoming message, in bytes of all its frames together. A larger one ends the link. Default: 11
    /// MiB.
    pub max_message_size: usize,
    /// The most bytes accepted from the peer until the handshake is complete, including its greeting. More
    /// end the link. Default: 8 KiB.
    pub max_handshake_bytes: usize,
    /// How long the handshake may take, from [`Link::new`](super::Link::new) on. Then the link ends. Default:
    /// 10 s.
    pub handshake_timeout: Duration,
    /// When to send a PING of ZMTP (RFC 37) to a silent peer, and when to end the link: after one unanswered
    /// PING at the earliest. No effect for a peer that speaks ZMTP 3.0, which has no PING. Default:
    /// [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// Must be NULL at both ends, or CURVE at both with one client and one server. Default: NULL.
    pub mechanism: Mechanism,
}

impl LinkConfig {
    setters! {
        max_message_size: usize,
        max_handshake_bytes: usize,
        handshake_timeout: Duration,
        keepalive: Option<Keepalive>,
        mechanism: Mechanism,
    }

    /// Sets the routing id that is announced to the peer; if it is empty, the peer chooses one. Default:
    /// empty.
    ///
    /// # Panics
    /// If it has more than 255 bytes, or starts with a zero byte: no peer accepts such an identity (RFC 37).
    #[must_use]
    pub fn identity(mut self, identity: Bytes) -> Self {
        assert!(is_identity(&identity), "an identity has at most 255 bytes, and starts with no zero byte");
        self.identity = identity;
        self
    }

    /// The default configuration for a role.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            identity: Bytes::new(),
            // Room for the largest body of dialect 1, 10 MiB (L-1), and its header of up to 64 KiB.
            max_message_size: 11 << 20,
            // A CURVE client with the longest identity sends less than 1 KiB of it.
            max_handshake_bytes: 8 << 10,
            handshake_timeout: Duration::from_secs(10),
            keepalive: Some(Keepalive::default()),
            mechanism: Mechanism::default(),
        }
    }
}
