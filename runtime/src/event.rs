//! What happens to an endpoint's links, as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_broadcast::{InactiveReceiver, Receiver, Sender, TryRecvError};
use callosum_proto::session::{Anomaly, Dialect};
use futures_util::Stream;
use parking_lot::Mutex;

use crate::error::DisconnectCause;
use crate::{Endpoint, Peer, PeerId};

/// Events that a subscriber may lag behind before it misses the oldest.
const CAPACITY: usize = 1_024;

/// Something that happened to a link.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A peer has completed the handshake.
    Connected(Peer),
    /// A peer's link ended; every call that was open on it has ended.
    Disconnected {
        /// The peer.
        peer: PeerId,
        /// Why.
        cause: DisconnectCause,
    },
    /// A connector has no link, and will try again.
    Reconnecting {
        /// Why the last attempt failed or the last link ended.
        cause: DisconnectCause,
        /// How long it waits before it tries.
        after: Duration,
    },
    /// A connection was not accepted, or ended before its handshake was complete.
    Refused {
        /// The remote address.
        address: String,
        /// Why.
        cause: DisconnectCause,
    },
    /// A listener could not accept, because the system refused; it tries again after a pause.
    AcceptFailed {
        /// The listener.
        endpoint: Endpoint,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// A peer speaks a lower dialect than this side offers, so that streams and metadata can't travel. Python peers speak
    /// dialect 1.
    Downgraded {
        /// The peer.
        peer: PeerId,
        /// What it speaks.
        dialect: Dialect,
    },
    /// A peer takes no new calls, because it shuts down. Those that it had not taken have failed as `ShuttingDown`.
    Draining {
        /// The peer.
        peer: PeerId,
    },
    /// A peer sent something that was dropped; the link lives on. Only the first 16 on a link are events;
    /// [`Stats::anomalies`](crate::Stats::anomalies) counts them all. A reply that comes after its call has timed out is
    /// one of them.
    Anomaly {
        /// The peer.
        peer: PeerId,
        /// What it sent.
        anomaly: Anomaly,
    },
}

/// A stream of [`Event`]s. It ends when the driver does.
///
/// A subscriber that lags more than 1,024 events behind misses the oldest of them; nothing ever waits for it.
#[derive(Debug)]
pub struct Events(Pin<Box<Receiver<Event>>>);

impl Stream for Events {
    type Item = Event;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Its own drop would drop the events that are left under the channel's lock, and a peer among them may be the
        // last that keeps its endpoint, with all that the user gave it.
        while !matches!(self.0.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
    }
}

/// Where events go. Empty once the endpoint is over, so that an endpoint that an unread event is the last to keep
/// does not reach for the channel that the event is dropped from.
#[derive(Debug)]
pub(crate) struct EventSink(Mutex<Option<Channel>>);

#[derive(Debug)]
struct Channel {
    sender: Sender<Event>,
    receivers: InactiveReceiver<Event>,
}

impl EventSink {
    pub(crate) fn new() -> Self {
        let (mut sender, receiver) = async_broadcast::broadcast(CAPACITY);
        sender.set_overflow(true);
        sender.set_await_active(false);
        Self(Mutex::new(Some(Channel { sender, receivers: receiver.deactivate() })))
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events(Box::pin(match &*self.0.lock() {
            Some(channel) => channel.receivers.activate_cloned(),
            // Its sender is gone, so it has ended.
            None => async_broadcast::broadcast(1).1,
        }))
    }

    pub(crate) fn send(&self, event: Event) {
        let unread = self.0.lock().as_ref().map(|channel| channel.sender.try_broadcast(event));
        // What could not be sent for want of subscribers, or had to make way, is dropped without the lock.
        drop(unread);
    }

    pub(crate) fn close(&self) {
        let channel = self.0.lock().take();
        drop(channel);
    }
}
