use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Wake;

use futures_util::{FutureExt, StreamExt};

use super::*;
use crate::lock::assert_unlocked;

const CAPACITY: usize = Broadcast::<usize>::CAPACITY;

/// The events that are there, and whether the stream has ended.
fn read<T: Clone>(events: &mut Subscription<T>) -> (Vec<T>, bool) {
    let mut read = Vec::new();
    loop {
        match events.next().now_or_never() {
            Some(Some(event)) => read.push(event),
            Some(None) => return (read, true),
            None => return (read, false),
        }
    }
}

#[test]
fn a_subscriber_misses_the_oldest_of_too_many_and_no_other_subscriber_does() {
    let broadcast = Broadcast::default();
    let (mut reads, mut lags) = (broadcast.subscribe(), broadcast.subscribe());
    (0..CAPACITY).for_each(|event| broadcast.send(event));
    assert_eq!(read(&mut reads), ((0..CAPACITY).collect(), false));
    broadcast.send(CAPACITY);
    let mut late = broadcast.subscribe();
    broadcast.close();
    broadcast.send(0);
    assert_eq!(read(&mut reads), (vec![CAPACITY], true));
    assert_eq!(read(&mut lags), ((1..=CAPACITY).collect(), true), "all but the first");
    assert_eq!(read(&mut late), (vec![], true));
    assert_eq!(read(&mut broadcast.subscribe()), (vec![], true));
}

#[test]
fn a_subscription_ends_with_its_broadcast_and_frees_its_queue() {
    let broadcast = Broadcast::default();
    let (mut kept, dropped) = (broadcast.subscribe(), broadcast.subscribe());
    broadcast.send(Arc::new(()));
    drop(dropped);
    assert_eq!(broadcast.0.lock().subscribers.len(), 1);
    drop(broadcast);
    let (events, has_ended) = read(&mut kept);
    assert!(has_ended);
    assert_eq!(Arc::strong_count(&events[0]), 1);
}

/// An event whose clones and destructors use what it is sent by, and panic if they are told to.
struct Uses(Arc<Used>);

#[derive(Default)]
struct Used {
    broadcast: OnceLock<Broadcast<Uses>>,
    clones: AtomicUsize,
    drops: AtomicUsize,
    panics: bool,
}

impl Used {
    fn new(panics: bool) -> Arc<Self> {
        let used = Arc::new(Self { panics, ..Self::default() });
        assert!(used.broadcast.set(Broadcast::default()).is_ok());
        used
    }

    fn broadcast(&self) -> &Broadcast<Uses> {
        self.broadcast.get().expect("it is set")
    }

    fn send(self: &Arc<Self>) {
        self.broadcast().send(Uses(self.clone()));
    }
}

impl Clone for Uses {
    fn clone(&self) -> Self {
        assert_unlocked();
        drop(self.0.broadcast().subscribe());
        self.0.clones.fetch_add(1, Relaxed);
        Self(self.0.clone())
    }
}

impl Drop for Uses {
    fn drop(&mut self) {
        assert_unlocked();
        drop(self.0.broadcast().subscribe());
        self.0.drops.fetch_add(1, Relaxed);
        assert!(!self.0.panics, "as it is told");
    }
}

#[test]
fn events_are_cloned_and_dropped_without_the_lock() {
    let used = Used::new(false);
    used.send();
    assert_eq!(used.drops.load(Relaxed), 1, "nobody has subscribed");
    let (mut reads, lags) = (used.broadcast().subscribe(), used.broadcast().subscribe());
    for _ in 0..CAPACITY + 1 {
        used.send();
        assert_eq!(read(&mut reads).0.len(), 1);
    }
    assert_eq!(used.clones.load(Relaxed), CAPACITY + 1);
    assert_eq!(used.drops.load(Relaxed), 1 + (CAPACITY + 1) + 1, "what is read, and the one that is missed");
    drop(lags);
    assert_eq!(used.drops.load(Relaxed), 1 + 2 * (CAPACITY + 1));
    used.broadcast().close();
    used.send();
    assert_eq!(used.drops.load(Relaxed), 1 + 2 * (CAPACITY + 1) + 1, "it is closed");
}

#[test]
fn the_only_subscriber_gets_events_without_cloning_them() {
    let used = Used::new(false);
    let mut events = used.broadcast().subscribe();
    used.send();
    assert_eq!((read(&mut events).0.len(), used.clones.load(Relaxed)), (1, 0));
}

#[test]
fn an_event_that_panics_as_it_is_dropped_keeps_no_subscriber_from_its_events() {
    let used = Used::new(true);
    let subscriptions = [used.broadcast().subscribe(), used.broadcast().subscribe()];
    for _ in 0..CAPACITY + 3 {
        used.send();
    }
    assert_eq!(used.drops.load(Relaxed), 3);
    let state = used.broadcast().0.lock();
    assert!(state.subscribers.values().all(|subscriber| subscriber.unread.len() == CAPACITY));
    drop(state);
    std::mem::forget(subscriptions);
}

/// Uses the broadcast whenever it is woken, cloned or dropped as a waker, and panics as it is woken.
struct Panics(Arc<Broadcast<usize>>);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        assert_unlocked();
        drop(self.0.subscribe());
        panic!("as it is told");
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert_unlocked();
        drop(self.0.subscribe());
    }
}

#[test]
fn a_waker_that_panics_keeps_no_other_subscriber_from_being_woken() {
    let broadcast = Arc::new(Broadcast::default());
    let panics = || Waker::from(Arc::new(Panics(broadcast.clone())));
    let woken = Arc::<Woken>::default();
    let mut subscriptions = [broadcast.subscribe(), broadcast.subscribe(), broadcast.subscribe()];
    let mut wait = || {
        let wakers = [panics(), Waker::from(woken.clone()), panics()];
        for (subscription, waker) in subscriptions.iter_mut().zip(wakers) {
            // The first waker is replaced, and dropped.
            for waker in [panics(), waker] {
                let polled = subscription.poll_next_unpin(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
        }
    };
    wait();
    broadcast.send(7);
    assert_eq!(woken.0.load(Relaxed), 1);
    subscriptions.iter_mut().for_each(|subscription| assert_eq!(read(subscription), (vec![7], false)));
    let mut wait = || {
        for subscription in &mut subscriptions {
            let waker = Waker::from(woken.clone());
            assert!(subscription.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
    };
    wait();
    broadcast.close();
    assert_eq!(woken.0.load(Relaxed), 4);
    // Those that have waited and were not woken.
    drop(subscriptions);
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}
