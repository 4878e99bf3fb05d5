use std::fmt;
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "curve")]
use omq_proto::CurveServerOptions;
use omq_proto::proto::{ConnectionConfig, Role as TransportRole};
use omq_proto::{MechanismSetup, Payload};

use super::assembly::MAX_FRAMES_READ;
#[cfg(feature = "curve")]
use super::{CurveKeyPair, CurvePublicKey};
use crate::MAX_FRAMES;

/// Which of Callosum's two ends a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepted the connection: a ROUTER socket.
    Binder,
    /// Opened the connection: a DEALER socket.
    Connector,
}

impl Role {
    /// The socket type that this end announces.
    pub fn socket_type(self) -> SocketType {
        match self {
            Self::Binder => SocketType::Router,
            Self::Connector => SocketType::Dealer,
        }
    }
}

/// The socket types that can talk to a ROUTER or a DEALER (RFC 23, 28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketType {
    /// What a [`Role::Binder`] is.
    Router,
    /// What a [`Role::Connector`] is.
    Dealer,
    /// Strictly alternating requester.
    Req,
    /// Strictly alternating replier.
    Rep,
}

impl SocketType {
    pub(super) fn from_wire(wire: omq_proto::SocketType) -> Option<Self> {
        match wire {
            omq_proto::SocketType::Router => Some(Self::Router),
            omq_proto::SocketType::Dealer => Some(Self::Dealer),
            omq_proto::SocketType::Req => Some(Self::Req),
            omq_proto::SocketType::Rep => Some(Self::Rep),
            _ => None,
        }
    }

    fn to_wire(self) -> omq_proto::SocketType {
        match self {
            Self::Router => omq_proto::SocketType::Router,
            Self::Dealer => omq_proto::SocketType::Dealer,
            Self::Req => omq_proto::SocketType::Req,
            Self::Rep => omq_proto::SocketType::Rep,
        }
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_wire().as_str())
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

impl Mechanism {
    fn setup(&self) -> MechanismSetup {
        match self {
            Self::Null => MechanismSetup::Null,
            #[cfg(feature = "curve")]
            Self::CurveServer { keys } => MechanismSetup::CurveServer {
                our_keypair: keys.to_codec(),
                // It only marks that somebody is to be asked: the link takes the question. The link's own
                // deadline, not the codec's clock, is what ends a handshake.
                options: CurveServerOptions::new().cookie_lifetime(Duration::MAX).authenticator(|_| false),
            },
            #[cfg(feature = "curve")]
            Self::CurveClient { keys, server } => {
                MechanismSetup::CurveClient { our_keypair: keys.to_codec(), server_public: server.to_codec() }
            }
        }
    }

    pub(super) fn is_server(&self) -> bool {
        match self {
            Self::Null => false,
            #[cfg(feature = "curve")]
            Self::CurveServer { .. } => true,
            #[cfg(feature = "curve")]
            Self::CurveClient { .. } => false,
        }
    }

    #[cfg(feature = "curve")]
    pub(super) fn server_key(&self) -> Option<CurvePublicKey> {
        match self {
            Self::CurveClient { server, .. } => Some(*server),
            Self::Null | Self::CurveServer { .. } => None,
        }
    }
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

    pub(super) fn connection(&self) -> ConnectionConfig {
        let role = match self.role {
            Role::Binder => TransportRole::Server,
            Role::Connector => TransportRole::Client,
        };
        // omq-proto counts one payload slot per frame towards the limit.
        let slots = MAX_FRAMES * size_of::<Payload>();
        // What it puts together itself is counted before it sees it; this only bounds it all the same.
        let slots_read = 2 * MAX_FRAMES_READ * size_of::<Payload>();
        ConnectionConfig::new(role, self.role.socket_type().to_wire())
            .identity(self.identity.clone())
            .max_message_size(self.max_message_size.saturating_add(slots))
            .max_wire_message_size(self.max_message_size.saturating_add(slots_read))
            .defer_authentication(true)
            .mechanism(self.mechanism.setup())
    }
}
