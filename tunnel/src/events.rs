//! The events of a tunnel, as a stream.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::{ConnectionInfo, End, ListenAddress, Reason};

/// Events that a subscriber may lag behind before it misses the oldest.
const CAPACITY: usize = 1_024;

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
    /// close their connection themselves are no events.
    HandshakeFailed {
        /// The forward.
        forward: Arc<str>,
        /// The client's address, if it has one.
        source: Option<SocketAddr>,
        /// Why.
        error: HandshakeError,
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
    /// 1,024 clients of the forward were in their handshake, this one for the longest time, when another connected.
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
#[derive(Debug)]
pub struct TunnelEvents(Arc<Subscriber>);

impl Stream for TunnelEvents {
    type Item = TunnelEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TunnelEvent>> {
        self.0.task.register(cx.waker());
        let mut unread = self.0.unread.lock();
        match unread.events.pop_front() {
            None if !unread.is_closed => Poll::Pending,
            next => Poll::Ready(next),
        }
    }
}

/// The events of one subscriber.
#[derive(Debug, Default)]
struct Subscriber {
    unread: Mutex<Unread>,
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct Unread {
    events: VecDeque<TunnelEvent>,
    is_closed: bool,
}

/// Where events go: the subscribers that still exist. `None` once nothing can happen any more.
#[derive(Debug)]
pub(crate) struct Sink(Mutex<Option<Vec<Weak<Subscriber>>>>);

impl Default for Sink {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Sink {
    pub(crate) fn subscribe(&self) -> TunnelEvents {
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
        TunnelEvents(subscriber)
    }

    pub(crate) fn send(&self, event: TunnelEvent) {
        let (mut subscribed, mut missed) = (Vec::new(), Vec::new());
        if let Some(subscribers) = &mut *self.0.lock() {
            // Under the lock, so that all get the events in the same order.
            subscribers.retain(|subscriber| {
                let Some(subscriber) = subscriber.upgrade() else { return false };
                missed.extend(subscriber.unread.lock().push(event.clone()));
                subscribed.push(subscriber);
                true
            });
        }
        // Without the lock: an event may have an error of the application.
        drop(missed);
        wake(&subscribed);
    }

    pub(crate) fn close(&self) {
        let subscribers = self.0.lock().take().unwrap_or_default();
        let subscribed: Vec<_> = subscribers.iter().filter_map(Weak::upgrade).collect();
        subscribed.iter().for_each(|subscriber| subscriber.unread.lock().is_closed = true);
        wake(&subscribed);
    }
}

impl Unread {
    /// Returns the event that had to make room.
    fn push(&mut self, event: TunnelEvent) -> Option<TunnelEvent> {
        let missed = (self.events.len() >= CAPACITY).then(|| self.events.pop_front()).flatten();
        self.events.push_back(event);
        missed
    }
}

/// Not under a lock: while a task is woken, its executor may poll or drop it. It may also panic, and what has happened goes on.
fn wake(subscribers: &[Arc<Subscriber>]) {
    for subscriber in subscribers {
        if catch_unwind(AssertUnwindSafe(|| subscriber.task.wake())).is_err() {
            tracing::error!("a waker panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    /// The forwards of the events that are there, and whether the stream has ended.
    fn read(events: &mut TunnelEvents) -> (Vec<String>, bool) {
        let mut forwards = Vec::new();
        loop {
            match events.next().now_or_never() {
                Some(Some(TunnelEvent::AcceptFailed { forward, .. })) => forwards.push(forward.to_string()),
                Some(Some(other)) => panic!("{other:?}"),
                Some(None) => return (forwards, true),
                None => return (forwards, false),
            }
        }
    }

    #[test]
    fn a_subscriber_misses_the_oldest_of_too_many_and_no_other_subscriber_does() {
        let sink = Sink::default();
        let send = |n: usize| {
            let (forward, error) = (n.to_string().into(), Arc::new(io::ErrorKind::Other.into()));
            sink.send(TunnelEvent::AcceptFailed { forward, error });
        };
        let names = |range: std::ops::Range<usize>| range.map(|n| n.to_string()).collect::<Vec<_>>();
        let (mut reads, mut lags) = (sink.subscribe(), sink.subscribe());
        (0..CAPACITY).for_each(send);
        assert_eq!(read(&mut reads), (names(0..CAPACITY), false));
        send(CAPACITY);
        let mut late = sink.subscribe();
        sink.close();
        assert_eq!(read(&mut reads), (names(CAPACITY..CAPACITY + 1), true));
        assert_eq!(read(&mut lags), (names(1..CAPACITY + 1), true), "all but the first");
        assert_eq!(read(&mut late), (vec![], true));
        assert_eq!(read(&mut sink.subscribe()), (vec![], true));
    }
}
