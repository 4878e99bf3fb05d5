use callosum_proto::zmtp::RefusalStatus;

use super::CurvePublicKey;

/// Why there is no link between two peers: one does not accept the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The server refused us. Its word is not encrypted, so somebody on the way may have said it.
    #[error("the server did not admit this client{}", status_text(*status))]
    Refused {
        /// What the server gave as its reason (RFC 27).
        status: Option<RefusalStatus>,
    },
    /// The server began ZMTP's handshake and broke it off without a word. That is how those answer who don't speak our
    /// mechanism or have another key than the one that we know them by, and libzmq's have no other way. A server that ends
    /// at this very moment can't be told from these.
    #[error(
        "the server broke the {ours} handshake off: it may not speak {ours}, have another key than expected, or be \
         ending"
    )]
    BrokenOff {
        /// The mechanism that we speak.
        ours: &'static str,
    },
    /// The server could not prove that it has the key that we know it by.
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
    /// Our check refused the client.
    #[error("the client with the public key {public_key} was not admitted")]
    NotAdmitted {
        /// The client's.
        public_key: CurvePublicKey,
    },
    /// Our check panicked, so the client was refused.
    #[error("the check of the client with the public key {public_key} panicked")]
    CheckPanicked {
        /// The client's.
        public_key: CurvePublicKey,
    },
    /// Our check did not answer in time, so the client was refused.
    #[error("the check of the client with the public key {public_key} took too long")]
    CheckTimedOut {
        /// The client's.
        public_key: CurvePublicKey,
    },
    /// The client had been admitted, and is refused now.
    #[error("the client with the public key {public_key} is no longer admitted")]
    Revoked {
        /// The client's.
        public_key: CurvePublicKey,
    },
    /// Our authenticator has no identity for this side: no server identity to bind with, or no client identity to
    /// connect with.
    #[error("this endpoint's authenticator has no identity for this side")]
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
