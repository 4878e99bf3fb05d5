//! Tasks that wait for something to change.
//!
//! A waker is the application's: while it wakes a task, its executor may poll or drop that task, which may then come back here. So wakers
//! are cloned, woken and dropped without a lock. The idea: changes are counted, and a [`Listener`] is ready once the number of changes is
//! another one than when it began to listen.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::lock::{Mutex, assert_unlocked};

/// The tasks that wait for one kind of change.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    changes: u64,
    wakers: BTreeMap<u64, Waker>,
    /// The number of the next listener that waits.
    next: u64,
}

impl Waiters {
    /// Waits for the next change from now on. Check afterwards whether it has happened already.
    pub(crate) fn listen(&self) -> Listener<'_> {
        Listener { seen: self.0.lock().changes, waiters: self, number: None }
    }

    /// There is a change.
    pub(crate) fn wake_all(&self) {
        let wakers = {
            let mut state = self.0.lock();
            state.changes += 1;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_values().for_each(wake);
    }
}

/// Wakes a task of the application. Its executor may panic, and the caller must go on.
pub(crate) fn wake(waker: Waker) {
    caught(|| waker.wake());
}

/// Does what may wake a task of the application. `None` if that panics: then the caller must go on.
pub(crate) fn caught<T>(wakes: impl FnOnce() -> T) -> Option<T> {
    assert_unlocked();
    let woken = catch_unwind(AssertUnwindSafe(wakes));
    woken.inspect_err(|_| tracing::error!("a waker panicked")).ok()
}

/// A future of the next change.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    waiters: &'a Waiters,
    seen: u64,
    /// Once it has been polled and waits.
    number: Option<u64>,
}

impl Future for Listener<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { waiters, seen, number } = self.get_mut();
        let waker = cx.waker().clone();
        let mut state = waiters.0.lock();
        if state.changes != *seen {
            drop(state);
            return Poll::Ready(());
        }
        let number = *number.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        let former = state.wakers.insert(number, waker);
        drop(state);
        drop(former);
        Poll::Pending
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.waiters.0.lock().wakers.remove(&number);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_change_is_missed_by_none_that_listened_before_it() {
        let waiters = Waiters::default();
        let (mut polled, unpolled) = (waiters.listen(), waiters.listen());
        assert!((&mut polled).now_or_never().is_none());
        waiters.wake_all();
        let after = waiters.listen();
        assert!(
            [polled, unpolled, after].map(|listener| listener.now_or_never().is_some())
                == [true, true, false]
        );
    }

    #[test]
    fn a_listener_has_one_waker_until_it_is_dropped() {
        let waiters = Waiters::default();
        let mut listener = waiters.listen();
        for _ in 0..2 {
            assert!((&mut listener).now_or_never().is_none());
            assert_eq!(waiters.0.lock().wakers.len(), 1);
        }
        drop(listener);
        assert!(waiters.0.lock().wakers.is_empty());
    }
}
