//! Events of a link.

use bytes::Bytes;

#[cfg(feature = "curve")]
use super::CurvePublicKey;
use crate::Multipart;

/// An event of a link, for the owner of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// A client has proved to own this key, and waits for [`Link::admit`](super::Link::admit) or
    /// [`refuse`](super::Link::refuse), until the handshake times out. Occurs once, before
    /// [`Established`](Self::Established), at a server of CURVE.
    #[cfg(feature = "curve")]
    AuthenticationRequested {
        /// The client's long-term public key.
        public_key: CurvePublicKey,
    },
    /// The handshake is complete. Occurs once, before any message.
    #[non_exhaustive]
    Established {
        /// Routing id that the peer has requested; often empty. Not authenticated.
        identity: Bytes,
        /// The public key that the peer has proved to own; `None` without CURVE.
        #[cfg(feature = "curve")]
        public_key: Option<CurvePublicKey>,
    },
    /// A message of one to three frames, without a [`tail`](Multipart::tail).
    Message(Multipart),
    /// The peer has answered a PING: its ZMTP has read the first `messages` messages that were sent on this link,
    /// more than in the last such event. Pass the number to
    /// [`Connection::handle_acknowledged`](crate::Connection::handle_acknowledged).
    Acknowledged {
        /// The number of messages, counted from the first that was sent.
        messages: u64,
    },
    /// A message with more frames than any message of Callosum was dropped.
    Ignored {
        /// The number of its frames.
        frames: usize,
    },
}
