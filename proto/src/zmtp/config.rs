//! The configuration of a link: its role, its mechanism, and its limits.

use std::time::Duration;

use bytes::Bytes;

#[cfg(feature = "curve")]
use super::{CurveKeyPair, CurvePublicKey};
use crate::setters::setters;
use crate::{Keepalive, Role};

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
    /// When a silent peer gets a PING of ZMTP (RFC 37), and when the link to it is over: never before one
    /// PING. A peer that speaks ZMTP 3.0 is never pinged: PING came with 3.1. Default: as
    /// [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// Must be the same at both ends.
    pub mechanism: Mechanism,
}

impl LinkConfig {
    setters! {
        identity: Bytes,
        max_message_size: usize,
        max_handshake_bytes: usize,
        handshake_timeout: Duration,
        keepalive: Option<Keepalive>,
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
            keepalive: Some(Keepalive::default()),
            mechanism: Mechanism::default(),
        }
    }
}
