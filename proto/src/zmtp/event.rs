//! Events of a link.

use bytes::Bytes;

#[cfg(feature = "curve")]
use super::CurvePublicKey;
use crate::Multipart;

/// What came of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// A client has proved to own this key and waits for [`Link::admit`](super::Link::admit) or
    /// [`refuse`](super::Link::refuse), until the handshake's time is over. Comes once, before
    /// [`Established`](Self::Established), on a server under CURVE.
    #[cfg(feature = "curve")]
    AuthenticationRequested {
        /// The client's long-term key, which is who it is.
        public_key: CurvePublicKey,
    },
    /// The handshake is complete; comes once, before any message.
    #[non_exhaustive]
    Established {
        /// Routing id that the peer asks for; often empty. Nothing proves that it is the peer's own.
        identity: Bytes,
        /// The key that the peer has proved to own; `None` without CURVE.
        #[cfg(feature = "curve")]
        public_key: Option<CurvePublicKey>,
    },
    /// A message of one to three frames, without a [`tail`](Multipart::tail).
    Message(Multipart),
    /// The peer has answered a PING: its ZMTP has read the first `messages` messages that were sent on this link, more than it was
    /// known to have. Hand the number to [`Connection::handle_acknowledged`](crate::Connection::handle_acknowledged).
    Acknowledged {
        /// How many messages, counted from the first that was sent.
        messages: u64,
    },
    /// A message with a number of frames that Callosum has no use for was dropped.
    Ignored {
        /// How many frames it had.
        frames: usize,
    },
}
