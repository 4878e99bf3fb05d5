use callosum_proto::zmtp::RefusalStatus;

use super::CurvePublicKey;

/// Why one peer rejected the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The server rejected this client. The ERROR command is not encrypted, so an attacker on the path may have sent
    /// it.
    #[error("the server did not admit this client{}", status_text(*status))]
    Refused {
        /// The server's reason (RFC 27).
        status: Option<RefusalStatus>,
    },
    /// The server closed the connection during ZMTP's handshake, without an ERROR command. Servers do so if they use
    /// another mechanism or another key than this side expects; libzmq always does. A server that shuts down at that
    /// moment looks the same.
    #[error(
        "the server closed the connection during the {ours} handshake: it may not speak {ours}, have another key than \
         expected, or be shutting down"
    )]
    BrokenOff {
        /// The mechanism of this side.
        ours: &'static str,
    },
    /// The server did not prove that it owns the expected key.
    #[error("the server did not prove that it has the expected key")]
    ServerNotProved,
    /// One side speaks CURVE, the other does not.
    #[error("the peer uses the {theirs:?} mechanism, this endpoint {ours}")]
    Mechanism {
        /// Ours.
        ours: &'static str,
        /// As the peer wrote it, made printable.
        theirs: String,
    },
    /// The check of this side rejected the client.
    #[error("the client with the public key {public_key} was not admitted")]
    NotAdmitted {
        /// The client's.
        public_key: CurvePublicKey,
    },
    /// The check of this side panicked, so the client was rejected.
    #[error("the check of the client with the public key {public_key} panicked")]
    CheckPanicked {
        /// The client's.
        public_key: CurvePublicKey,
    },
    /// The check of this side did not answer in time, so the client was rejected.
    #[error("the check of the client with the public key {public_key} took too long")]
    CheckTimedOut {
        /// The client's.
        public_key: CurvePublicKey,
    },
    /// The client had been admitted, and its key was revoked.
    #[error("the client with the public key {public_key} is no longer admitted")]
    Revoked {
        /// The client's.
        public_key: CurvePublicKey,
    },
    /// Our authenticator has no identity for this side: no server identity to bind with, or no client identity to
    /// connect with.
    #[error("this endpoint's authenticator has no key pair for this side of a connection")]
    NoIdentity,
}

fn status_text(status: Option<RefusalStatus>) -> &'static str {
    match status {
        Some(RefusalStatus::TemporaryFailure) => ": it could not decide (status 300)",
        Some(RefusalStatus::Denied) => " (status 400)",
        Some(RefusalStatus::InternalError) => ": its check failed (status 500)",
        _ => "",
    }
}
