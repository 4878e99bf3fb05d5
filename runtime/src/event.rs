//! The events of an endpoint's connections, as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_broadcast::{InactiveReceiver, Receiver, Sender, TryRecvError};
use callosum_proto::{Anomaly, Dialect};
use futures_util::Stream;

use crate::error::DisconnectCause;
use crate::lock::Mutex;
use crate::{Endpoint, Peer, PeerId};

/// Events that a subscriber may lag behind before it misses the oldest.
const CAPACITY: usize = 1_024;

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
        kind: std::io::ErrorKind,
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

/// Events of one kind that unauthenticated peers may cause within a [`WINDOW`].
const RATION: u32 = 16;

const WINDOW: Duration = Duration::from_secs(1);

/// The share of the subscribers' buffers that events of unauthenticated peers may fill.
#[derive(Debug, Default)]
pub(crate) struct Ration {
    since: Option<Instant>,
    reported: u32,
    unreported: u64,
}

impl Ration {
    /// Counts an event. `Some` if it may be reported, with the number of events suppressed since the last report.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (self.since, self.reported) = (Some(now), 0);
        }
        if self.reported == RATION {
            self.unreported += 1;
            return None;
        }
        self.reported += 1;
        Some(std::mem::take(&mut self.unreported))
    }
}

/// A stream of [`Event`]s. It ends when the driver does.
///
/// A subscriber that has more than 1,024 unread events misses the oldest; the endpoint never waits for a subscriber.
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
        let sender = self.0.lock().as_ref().map(|channel| channel.sender.clone());
        let unread = sender.map(|sender| sender.try_broadcast(event));
        // An event without subscribers, or one that was pushed out of the buffer, is dropped outside of the lock.
        drop(unread);
    }

    pub(crate) fn close(&self) {
        let channel = self.0.lock().take();
        drop(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ration_is_so_many_in_a_second_and_counts_the_rest() {
        let start = Instant::now();
        let mut ration = Ration::default();
        let mut at = |millis| ration.take(start + Duration::from_millis(millis));
        assert!((0..16).all(|n| at(n * 10) == Some(0)));
        assert!((0..1_000).all(|_| at(999).is_none()));
        assert_eq!(at(1_000), Some(1_000));
        assert!((0..15).all(|_| at(1_999) == Some(0)));
        assert_eq!(at(1_999), None);
        assert_eq!(at(9_999), Some(1));
        // A clock that goes back counts as one that stands still.
        assert!((0..15).all(|_| at(0) == Some(0)));
        assert_eq!(at(0), None);
    }
}
