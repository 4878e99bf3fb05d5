//! The events of an endpoint's connections, as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callosum_proto::{Anomaly, Dialect};
use futures_util::{Stream, StreamExt};

use crate::broadcast::Subscription;
use crate::error::DisconnectCause;
use crate::{Endpoint, Peer, PeerId};

/// An event of a connection or a listener.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A peer has completed the handshake.
    Connected(Peer),
    /// A peer's connection ended; every call that was open on it has ended.
    Disconnected {
        /// The peer.
        peer: PeerId,
        /// Why.
        cause: DisconnectCause,
    },
    /// A connector has no connection, and will try again.
    Reconnecting {
        /// Why the last attempt failed or the last connection ended.
        cause: DisconnectCause,
        /// How long it waits before it tries.
        after: Duration,
    },
    /// A connection was not accepted, or ended before its handshake was complete. At most 16 a second are events, so
    /// that a flood of unauthenticated peers pushes no others out of the subscribers' buffers.
    Refused {
        /// The remote address.
        address: String,
        /// Why.
        cause: DisconnectCause,
        /// How many more there were since the last one that is an event.
        unreported: u64,
    },
    /// A listener could not accept, because the system refused; it tries again after a pause. At most 16 a second are
    /// events.
    AcceptFailed {
        /// The listener.
        endpoint: Endpoint,
        /// What the system said.
        error: Arc<std::io::Error>,
        /// How many more there were since the last one that is an event.
        unreported: u64,
    },
    /// A peer speaks a lower dialect than this side offers, so streams and metadata can't be sent to it. Python peers
    /// speak dialect 1.
    Downgraded {
        /// The peer.
        peer: PeerId,
        /// What it speaks.
        dialect: Dialect,
    },
    /// A peer accepts no new calls, because it shuts down. Calls that it had not accepted have failed as
    /// `ShuttingDown`.
    Draining {
        /// The peer.
        peer: PeerId,
    },
    /// A message of a peer was dropped; the connection goes on. Only the first 16 on a connection are events;
    /// [`Stats::anomalies`](crate::Stats::anomalies) counts all. A reply that arrives after its call has timed out is
    /// an anomaly.
    Anomaly {
        /// The peer.
        peer: PeerId,
        /// What it sent.
        anomaly: Anomaly,
    },
}

/// A stream of [`Event`]s. It ends when the driver does.
///
/// A subscriber that has more than 1,024 unread events misses the oldest; the endpoint never waits for a subscriber.
/// Cancel safe: a future of the next event that is dropped takes none.
#[derive(Debug)]
pub struct Events(pub(crate) Subscription<Event>);

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_next_unpin(cx)
    }
}
