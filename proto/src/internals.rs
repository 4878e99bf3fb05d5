//! Codecs and audits for `callosum-testkit` and this repository's tests. No part of the API: it changes without notice.

#[cfg(feature = "curve")]
use crate::zmtp::CurveSecretKey;

/// The codecs of both dialects.
pub mod wire {
    pub use crate::wire::*;
}

use crate::session::Session;

/// Checks the invariants of a session's tables, which hold between any two calls.
///
/// # Panics
/// If the tables contradict each other.
pub fn audit(session: &Session) {
    session.audit();
}

/// Checks that an idle session keeps nothing.
///
/// # Panics
/// If anything is left in its tables.
pub fn audit_idle(session: &Session) {
    session.audit_idle();
}

/// The bytes of a secret key, for a peer that is written by hand.
#[cfg(feature = "curve")]
pub fn secret_bytes(key: &CurveSecretKey) -> &[u8; 32] {
    key.as_bytes()
}
