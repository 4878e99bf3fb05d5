//! Codecs and audits for `callosum-testkit` and this repository's tests. No part of the API: it changes without notice.

#[cfg(feature = "curve")]
use crate::zmtp::CurveSecretKey;
use crate::{Connection, Endpoint};

/// The codecs of both dialects.
pub mod wire {
    use bytes::Bytes;

    pub use crate::message::{CallName, Message, Payload};
    pub use crate::wire::dialect1::{Encoder, Header, MAX_HEADER, MessageType, decode_body, decode_header};
    pub use crate::wire::hello::MAX_HELLO;
    pub use crate::wire::{Credit, DecodeError, Hello, NONCE_LEN};

    /// First frame of a liveness probe.
    pub const PING: Bytes = crate::wire::PING;
    /// First frame of the answer to a [`PING`].
    pub const PONG: Bytes = crate::wire::PONG;
    /// First frame of an RPC message of dialect 1.
    pub const UPPER: Bytes = crate::wire::UPPER;
    /// Deepest nesting of MessagePack values that is read.
    pub const MAX_DEPTH: usize = crate::wire::MAX_DEPTH;

    /// Packets of records.
    pub mod dialect2 {
        pub use crate::wire::dialect2::*;
    }
}

/// Checks the invariants of a connection's tables, which hold between any two calls.
///
/// # Panics
/// If the tables contradict each other.
pub fn audit(connection: &mut Connection) {
    connection.audit();
}

/// Checks that an idle connection keeps nothing.
///
/// # Panics
/// If anything is left in its tables.
pub fn audit_idle(connection: &Connection) {
    connection.audit_idle();
}

/// Checks the invariants of an endpoint's tables.
///
/// # Panics
/// If the tables contradict each other.
pub fn audit_endpoint(endpoint: &Endpoint) {
    endpoint.audit();
}

/// The bytes of a secret key, for a peer that is written by hand.
#[cfg(feature = "curve")]
pub fn secret_bytes(key: &CurveSecretKey) -> &[u8; 32] {
    key.as_bytes()
}
