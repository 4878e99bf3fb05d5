//! Ends what runs for long from outside: a connection, or a listener.
//!
//! The task that relays waits for it beside everything else. The first reason for the end counts.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::End;

/// How what runs for long is ended from outside. Each has one task that waits.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    why: Mutex<Option<End>>,
    task: AtomicWaker,
}

impl Stop {
    /// Only the first of several reasons counts.
    pub(crate) fn stop(&self, why: End) {
        self.why.lock().get_or_insert(why);
        self.task.wake();
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<End> {
        self.task.register(cx.waker());
        self.why.lock().map_or(Poll::Pending, Poll::Ready)
    }

    /// The output of `future`, or why it was stopped before. Don't use it for futures of two tasks at the same time: one waker is kept.
    pub(crate) async fn or<F: Future>(&self, future: F) -> Result<F::Output, End> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(why) => Poll::Ready(Err(why)),
            Poll::Pending => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }
}
