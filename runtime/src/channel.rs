//! A queue between tasks, with many senders and one receiver.
//!
//! No lock is held while a task is woken or a message is dropped: a waker is the application's, and its executor may poll or drop the
//! task at once (see [`waiters`](crate::waiters)). The crate `async-channel` wakes tasks under a lock of its own.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::task::AtomicWaker;

use crate::lock::Mutex;
use crate::waiters::{self, Waiters};

/// The end at which messages come in. A clone is the same end.
pub(crate) struct Sender<T>(Arc<Channel<T>>);

/// The end at which they come out; the stream ends when no sender is left. Dropping it drops the messages.
pub(crate) struct Receiver<T>(Arc<Channel<T>>);

struct Channel<T> {
    capacity: usize,
    state: Mutex<State<T>>,
    receiver: AtomicWaker,
    has_room: Waiters,
}

struct State<T> {
    messages: VecDeque<T>,
    senders: usize,
    has_receiver: bool,
}

/// Why a message is not sent.
pub(crate) enum Refused<T> {
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

/// Holds up to `capacity` messages, at least one.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { messages: VecDeque::new(), senders: 1, has_receiver: true });
    let (capacity, receiver, has_room) = (capacity.max(1), AtomicWaker::new(), Waiters::default());
    let channel = Arc::new(Channel { capacity, state, receiver, has_room });
    (Sender(channel.clone()), Receiver(channel))
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

impl<T> Channel<T> {
    fn wake_receiver(&self) {
        self.receiver.take().into_iter().for_each(waiters::wake);
    }
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, message: T) -> Result<(), Refused<T>> {
        let Self(channel) = self;
        let mut state = channel.state.lock();
        if !state.has_receiver {
            return Err(Refused::Closed(message));
        }
        if state.messages.len() >= channel.capacity {
            return Err(Refused::Full(message));
        }
        state.messages.push_back(message);
        drop(state);
        channel.wake_receiver();
        Ok(())
    }

    /// Waits for room. Gives the message back if the receiver is gone.
    ///
    /// Cancel safe: dropped while it waits, it has sent nothing.
    pub(crate) async fn send(&self, mut message: T) -> Result<(), T> {
        loop {
            let has_room = self.0.has_room.listen();
            message = match self.try_send(message) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed(message)) => return Err(message),
                Err(Refused::Full(message)) => message,
            };
            has_room.await;
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.state.lock();
            state.senders -= 1;
            state.senders
        };
        if left == 0 {
            self.0.wake_receiver();
        }
    }
}

impl<T> Receiver<T> {
    /// Takes no more messages, and drops those that are there.
    pub(crate) fn close(&self) {
        let messages = {
            let mut state = self.0.state.lock();
            state.has_receiver = false;
            mem::take(&mut state.messages)
        };
        self.0.has_room.wake_all();
        drop(messages);
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Self(channel) = &*self;
        channel.receiver.register(cx.waker());
        let mut state = channel.state.lock();
        let was_full = state.messages.len() >= channel.capacity;
        let next = state.messages.pop_front();
        let is_over = state.senders == 0;
        drop(state);
        if was_full {
            channel.has_room.wake_all();
        }
        match next {
            None if !is_over => Poll::Pending,
            next => Poll::Ready(next),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn senders_wait_for_room_and_a_receiver_for_the_last_of_them() {
        let (sender, mut receiver) = bounded(2);
        let other = sender.clone();
        assert!(sender.try_send(1).is_ok() && other.try_send(2).is_ok());
        let mut third = Box::pin(sender.send(3));
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(receiver.next().now_or_never(), Some(Some(1)));
        assert_eq!(third.now_or_never(), Some(Ok(())));
        drop(sender);
        assert_eq!(receiver.next().now_or_never(), Some(Some(2)));
        assert_eq!(receiver.next().now_or_never(), Some(Some(3)));
        assert_eq!(receiver.next().now_or_never(), None);
        drop(other);
        assert_eq!(receiver.next().now_or_never(), Some(None));
    }

    #[test]
    fn messages_are_dropped_with_the_receiver_and_those_that_wait_come_back() {
        let message = Arc::new(());
        let (sender, receiver) = bounded(1);
        assert!(sender.try_send(message.clone()).is_ok());
        let mut second = Box::pin(sender.send(message.clone()));
        assert!(second.as_mut().now_or_never().is_none());
        drop(receiver);
        assert_eq!(second.now_or_never(), Some(Err(message.clone())));
        assert!(matches!(sender.try_send(message.clone()), Err(Refused::Closed(_))));
        assert_eq!(Arc::strong_count(&message), 1);
    }
}
