//! Ends what runs for long from outside: a connection, or a listener.
//!
//! The task that relays waits for it beside everything else. The first reason for the end counts.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use callosum_runtime::rt::Waiters;
use parking_lot::Mutex;

use crate::End;

/// How what runs for long is ended from outside.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    why: Mutex<Option<End>>,
    stopped: Waiters,
}

impl Stop {
    /// Only the first of several reasons counts.
    pub(crate) fn stop(&self, why: End) {
        self.why.lock().get_or_insert(why);
        self.stopped.wake_all();
    }

    async fn stopped(&self) -> End {
        loop {
            let stopped = self.stopped.listen();
            if let Some(why) = *self.why.lock() {
                return why;
            }
            stopped.await;
        }
    }

    /// The output of `future`, or why it was stopped before.
    pub(crate) async fn or<F: Future>(&self, future: F) -> Result<F::Output, End> {
        let (mut stopped, mut future) = (pin!(self.stopped()), pin!(future));
        poll_fn(|cx| match stopped.as_mut().poll(cx) {
            Poll::Ready(why) => Poll::Ready(Err(why)),
            Poll::Pending => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }
}
