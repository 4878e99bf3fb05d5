//! Limits how many ended connections are cleaned up before other tasks run.
//!
//! If thousands of connections are lost at the same moment, their tasks become ready at the same moment, and each
//! cleans up its connection. The idea: only [`AT_ONCE`] of them do so before the other ready tasks have run.

use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::{Event, IntoNotification};

use crate::rt::yield_now;

/// Links that end before other tasks can run: a millisecond's work.
const AT_ONCE: usize = 64;

pub(crate) struct Turns {
    free: AtomicUsize,
    freed: Event,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { free: AtomicUsize::new(AT_ONCE), freed: Event::new() }
    }

    /// Waits until other tasks have run and a slot is free: at most [`AT_ONCE`] are taken at a time. Dropping the result frees the slot.
    pub(crate) async fn take(&self) -> Turn<'_> {
        let turn = loop {
            // Listen before the check, so that a slot that is freed in between is not missed.
            let freed = self.freed.listen();
            if let Some(turn) = self.try_take() {
                break turn;
            }
            freed.await;
        };
        yield_now().await;
        turn
    }

    fn try_take(&self) -> Option<Turn<'_>> {
        let less = |free: usize| free.checked_sub(1);
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        taken.ok().map(|_| Turn(self))
    }
}

pub(crate) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::AcqRel);
        // `additional`: otherwise several slots that are freed before the first waiter is polled would wake only that one.
        self.0.freed.notify(1.additional());
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
    fn taken<'a>(mut future: Pin<&mut impl Future<Output = Turn<'a>>>) -> Option<Turn<'a>> {
        (0..3).find_map(|_| match poll(future.as_mut()) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        })
    }

    #[test]
    fn others_have_their_turn_first() {
        let turns = Turns::new();
        let mut turn = pin!(turns.take());
        assert!(poll(turn.as_mut()).is_pending());
        assert!(poll(turn).is_ready());
    }

    #[test]
    fn each_turn_that_ends_is_one_for_another_also_if_who_was_to_have_it_gives_up() {
        let turns = Turns::new();
        let mut held: Vec<_> = (0..AT_ONCE).map(|_| taken(pin!(turns.take())).expect("it is free")).collect();
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(turns.take())).collect();
        assert!(waiting.iter_mut().all(|turn| taken(turn.as_mut()).is_none()));
        // Three end before any of those that wait is polled, and one of these gives up.
        held.truncate(AT_ONCE - 3);
        drop(waiting.remove(0));
        let taken: Vec<_> = waiting.iter_mut().filter_map(|turn| taken(turn.as_mut())).collect();
        assert_eq!(taken.len(), 3);
        assert!(poll(pin!(turns.take())).is_pending());
        assert_eq!(turns.free.load(Ordering::Acquire), 0);
    }
}
