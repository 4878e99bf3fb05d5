//! Why a link ends: faults of the peer, of the network, and of the caller.

#[cfg(feature = "curve")]
use super::CurvePublicKey;

/// Why a call of a [`Link`](super::Link) failed. All but the first two end the link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A message can't be sent before the handshake is complete. It is dropped; the link stays open.
    #[error("the link is not established")]
    NotEstablished,
    /// A message without frames can't be sent. It is dropped; the link stays open.
    #[error("the message has no frames")]
    NoFrames,
    /// The peer's first bytes are not the signature of ZMTP 2 or 3. A peer of ZMTP 1 causes this, too.
    #[error("the peer does not speak ZMTP 3")]
    NotZmtp,
    /// The peer speaks an older version of ZMTP.
    #[error("the peer speaks ZMTP revision {major}, not 3")]
    UnsupportedVersion {
        /// The byte after the signature: 1 for ZMTP 2.0.
        major: u8,
    },
    /// The two ends are configured for different security mechanisms.
    #[error("the peer uses the {theirs:?} mechanism, this end {ours}")]
    MechanismMismatch {
        /// The mechanism of this end.
        ours: &'static str,
        /// The mechanism of the peer, escaped.
        theirs: String,
    },
    /// The peer's socket type is not compatible with that of this end (RFC 23).
    #[error("the peer is a {theirs:?} socket, which can't talk to a {ours}")]
    IncompatibleSocket {
        /// The socket type of this end.
        ours: &'static str,
        /// The first 32 bytes of the peer's socket type, escaped.
        theirs: String,
    },
    /// The peer sent an ERROR command. It is never encrypted, so it may come from somebody on the path.
    #[error("refused by the peer: {reason:?}")]
    Refused {
        /// The peer's text, or a three-digit status of ZAP (RFC 27).
        reason: String,
        /// The meaning of the reason if it is such a status: the peer did not admit this end.
        status: Option<RefusalStatus>,
    },
    /// The application of this end refused the peer.
    #[cfg(feature = "curve")]
    #[error("the peer with the public key {public_key} was not admitted")]
    NotAdmitted {
        /// The public key of the peer.
        public_key: CurvePublicKey,
    },
    /// The peer violated the protocol in the handshake, or has other keys than this end expects.
    #[error("handshake failed: {0}")]
    Handshake(ZmtpViolation),
    /// The peer sent, or announced, more than allowed before the handshake was complete.
    #[error("the handshake has more than {max} bytes")]
    HandshakeTooLarge {
        /// [`LinkConfig::max_handshake_bytes`](super::LinkConfig::max_handshake_bytes).
        max: usize,
    },
    /// The peer sent, or announced, a message or command of more than `max` bytes.
    #[error("a message or command of {size} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Bytes that were received or announced when the limit was exceeded.
        size: u64,
        /// The limit, in bytes.
        max: usize,
    },
    /// The peer sent a message with more frames than are accepted.
    #[error("the message has more than {max} frames")]
    TooManyFrames {
        /// The most frames that are accepted.
        max: usize,
    },
    /// The peer violated the protocol in a frame, or after the handshake.
    #[error("protocol violation: {0}")]
    Violation(ZmtpViolation),
    /// The handshake was not complete in time.
    #[error("the handshake timed out")]
    HandshakeTimedOut,
    /// The peer did not answer the last PINGs.
    #[error("the peer did not answer its keepalive probes")]
    KeepaliveTimedOut,
    /// CURVE has no nonce left for the message, after 2^64 - 1 frames. No part of it is sent.
    #[error("CURVE has no nonces left")]
    Exhausted,
    /// The link had already ended.
    #[error("the link is closed")]
    Closed,
}

