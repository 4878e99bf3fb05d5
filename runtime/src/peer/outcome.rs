//! The outcome of a call, between the engine and the caller.
//!
//! The idea: under the peer's lock, an outcome goes from the engine to the [`OutcomeCell`] of its call. So whoever has locked the peer after
//! a call has ended finds the outcome there, whatever the thread that has put it there is doing. Only wakers are used later, without
//! the lock.

use std::mem;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use callosum_proto::Metadata;

use crate::error::CallError;
use crate::lock::Mutex;

/// The outcome of an awaited call.
pub(crate) type Answered = Result<(Bytes, Metadata), CallError>;

/// Where the outcome of a call waits for its caller.
#[derive(Default)]
pub(super) struct OutcomeCell(Mutex<Stage>);

enum Stage {
    /// The task that waits for the outcome.
    Awaited(Option<Waker>),
    Outcome(Answered),
    Taken,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Awaited(None)
    }
}

impl OutcomeCell {
    /// Returns the task that waits for it, to be woken without the peer's lock.
    pub(super) fn put(&self, outcome: Answered) -> Option<Waker> {
        match mem::replace(&mut *self.0.lock(), Stage::Outcome(outcome)) {
            Stage::Awaited(waker) => waker,
            Stage::Outcome(_) | Stage::Taken => unreachable!("a call ends once"),
        }
    }

    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<Answered> {
        let waker = cx.waker().clone();
        let mut stage = self.0.lock();
        let former = match mem::replace(&mut *stage, Stage::Taken) {
            Stage::Outcome(outcome) => return Poll::Ready(outcome),
            former => former,
        };
        *stage = Stage::Awaited(Some(waker));
        drop(stage);
        // A waker's drop is the application's code.
        drop(former);
        Poll::Pending
    }
}
