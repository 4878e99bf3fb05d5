//! What happens to an endpoint's links, as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use callosum_proto::session::Anomaly;
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
    /// A peer sent something that was dropped; the link lives on.
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
pub struct Events(Option<Pin<Box<async_broadcast::Receiver<Event>>>>);

impl Stream for Events {
    type Item = Event;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match &mut self.0 {
            Some(receiver) => receiver.as_mut().poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

/// Where an endpoint's events go, until it is over.
///
/// The channel must not outlive the driver in here: its events hold peers, and through them the endpoint that holds
/// this. A subscriber drops the events that it has not read while it holds the channel's lock, which the drop of the
/// last endpoint's sender would take again.
#[derive(Debug)]
pub(crate) struct EventSink(Mutex<Option<Channel>>);

#[derive(Debug)]
struct Channel {
    sender: async_broadcast::Sender<Event>,
    receivers: async_broadcast::InactiveReceiver<Event>,
}

impl EventSink {
    pub(crate) fn new() -> Self {
        let (mut sender, receiver) = async_broadcast::broadcast(CAPACITY);
        sender.set_overflow(true);
        sender.set_await_active(false);
        Self(Mutex::new(Some(Channel { sender, receivers: receiver.deactivate() })))
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events(self.0.lock().as_ref().map(|channel| Box::pin(channel.receivers.activate_cloned())))
    }

    pub(crate) fn send(&self, event: Event) {
        let displaced = self.0.lock().as_ref().map(|channel| channel.sender.try_broadcast(event));
        // Without subscribers there is nobody to tell. Dropped after the lock, with the peer that it may hold.
        drop(displaced);
    }

    /// Subscribers get what was sent before, then the end.
    pub(crate) fn close(&self) {
        let channel = self.0.lock().take();
        drop(channel);
    }
}
