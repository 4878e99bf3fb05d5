//! The events of an endpoint's connections, as a stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use callosum_proto::{Anomaly, Dialect};
use futures_util::Stream;

use crate::error::DisconnectCause;
use crate::lock::Mutex;
use crate::waiters::wake;
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
pub struct Events(Arc<Subscriber>);

impl Stream for Events {
    type Item = Event;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let waker = cx.waker().clone();
        let mut unread = self.0.unread.lock();
        if let Some(event) = unread.events.pop_front() {
            drop(unread);
            return Poll::Ready(Some(event));
        }
        if unread.is_closed {
            drop(unread);
            return Poll::Ready(None);
        }
        let former = unread.waker.replace(waker);
        drop(unread);
        drop(former);
        Poll::Pending
    }
}

/// The events of one subscriber. An event may hold the last handle of a peer, and with it its endpoint and all that the user gave that, so
/// it is dropped without a lock.
#[derive(Debug, Default)]
struct Subscriber {
    unread: Mutex<Unread>,
}

#[derive(Debug, Default)]
struct Unread {
    events: VecDeque<Event>,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Subscriber {
    fn send(&self, event: Event) {
        let (missed, waker) = {
            let mut unread = self.unread.lock();
            let is_full = unread.events.len() >= CAPACITY;
            let missed = is_full.then(|| unread.events.pop_front()).flatten();
            unread.events.push_back(event);
            (missed, unread.waker.take())
        };
        drop(missed);
        waker.into_iter().for_each(wake);
    }

    fn close(&self) {
        let waker = {
            let mut unread = self.unread.lock();
            unread.is_closed = true;
            unread.waker.take()
        };
        waker.into_iter().for_each(wake);
    }
}

/// Where events go: the subscribers that still exist. `None` once the endpoint is over.
#[derive(Debug)]
pub(crate) struct EventSink(Mutex<Option<Vec<Weak<Subscriber>>>>);

impl EventSink {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    pub(crate) fn subscribe(&self) -> Events {
        let subscriber = Arc::<Subscriber>::default();
        match &mut *self.0.lock() {
            Some(subscribers) => {
                // Otherwise an application that subscribes often would fill the list while there are no events.
                if subscribers.len() == subscribers.capacity() {
                    subscribers.retain(|known| known.strong_count() > 0);
                }
                subscribers.push(Arc::downgrade(&subscriber));
            }
            None => subscriber.unread.lock().is_closed = true,
        }
        Events(subscriber)
    }

    /// Events are sent one after the other, by one thread at a time.
    pub(crate) fn send(&self, event: Event) {
        let mut subscribers = Vec::new();
        if let Some(known) = &mut *self.0.lock() {
            known.retain(|subscriber| {
                let subscriber = subscriber.upgrade();
                let exists = subscriber.is_some();
                subscribers.extend(subscriber);
                exists
            });
        }
        for subscriber in subscribers {
            subscriber.send(event.clone());
        }
    }

    pub(crate) fn close(&self) {
        let subscribers = self.0.lock().take();
        for subscriber in subscribers.into_iter().flatten() {
            subscriber.upgrade().iter().for_each(|subscriber| subscriber.close());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn draining(peer: u64) -> Event {
        Event::Draining { peer: PeerId(peer) }
    }

    /// The peers of the events that are there, and whether the stream has ended.
    fn read(events: &mut Events) -> (Vec<u64>, bool) {
        let mut peers = Vec::new();
        loop {
            match events.next().now_or_never() {
                Some(Some(Event::Draining { peer })) => peers.push(peer.0),
                Some(Some(other)) => panic!("{other:?}"),
                Some(None) => return (peers, true),
                None => return (peers, false),
            }
        }
    }

    #[test]
    fn a_subscriber_misses_the_oldest_of_too_many_and_no_other_subscriber_does() {
        let sink = EventSink::new();
        let (mut reads, mut lags) = (sink.subscribe(), sink.subscribe());
        let most = CAPACITY as u64;
        (0..most).for_each(|peer| sink.send(draining(peer)));
        assert_eq!(read(&mut reads), ((0..most).collect(), false));
        sink.send(draining(most));
        let mut late = sink.subscribe();
        sink.close();
        assert_eq!(read(&mut reads), (vec![most], true));
        assert_eq!(read(&mut lags), ((1..=most).collect(), true), "all but the first");
        assert_eq!(read(&mut late), (vec![], true));
        assert_eq!(read(&mut sink.subscribe()), (vec![], true));
    }

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
