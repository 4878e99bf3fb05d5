//! Why a link ends.

#[cfg(feature = "curve")]
use super::CurvePublicKey;

/// Why a link is over. None of these leaves it usable, but the first two.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A message was to be sent before the handshake was complete. It is dropped.
    #[error("link is not established")]
    NotEstablished,
    /// A message was to be sent that has no frames, which ZMTP does not have. It is dropped.
    #[error("message without frames")]
    NoFrames,
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
    /// The peer's socket type can't talk to ours (RFC 28).
    #[error("the peer is a {theirs:?} socket, which can't talk to a {ours}")]
    IncompatibleSocket {
        /// Ours.
        ours: &'static str,
        /// As the peer wrote it, made printable; its first 32 bytes.
        theirs: String,
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
    /// The peer broke the protocol in the handshake, or has other keys than this end thinks.
    #[error("handshake failed: {0}")]
    Handshake(ZmtpViolation),
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
    /// The peer broke the protocol in a frame, or after the handshake.
    #[error("protocol violation: {0}")]
    Violation(ZmtpViolation),
    /// The handshake was not complete in time.
    #[error("handshake timed out")]
    HandshakeTimedOut,
    /// The peer answered none of the last PINGs.
    #[error("the peer did not answer its keepalive probes")]
    KeepaliveTimedOut,
    /// The encryption has no number left, after 2^64 - 1 frames.
    #[error("encryption exhausted")]
    Exhausted,
    /// The link had failed before.
    #[error("link is closed")]
    Closed,
}

/// How a peer, or somebody on the way, broke ZMTP (RFC 23, RFC 26, RFC 37).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZmtpViolation {
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
    /// The peer claims to be the mechanism's server, where it has none or this end is it.
    #[error("the peer claims to be the mechanism's server")]
    PeerIsServer,
    /// Another command was due, or any command at all.
    #[error("something else came instead of {expected}")]
    Unexpected {
        /// The command that was due.
        expected: &'static str,
    },
    /// A CURVE box was damaged, or made with other keys than those that the two ends know of each other.
    #[error("{command} does not open with the keys of the two ends")]
    Sealed {
        /// The command that it is in.
        command: &'static str,
    },
    /// A public key of low order, zero among them: it would make every secret the same.
    #[error("{command} has a public key of low order")]
    LowOrder {
        /// The command that it is in.
        command: &'static str,
    },
    /// Another spelling of a public key, which could pass where the key itself is revoked.
    #[error("{command} has a public key that is not in its canonical form")]
    NotCanonical {
        /// The command that it is in.
        command: &'static str,
    },
    /// The client returned another cookie than it was given.
    #[error("INITIATE has another cookie than WELCOME")]
    Cookie,
    /// The client vouches for another connection or another server.
    #[error("INITIATE vouches for other keys than those of this connection")]
    Vouch,
    /// A command that has no name of letters.
    #[error("command without a name")]
    Name,
    /// The body of a command has another length or version than its name asks for.
    #[error("malformed {command}")]
    Malformed {
        /// Its name.
        command: &'static str,
    },
    /// A property of the metadata is cut short, or has no name.
    #[error("malformed property in the metadata")]
    Property,
    /// The socket type or the identity comes twice.
    #[error("property that comes twice in the metadata")]
    DuplicateProperty,
    /// There are more properties than a peer may declare.
    #[error("more than {max} properties in the metadata")]
    TooManyProperties {
        /// The limit.
        max: usize,
    },
    /// The identity has more than 255 bytes, or begins with zero.
    #[error("invalid identity in the metadata")]
    Identity,
    /// The peer does not say which socket type it has.
    #[error("no socket type in the metadata")]
    NoSocketType,
    /// A command of the handshake, which is complete.
    #[error("{command} after the handshake")]
    TooLate {
        /// Its name.
        command: &'static str,
    },
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

impl LinkError {
    /// Whether the peer's authenticator is why: trying again helps only when it has changed its mind.
    pub fn is_authentication_failure(&self) -> bool {
        matches!(self, Self::Refused { status: Some(_), .. })
    }

    /// The same, where it breaks a handshake.
    pub(super) fn in_handshake(self) -> Self {
        match self {
            Self::Violation(violation) => Self::Handshake(violation),
            other => other,
        }
    }

    /// What an ERROR means.
    pub(super) fn refused(reason: String) -> Self {
        let status = match reason.as_str() {
            "300" => Some(RefusalStatus::TemporaryFailure),
            "400" => Some(RefusalStatus::Denied),
            "500" => Some(RefusalStatus::InternalError),
            _ => None,
        };
        Self::Refused { reason, status }
    }
}

// Not by `#[from]`, which would make a source of what the text says already.
impl From<ZmtpViolation> for LinkError {
    fn from(violation: ZmtpViolation) -> Self {
        Self::Violation(violation)
    }
}
