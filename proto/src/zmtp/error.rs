use super::SocketType;

/// Why a link is over. None of these leaves it usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer's first bytes aren't a ZMTP 2 or 3 signature; a ZMTP 1 peer looks like this too.
    #[error("the peer does not speak ZMTP 3")]
    NotZmtp,
    /// The peer speaks an older ZMTP.
    #[error("the peer speaks ZMTP revision {major}, not 3")]
    UnsupportedVersion {
        /// The byte after the signature; ZMTP 2.0 has 1 there.
        major: u8,
    },
    /// The two ends are configured for different security mechanisms.
    #[error("the peer uses the {theirs:?} mechanism, this end {ours}")]
    MechanismMismatch {
        /// Ours.
        ours: &'static str,
        /// As the peer wrote it, made printable.
        theirs: String,
    },
    /// The peer's socket type can't talk to ours.
    #[error("the peer's socket type does not fit {ours}: {detail}")]
    IncompatibleSocket {
        /// Ours.
        ours: SocketType,
        /// The codec's words.
        detail: String,
    },
    /// The peer sent an ERROR command.
    #[error("refused by the peer: {reason:?}")]
    Refused {
        /// The peer's words, or ZAP's three-digit status (RFC 27).
        reason: String,
    },
    /// The handshake failed in another way.
    #[error("handshake failed: {detail}")]
    Handshake {
        /// The codec's words.
        detail: String,
    },
    /// The peer sent, or announced, more than allowed before the handshake was complete.
    #[error("handshake of more than {max} bytes")]
    HandshakeTooLarge {
        /// [`LinkConfig::max_handshake_bytes`](super::LinkConfig::max_handshake_bytes).
        max: usize,
    },
    /// The peer sent, or announced, a message or command of more than `max` bytes.
    #[error("{size} bytes where at most {max} are allowed")]
    TooLarge {
        /// Bytes known of when the limit was passed.
        size: u64,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer sent a message of more frames than are read before giving up.
    #[error("message of more than {max} frames")]
    TooManyFrames {
        /// The limit.
        max: usize,
    },
    /// The peer broke the protocol.
    #[error("protocol violation: {0}")]
    Violation(#[from] Violation),
    /// The handshake was not complete in time.
    #[error("handshake timed out")]
    HandshakeTimedOut,
    /// The peer answered none of the last PINGs.
    #[error("heartbeat timed out")]
    HeartbeatTimedOut,
    /// The link had failed before.
    #[error("link is closed")]
    Closed,
}

/// How a peer broke the protocol (RFC 23).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame's flags have bits that must be zero.
    #[error("reserved flags {0:#04x}")]
    ReservedFlags(u8),
    /// A command that claims to be one of several frames.
    #[error("command with the MORE flag")]
    CommandWithMore,
    /// A frame longer than this machine can address.
    #[error("frame of {0} bytes")]
    FrameLength(u64),
    /// Anything that the codec found.
    #[error("{0}")]
    Codec(String),
}

/// Why a message was not queued. It is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The handshake is not complete yet.
    #[error("link is not established")]
    NotReady,
    /// The link has failed.
    #[error("link is closed")]
    Closed,
    /// ZMTP has no message without frames.
    #[error("message without frames")]
    Empty,
    /// The encryption has no nonce left. The link must be closed.
    #[error("encryption exhausted")]
    Exhausted,
}

/// The texts with which omq-proto 0.37 refuses a socket type; its error carries nothing else.
const SOCKET_TYPE_REFUSALS: [&str; 2] = ["incompatible socket types", "unknown peer socket type"];

impl LinkError {
    pub(super) fn from_codec(error: omq_proto::Error, ours: SocketType) -> Self {
        use omq_proto::Error;
        match error {
            Error::HandshakeRefused(refusal) => Self::Refused { reason: refusal.reason.clone() },
            Error::HandshakeFailed(detail) | Error::Protocol(detail)
                if SOCKET_TYPE_REFUSALS.iter().any(|text| detail.starts_with(text)) =>
            {
                Self::IncompatibleSocket { ours, detail }
            }
            Error::HandshakeFailed(detail) => Self::Handshake { detail },
            Error::Protocol(detail) => Violation::Codec(detail).into(),
            Error::MessageTooLarge { size, max } => Self::TooLarge { size: size as u64, max },
            Error::UnsupportedZmtpVersion { major, .. } => Self::UnsupportedVersion { major },
            Error::Closed => Self::Closed,
            other => Violation::Codec(other.to_string()).into(),
        }
    }
}
