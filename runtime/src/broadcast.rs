//! Events for any number of subscribers, none of which delays the sender or another subscriber.
//!
//! An event and a waker may be the application's: an event's destructor, and an executor that is told to poll a task, may come back here.
//! The idea: one lock holds the queues of all subscribers, so that all get the events in the same order. Under it, events are only moved,
//! as `Arc`s; they are cloned and dropped, and tasks are woken, once it is released.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::Stream;

use crate::lock::{Mutex, drop_caught};
use crate::waiters::wake;

/// Sends events to its subscribers, for what is built on endpoints. Sending never waits.
///
/// Each subscriber has a queue of [`CAPACITY`](Self::CAPACITY) events. When the queue of a slow subscriber is full, each
/// further event pushes the oldest out, which that subscriber misses and the others don't. All subscribers get the
/// events in the same order, also those that several threads send. Events that anybody can cause should pass a
/// [`RateLimit`](crate::rt::RateLimit), or they push the others out.
///
/// No lock is held while a task is woken or an event is cloned or dropped. A waker that panics is logged, and so is the
/// destructor of an event that panics as it is pushed out: sending goes on. Dropping a `Broadcast`
/// [closes](Self::close) it.
///
/// ```
/// # use callosum_runtime::rt::Broadcast;
/// # use futures_util::{FutureExt, StreamExt};
/// let broadcast = Broadcast::default();
/// broadcast.send("before it has subscribed");
/// let subscription = broadcast.subscribe();
/// broadcast.send("opened");
/// broadcast.send("closed");
/// drop(broadcast);
/// let events = subscription.collect::<Vec<_>>().now_or_never();
/// assert_eq!(events.expect("all are there"), ["opened", "closed"]);
/// ```
#[derive(Debug)]
pub struct Broadcast<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    subscribers: BTreeMap<u64, Subscriber<T>>,
    /// The number of the next subscriber.
    next: u64,
    is_closed: bool,
}

struct Subscriber<T> {
    unread: VecDeque<Arc<T>>,
    waker: Option<Waker>,
}

impl<T> Broadcast<T> {
    /// Events that a subscriber may leave unread before it misses the oldest.
    pub const CAPACITY: usize = 1_024;

    /// The events from now on. Dropping the stream frees its queue.
    pub fn subscribe(&self) -> Subscription<T> {
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.subscribers.insert(number, Subscriber { unread: VecDeque::new(), waker: None });
        Subscription { state: self.0.clone(), number }
    }

    /// Sends an event to all subscribers. It is dropped if there are none, or if this is [closed](Self::close).
    ///
    /// Don't call it while you hold a lock that a woken task, or the destructor of an event, may need.
    pub fn send(&self, event: T) {
        let event = Arc::new(event);
        let (mut missed, mut wakers) = (Vec::new(), Vec::new());
        let mut state = self.0.lock();
        if !state.is_closed {
            for Subscriber { unread, waker } in state.subscribers.values_mut() {
                if unread.len() >= Self::CAPACITY {
                    missed.extend(unread.pop_front());
                }
                unread.push_back(event.clone());
                wakers.extend(waker.take());
            }
        }
        drop(state);
        // Before subscribers are woken, so that the only one, or the last, gets the event without cloning it.
        missed.push(event);
        missed.into_iter().for_each(|event| drop_caught("an event", event));
        wakers.into_iter().for_each(wake);
    }

    /// Ends the subscriptions, also those still to come: each gives what it has not read, and then ends. Idempotent.
    pub fn close(&self) {
        let wakers: Vec<_> = {
            let mut state = self.0.lock();
            state.is_closed = true;
            state.subscribers.values_mut().filter_map(|subscriber| subscriber.waker.take()).collect()
        };
        wakers.into_iter().for_each(wake);
    }
}

impl<T> Default for Broadcast<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { subscribers: BTreeMap::new(), next: 0, is_closed: false })))
    }
}

impl<T> Drop for Broadcast<T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// The events of a [`Broadcast`] since [`Broadcast::subscribe`]. It ends once that is closed and all is read.
///
/// Cancel safe: a future of the next event that is dropped takes none.
#[derive(Debug)]
pub struct Subscription<T> {
    state: Arc<Mutex<State<T>>>,
    number: u64,
}

impl<T: Clone> Stream for Subscription<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        let is_closed = state.is_closed;
        let own = state.subscribers.get_mut(&self.number).expect("only `drop` removes it");
        if let Some(event) = own.unread.pop_front() {
            drop(state);
            return Poll::Ready(Some(Arc::unwrap_or_clone(event)));
        }
        if is_closed {
            return Poll::Ready(None);
        }
        let former = own.waker.replace(waker);
        drop(state);
        drop(former);
        Poll::Pending
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        let own = self.state.lock().subscribers.remove(&self.number);
        drop(own);
    }
}

#[cfg(test)]
mod tests;
