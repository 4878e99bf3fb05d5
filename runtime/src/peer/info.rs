use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use callosum_proto::Dialect;

use crate::auth::{CurvePublicKey, Identity};

/// A remote peer, unique within this process's endpoint and never reused.
///
/// It is assigned locally and never travels, so no peer can claim another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(crate) u64);

impl PeerId {
    /// Its number: peers of an endpoint are counted from 0.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer-{}", self.0)
    }
}

/// Information about a remote peer.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The remote address, for people to read.
    pub address: String,
    /// The routing id that the peer announced, if any. The peer chose it: it proves nothing.
    pub routing_id: Bytes,
    /// Largest body that the peer takes, in bytes; `None` for one that only speaks dialect 1 and says no more, such as Python's.
    pub max_body: Option<u64>,
    /// The negotiated dialect, once the handshake is complete. Streams and metadata need dialect 2.
    pub dialect: Option<Dialect>,
    /// The key that the peer has proved to own; `None` without CURVE.
    pub public_key: Option<CurvePublicKey>,
    /// What our [`Authenticator`](crate::auth::Authenticator) admitted the peer as, or what it was
    /// [accepted as](crate::Binder::accept_as); `None` if this side connected, or without either. It belongs to the connection.
    pub identity: Option<Arc<Identity>>,
}
