//! Tasks that wait for something to change.
//!
//! A waker is the application's: while it wakes a task, its executor may poll or drop that task, which may then come back here. So wakers
//! are cloned, woken and dropped without a lock. The idea: changes are counted, and a [`Change`] is ready once the number of changes is
//! another one than when it was listened for.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Context, Poll, Waker};

use crate::lock::{Mutex, assert_unlocked};

/// The tasks that wait for one kind of change, for what is built on endpoints.
///
/// No lock is held while a task is woken: its executor may poll or drop the task at once.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use callosum_runtime::rt::Waiters;
///
/// async fn until_set(flag: &AtomicBool, set: &Waiters) {
///     loop {
///         // Before the flag is read, so that no change falls in between.
///         let changed = set.listen();
///         if flag.load(Ordering::Acquire) {
///             return;
///         }
///         changed.await;
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct Waiters {
    /// Counted up under the lock, and read without it.
    changes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wakers: BTreeMap<u64, Waker>,
    /// The number of the next listener that waits.
    next: u64,
}

impl Waiters {
    /// Waits for the next change from now on. Check afterwards whether it has happened already.
    pub fn listen(&self) -> Change<'_> {
        Change { waiters: self, seen: self.changes.load(Acquire), place: None }
    }

    /// There is a change. Don't call it while you hold a lock that a woken task may need. A waker that panics is logged.
    pub fn wake_all(&self) {
        let wakers = {
            let mut state = self.state.lock();
            self.changes.fetch_add(1, Release);
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

/// A future of the next change, from [`Waiters::listen`]. Cancel safe.
#[derive(Debug)]
pub struct Change<'a> {
    waiters: &'a Waiters,
    seen: u64,
    /// Its number and its waker, once it has been polled and waits.
    place: Option<(u64, Waker)>,
}

impl Change<'_> {
    fn has_changed(&self) -> bool {
        self.waiters.changes.load(Acquire) != self.seen
    }
}

impl Future for Change<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.has_changed() {
            return Poll::Ready(());
        }
        // It is polled whenever its task is. The lock is shared by many tasks, so take it only for another waker.
        if this.place.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let (waker, kept) = (cx.waker().clone(), cx.waker().clone());
        let mut state = this.waiters.state.lock();
        if this.has_changed() {
            drop(state);
            return Poll::Ready(());
        }
        let number = match &this.place {
            Some((number, _)) => *number,
            None => {
                state.next += 1;
                state.next
            }
        };
        let former = state.wakers.insert(number, waker);
        drop(state);
        drop(former);
        this.place = Some((number, kept));
        Poll::Pending
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if let Some((number, _)) = self.place {
            let waker = self.waiters.state.lock().wakers.remove(&number);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::Wake;

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
            assert_eq!(waiters.state.lock().wakers.len(), 1);
        }
        drop(listener);
        assert!(waiters.state.lock().wakers.is_empty());
    }

    #[test]
    fn a_listener_that_waits_takes_the_lock_for_another_waker_only() {
        let waiters = Waiters::default();
        let mut listener = waiters.listen();
        assert!((&mut listener).now_or_never().is_none());
        {
            let _locked = waiters.state.lock();
            assert!((&mut listener).now_or_never().is_none());
        }
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        assert!(listener.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        waiters.wake_all();
        assert!(woken.0.load(Relaxed), "the last waker is woken");
        let locked = waiters.state.lock();
        assert!((&mut listener).now_or_never().is_some());
        // Dropping the listener takes the lock.
        drop(locked);
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
}
