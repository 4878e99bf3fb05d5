#[cfg(feature = "curve")]
use super::CurvePublicKey;
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
    /// The peer sent an ERROR command. It is never encrypted, so nothing proves that it is the peer's.
    #[error("refused by the peer: {reason:?}")]
    Refused {
        /// The peer's words, or ZAP's three-digit status (RFC 27).
        reason: String,
        /// What the reason means, if it is such a status: then authentication has failed.
        status: Option<RefusalStatus>,
    },
    /// This end's application refused the peer.
    #[cfg(feature = "curve")]
    #[error("the peer with the public key {public_key} was not admitted")]
    NotAdmitted {
        /// Who it is.
        public_key: CurvePublicKey,
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
    /// The encryption has no number left for a PING or PONG, after 2^64 - 1 frames.
    #[error("encryption exhausted")]
    Exhausted,
    /// The link had failed before.
    #[error("link is closed")]
    Closed,
}

/// Why a peer's authenticator did not admit us (RFC 27, section "Reply").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalStatus {
    /// 300: it could not decide.
    TemporaryFailure,
    /// 400: it knows of no reason to admit us.
    Denied,
    /// 500: it failed.
    InternalError,
}

/// How a peer, or somebody on the way, broke the protocol (RFC 23, RFC 26).
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
    /// A frame in the clear where all must be encrypted.
    #[error("frame that is not encrypted")]
    NotEncrypted,
    /// An encrypted frame that doesn't open: damaged, cut short, or not of the peer's making.
    #[error("encrypted frame that is not the peer's")]
    Forged,
    /// An encrypted frame that came a second time, or before or after its turn.
    #[error("encrypted frame out of its order")]
    OutOfOrder,
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
    /// The encryption has no nonce left, after 2^64 - 1 frames. The link is over.
    #[error("encryption exhausted")]
    Exhausted,
}

/// The texts with which omq-proto 0.37 refuses a socket type; its error carries nothing else.
const SOCKET_TYPE_REFUSALS: [&str; 2] = ["incompatible socket types", "unknown peer socket type"];

/// The text with which it fails to open a box.
const BOX_REFUSAL: &str = "CURVE decrypt failed";

impl LinkError {
    /// Whether the peer's authenticator is why: trying again helps only when it has changed its mind.
    pub fn is_authentication_failure(&self) -> bool {
        matches!(self, Self::Refused { status: Some(_), .. })
    }

    pub(super) fn refused(reason: String) -> Self {
        let status = match reason.as_str() {
            "300" => Some(RefusalStatus::TemporaryFailure),
            "400" => Some(RefusalStatus::Denied),
            "500" => Some(RefusalStatus::InternalError),
            _ => None,
        };
        Self::Refused { reason, status }
    }

    pub(super) fn from_codec(error: omq_proto::Error, ours: SocketType) -> Self {
        use omq_proto::Error;
        match error {
            Error::HandshakeRefused(refusal) => Self::refused(refusal.reason.clone()),
            Error::HandshakeFailed(detail) | Error::Protocol(detail)
                if SOCKET_TYPE_REFUSALS.iter().any(|text| detail.starts_with(text)) =>
            {
                Self::IncompatibleSocket { ours, detail }
            }
            Error::HandshakeFailed(detail) => Self::Handshake { detail },
            Error::Protocol(detail) if detail == BOX_REFUSAL => Violation::Forged.into(),
            Error::Protocol(detail) => Violation::Codec(detail).into(),
            Error::MessageTooLarge { size, max } => Self::TooLarge { size: size as u64, max },
            Error::UnsupportedZmtpVersion { major, .. } => Self::UnsupportedVersion { major },
            Error::Closed => Self::Closed,
            other => Violation::Codec(other.to_string()).into(),
        }
    }
}
