//! Message links: anything that delivers multipart messages can carry a connection, such as a ZeroMQ socket of another
//! library, a broker or a queue.
//!
//! Implement [`MessageSender`] and [`MessageReceiver`], and hand the two to
//! [`Builder::connect_link`](crate::Builder::connect_link), for a link that has a single remote peer (like a DEALER
//! socket), to [`Builder::bind_link`](crate::Builder::bind_link), for one that has many, told apart by a routing
//! id (like a ROUTER socket), or to [`Binder::accept_link`](crate::Binder::accept_link), for one of many links that a server has
//! accepted, such as a WebSocket. [`memory`] makes links within the process.
//!
//! When a connection ends, also by [`Peer::disconnect`](crate::Peer::disconnect), both halves of a link with a single
//! peer are dropped; the link should then close its transport.
//!
//! # What a link must do
//! Deliver each message whole or not at all, at most once, and those from one peer to another in order. It may lose
//! messages when it loses a peer; it should then return [`Received::Gone`].
//!
//! # What a message link lacks, compared to a byte stream
//! - **Heartbeats.** Instead, the engine probes a silent peer with PING at the interval of
//!   [`Builder::keepalive`](crate::Builder::keepalive), and ends the connection if it does not answer. Until then its
//!   calls wait, unless the link reports that the peer is gone.
//! - **Reconnecting**: a connector's driver ends with its link. A link that reconnects by itself may lose messages
//!   meanwhile; calls whose reply was lost wait for their timeout.
//! - **Protected routing ids.** A new peer with the routing id of another peer replaces it: the former connection ends
//!   with [`CloseCause::PeerRestarted`](crate::CloseCause::PeerRestarted) and its calls with `Disconnected`, if the
//!   newcomer sends a hello, as every peer but Python's does. A Python peer sends nothing that distinguishes it from
//!   the former peer, and continues its connection.
//! - **Limits below the connection**: the link decides how large a message it accepts, and how much it buffers.
//!   [`Limits`](crate::Limits) apply only to what the connection itself holds.

mod batch;
mod memory;
mod message;
mod overture;
pub(crate) mod pump;
pub(crate) mod stream;
#[cfg(feature = "zeromq")]
mod zeromq;

use std::sync::Arc;

use bytes::Bytes;
use callosum_proto::Multipart;
use futures_util::future::BoxFuture;

pub use memory::{Hub, HubReceiver, HubSender, MemoryReceiver, MemorySender, memory};
pub(crate) use message::{LinkPeer, PeersOfLink, drive_accepted, drive_single};

/// The error of a link.
pub type LinkFailure = Arc<dyn std::error::Error + Send + Sync>;

/// The sending half of a message link.
pub trait MessageSender: Send + Sync + 'static {
    /// Hands a message to the link, to be sent to the peer `to`; that is empty where there is a single peer. Ready
    /// when the link has taken it, which does not mean that it has arrived.
    ///
    /// Is called for one message at a time for each peer, but for several peers at once: one that does not take its
    /// messages should not keep the others waiting. A send that takes longer than the endpoint's `write_timeout` ends
    /// the connection to its peer.
    ///
    /// The future is dropped before it is ready only when the connection to that peer has ended. It does not matter
    /// then whether the message leaves, but the link must go on for the other peers.
    ///
    /// # Errors
    /// End the connection to that peer, and for a single peer the link.
    fn send<'a>(&'a self, to: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>>;
}

/// The receiving half of a message link.
pub trait MessageReceiver: Send + 'static {
    /// The next thing that happens on the link.
    ///
    /// The future is dropped before it is ready only together with the link.
    ///
    /// # Errors
    /// End the link, and the connections to all its peers.
    fn receive(&mut self) -> BoxFuture<'_, Result<Received, LinkFailure>>;
}

/// An item that a link delivers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Received {
    /// A message.
    Message {
        /// The routing id of the peer that sent it; empty where there is a single peer.
        from: Bytes,
        /// Its frames. One that [`Multipart::from_frames`] does not take can be given as [`Multipart::default`], which
        /// is counted among the peer's anomalies.
        message: Multipart,
    },
    /// The peer has left; the connection to it ends. A message that comes after this starts a new one.
    Gone {
        /// Its routing id; empty where there is a single peer.
        peer: Bytes,
    },
}
