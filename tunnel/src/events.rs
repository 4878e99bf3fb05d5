//! The events of a tunnel, as a stream.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callosum_runtime::rt::Subscription;
use futures_util::{Stream, StreamExt};

use crate::{ConnectionInfo, End, ListenAddress, Reason};

/// An event of a tunnel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TunnelEvent {
    /// Connections are accepted here, or on the other side, for this forward.
    Listening {
        /// The forward, as in [`ConnectionInfo::forward`].
        forward: Arc<str>,
        /// Where: with the port that the system chose.
        address: ListenAddress,
    },
    /// The other side no longer listens for this forward, because the Callosum connection has ended or because it has
    /// refused. This side asks again.
    ListenFailed {
        /// The forward.
        forward: Arc<str>,
        /// Why.
        reason: Reason,
        /// How long this side waits before it asks again.
        after: Duration,
    },
    /// A listener on this side could not accept, for example for lack of file descriptors. It tries again every 100 ms. Further
    /// failures are no events until it has accepted a connection.
    AcceptFailed {
        /// The forward.
        forward: Arc<str>,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// A client of a dynamic forward has named no target: its handshake failed, and its connection is closed. Clients that
    /// close their connection themselves are no events. At most 16 a second of a tunnel are events, so that a flood of
    /// such clients pushes no others out of the subscribers' buffers.
    HandshakeFailed {
        /// The forward.
        forward: Arc<str>,
        /// The client's address, if it has one.
        source: Option<SocketAddr>,
        /// Why.
        error: HandshakeError,
        /// How many more there were since the last one that is an event.
        unreported: u64,
    },
    /// A connection is open.
    Opened(Arc<ConnectionInfo>),
    /// A connection could not be opened.
    Refused {
        /// The connection.
        connection: Arc<ConnectionInfo>,
        /// The reason.
        reason: Reason,
    },
    /// A connection that was open has ended.
    Closed(Summary),
}

/// Why the handshake of a SOCKS5 or HTTP CONNECT client failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It is neither protocol, or asks for what is not supported.
    #[error("{0}")]
    Malformed(String),
    /// It took longer than the [timeout](crate::TunnelSettings::handshake_timeout).
    #[error("the handshake took too long")]
    TimedOut,
    /// 1,024 clients of the forward were in their handshake when another connected, and of the address with the most of
    /// them, this one was for the longest time.
    #[error("evicted: too many clients are in their handshake")]
    Evicted,
}

/// The result of an open connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The connection.
    pub connection: Arc<ConnectionInfo>,
    /// Bytes that this side has moved towards the target.
    pub to_target: u64,
    /// Bytes that this side has moved from the target.
    pub from_target: u64,
    /// The time from its request to its end.
    pub duration: Duration,
    /// How it ended.
    pub end: End,
}

/// A stream of [`TunnelEvent`]s. It ends when the tunnel's driver does.
///
/// A subscriber that has more than 1,024 unread events misses the oldest; the tunnel never waits for a subscriber.
/// Cancel safe: a future of the next event that is dropped takes none.
#[derive(Debug)]
pub struct TunnelEvents(pub(crate) Subscription<TunnelEvent>);

impl Stream for TunnelEvents {
    type Item = TunnelEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TunnelEvent>> {
        self.0.poll_next_unpin(cx)
    }
}
