//! Codecs and audits for `callosum-testkit` and this repository's tests. Not part of the API: it changes
//! without notice.

#[cfg(feature = "curve")]
use crate::zmtp::CurveKeyPair;
use crate::{CallId, Connection, ConnectionId, Endpoint, RequestId};

/// The codecs of both dialects.
pub mod wire {
    pub use crate::wire::dialect1::{
        CallName, Encoder, Header, MAX_HEADER, Message, MessageType, Payload, decode_body, decode_header,
    };
    pub use crate::wire::hello::MAX_HELLO;
    pub use crate::wire::{Credit, DecodeError, Hello, MAX_DEPTH, NONCE_LEN, PING, PONG, UPPER};

    /// Packets of records.
    pub mod dialect2 {
        pub use crate::wire::dialect2::*;
    }
}

/// An id that no endpoint assigned, for tests of schedulers.
pub const fn connection_id(number: u64) -> ConnectionId {
    ConnectionId(number)
}

/// The id of a request that never arrived, for tests. The call with number `n` of dialect 2 is request `n /
/// 2`.
pub const fn request_id(connection: ConnectionId, number: u64) -> RequestId {
    RequestId::new(connection, number)
}

/// The id of a call that was never made, for tests.
pub const fn call_id(number: u64) -> CallId {
    CallId(number)
}

/// Checks the invariants of a connection's tables. They hold between any two calls of its methods.
///
/// # Panics
/// If the tables contradict each other.
pub fn audit(connection: &Connection) {
    connection.audit();
}

/// Checks that an idle connection retains no calls, messages or timers.
///
/// # Panics
/// If anything is left in the tables.
pub fn audit_idle(connection: &Connection) {
    connection.audit_idle();
}

/// Checks the invariants of an endpoint's tables. They hold between any two calls of its methods.
///
/// # Panics
/// If the tables contradict each other.
pub fn audit_endpoint(endpoint: &Endpoint) {
    endpoint.audit();
}

/// The bytes of a secret key, for test peers that implement CURVE by themselves.
#[cfg(feature = "curve")]
pub fn secret_bytes(keys: &CurveKeyPair) -> &[u8; 32] {
    keys.secret_bytes()
}