/// How the peer, or somebody on the path, violated ZMTP (RFC 23, RFC 26, RFC 37).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZmtpViolation {
    /// A frame has flags that must be zero.
    #[error("reserved flags {0:#04x}")]
    ReservedFlags(u8),
    /// A command has the flag MORE.
    #[error("command with the MORE flag")]
    CommandWithMore,
    /// A frame has more bytes than this machine can address.
    #[error("frame of {0} bytes")]
    FrameLength(u64),
    /// A frame is not encrypted although the mechanism is CURVE.
    #[error("frame that is not encrypted")]
    NotEncrypted,
    /// An encrypted frame can't be authenticated: it is damaged, truncated, or forged.
    #[error("encrypted frame that can't be authenticated")]
    Forged,
    /// An encrypted frame has another number than the next one: it was repeated, dropped or reordered.
    #[error("encrypted frame out of order")]
    OutOfOrder,
    /// The peer claims to be the server of the mechanism, but it is NULL, or this end is the server.
    #[error("the peer claims to be the server of the mechanism")]
    PeerIsServer,
    /// Another command was expected, or a command instead of a message.
    #[error("expected {expected}, got something else")]
    Unexpected {
        /// The expected command.
        expected: &'static str,
    },
    /// An encrypted part of a command can't be authenticated: it is damaged, or the two ends don't have each
    /// other's keys.
    #[error("{command} can't be decrypted with the keys of the two ends")]
    Sealed {
        /// The command that contains it.
        command: &'static str,
    },
    /// A public key has a low order (zero, for example): every shared secret with it would be the same.
    #[error("{command} has a public key of low order")]
    LowOrder {
        /// The command that contains it.
        command: &'static str,
    },
    /// A public key is not in its canonical form: it could be used to bypass the revocation of the same key.
    #[error("{command} has a public key that is not in its canonical form")]
    NotCanonical {
        /// The command that contains it.
        command: &'static str,
    },
    /// The client returned another cookie than it got.
    #[error("INITIATE does not return the cookie of WELCOME")]
    Cookie,
    /// The client's vouch is for another connection or another server.
    #[error("the vouch in INITIATE is for another connection or server")]
    Vouch,
    /// A command does not start with a name of letters.
    #[error("command without a name")]
    Name,
    /// The body of a command has the wrong length or version.
    #[error("malformed {command}")]
    Malformed {
        /// The name of the command.
        command: &'static str,
    },
    /// A property in the metadata is truncated, or has no valid name.
    #[error("malformed property in the metadata")]
    Property,
    /// The metadata has two socket types or two identities.
    #[error("duplicate property in the metadata")]
    DuplicateProperty,
    /// The metadata has more properties than are accepted.
    #[error("more than {max} properties in the metadata")]
    TooManyProperties {
        /// The most properties that are accepted.
        max: usize,
    },
    /// The identity has more than 255 bytes, or starts with a zero byte.
    #[error("invalid identity in the metadata")]
    Identity,
    /// The metadata has no socket type.
    #[error("no socket type in the metadata")]
    NoSocketType,
    /// A command of the handshake was sent after the handshake.
    #[error("{command} after the handshake")]
    TooLate {
        /// The name of the command.
        command: &'static str,
    },
}

/// Why the peer's authenticator did not admit this end (RFC 27, section "Reply").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalStatus {
    /// 300: the authenticator could not decide; trying again may help.
    TemporaryFailure,
    /// 400: access is denied.
    Denied,
    /// 500: the authenticator failed.
    InternalError,
}

impl LinkError {
    /// Whether the peer's authenticator did not admit this end. Trying again only helps once its decision
    /// changes.
    pub fn is_authentication_failure(&self) -> bool {
        matches!(self, Self::Refused { status: Some(_), .. })
    }

    /// The same error, for a violation in the handshake.
    pub(super) fn in_handshake(self) -> Self {
        match self {
            Self::Violation(violation) => Self::Handshake(violation),
            other => other,
        }
    }

    /// The error for the reason of an ERROR command.
    pub(super) fn refused(reason: String) -> Self {
        let status = match reason.as_str() {
            // Only the bare status of RFC 27. Any other reason is text for a log: RFC 23 gives it no meaning.
            "300" => Some(RefusalStatus::TemporaryFailure),
            "400" => Some(RefusalStatus::Denied),
            "500" => Some(RefusalStatus::InternalError),
            _ => None,
        };
        Self::Refused { reason, status }
    }
}

// Not `#[from]`: it would also return the violation as the source, and reports would print it twice.
impl From<ZmtpViolation> for LinkError {
    fn from(violation: ZmtpViolation) -> Self {
        Self::Violation(violation)
    }
}
