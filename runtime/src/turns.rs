//! Limits how many ended connections are cleaned up before other tasks run.
//!
//! If thousands of connections are lost at the same moment, their tasks become ready at the same moment, and each
//! cleans up its connection. The idea: only [`AT_ONCE`] of them do so before the other ready tasks have run.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_channel::oneshot;

use crate::lock::{Mutex, assert_unlocked};
use crate::rt::yield_now;

/// Links that end before other tasks can run: a millisecond's work.
const AT_ONCE: usize = 64;

pub(crate) struct Turns(Mutex<State>);

struct State {
    /// 0 while a task waits.
    free: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Mutex::new(State { free: AT_ONCE, waiting: VecDeque::new() }))
    }
}

impl Turns {
    /// Waits until other tasks have run and a slot is free: at most [`AT_ONCE`] are taken at a time. Dropping the result frees the slot.
    pub(crate) async fn take(self: &Arc<Self>) -> Turn {
        let turn = match self.take_or_wait() {
            Ok(turn) => turn,
            Err(freed) => freed.await.expect("its sender is in `waiting` until it is given a slot"),
        };
        yield_now().await;
        turn
    }

    fn take_or_wait(self: &Arc<Self>) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut state = self.0.lock();
        if let Some(less) = state.free.checked_sub(1) {
            state.free = less;
            return Ok(Turn(self.clone()));
        }
        let (sender, freed) = oneshot::channel();
        state.waiting.push_back(sender);
        Err(freed)
    }

    /// The next task that still waits for a slot; without one, there is one free slot more.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        loop {
            let sender = {
                let mut state = self.0.lock();
                let Some(sender) = state.waiting.pop_front() else {
                    state.free += 1;
                    return None;
                };
                sender
            };
            // Dropping a sender may wake a task, so not under the lock.
            if !sender.is_canceled() {
                return Some(sender);
            }
        }
    }
}

pub(crate) struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(next) = self.0.next() {
            assert_unlocked();
            // If that task gives up, now or before it looks, the slot is dropped with its channel and goes to the one after it.
            let _ = next.send(Self(self.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Polls until it yields no more; returns whether it may run.
    fn taken(mut future: Pin<&mut impl Future<Output = Turn>>) -> Option<Turn> {
        (0..3).find_map(|_| match poll(future.as_mut()) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        })
    }

    #[test]
    fn others_have_their_turn_first() {
        let turns = Arc::<Turns>::default();
        let mut turn = pin!(turns.take());
        assert!(poll(turn.as_mut()).is_pending());
        assert!(poll(turn).is_ready());
    }

    #[test]
    fn each_turn_that_ends_is_one_for_another_also_if_who_was_to_have_it_gives_up() {
        let turns = Arc::<Turns>::default();
        let mut held: Vec<_> = (0..AT_ONCE).map(|_| taken(pin!(turns.take())).expect("it is free")).collect();
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(turns.take())).collect();
        assert!(waiting.iter_mut().all(|turn| taken(turn.as_mut()).is_none()));
        // Three end before any of those that wait is polled, and one of these gives up.
        held.truncate(AT_ONCE - 3);
        drop(waiting.remove(0));
        let taken: Vec<_> = waiting.iter_mut().filter_map(|turn| taken(turn.as_mut())).collect();
        assert_eq!(taken.len(), 3);
        assert!(poll(pin!(turns.take())).is_pending());
        assert_eq!(turns.0.lock().free, 0);
    }
}
