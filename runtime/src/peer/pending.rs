//! A call that waits for its reply.
//!
//! The idea: under the peer's lock, an outcome goes from the engine to the [`Slot`] of its call. So it is never under way: whoever has
//! locked the peer after a call has ended finds the outcome there, whatever the thread that has put it there is doing. Only wakers are
//! used later, without the lock.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::{Call, CallId, Metadata};

use super::shared::PeerShared;
use crate::core::Core;
use crate::error::CallError;
use crate::lock::Mutex;
use crate::stream::Shared;

/// The outcome of an awaited call.
pub(crate) type Answered = Result<(Bytes, Metadata), CallError>;

/// Where the outcome of a call waits for its caller.
pub(super) struct Slot(Mutex<Content>);

enum Content {
    /// The task that waits for the outcome.
    Awaited(Option<Waker>),
    Outcome(Answered),
    Taken,
}

impl Slot {
    /// Returns the task that waits for it, to be woken without the peer's lock.
    pub(super) fn put(&self, outcome: Answered) -> Option<Waker> {
        match mem::replace(&mut *self.0.lock(), Content::Outcome(outcome)) {
            Content::Awaited(waker) => waker,
            Content::Outcome(_) | Content::Taken => unreachable!("a call ends once"),
        }
    }

    fn poll_take(&self, cx: &Context<'_>) -> Poll<Answered> {
        let waker = cx.waker().clone();
        let mut content = self.0.lock();
        let former = match mem::replace(&mut *content, Content::Taken) {
            Content::Outcome(outcome) => return Poll::Ready(outcome),
            former => former,
        };
        *content = Content::Awaited(Some(waker));
        drop(content);
        // A waker's drop is the application's code.
        drop(former);
        Poll::Pending
    }
}

/// A call that was accepted. Dropping it abandons the call.
pub(crate) struct PendingCall {
    peer: Arc<PeerShared>,
    call: CallId,
    slot: Arc<Slot>,
    ended: bool,
}

impl PendingCall {
    /// Makes a call for a whole result.
    pub(crate) fn make(
        peer: Arc<PeerShared>,
        call: Call,
        timeout: Option<Duration>,
    ) -> Result<Self, CallError> {
        let slot = Arc::new(Slot(Mutex::new(Content::Awaited(None))));
        let call = peer.make(call, timeout, |state, call| {
            state.waiting.insert(call, slot.clone());
        })?;
        Ok(Self { peer, call, slot, ended: false })
    }

    /// Ready once, with the outcome.
    pub(crate) fn poll_outcome(&mut self, cx: &Context<'_>) -> Poll<Answered> {
        let outcome = self.slot.poll_take(cx);
        self.ended = outcome.is_ready();
        outcome
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.peer.core
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.peer.lock();
        // The slot and the waker in it are dropped with this call, so not under the lock.
        if state.waiting.remove(&self.call).is_some() {
            if state.connection.abandon(self.call) {
                state.count_call(false);
            }
            drop(state);
            self.peer.wake();
        }
    }
}

/// Makes a call whose result is a stream.
pub(crate) fn open(
    peer: &PeerShared,
    call: Call,
    timeout: Option<Duration>,
    shared: &Arc<Shared>,
) -> Result<(), CallError> {
    peer.make(call, timeout, |state, call| {
        shared.set_id(call.into());
        state.streams.insert(call.into(), shared.clone());
    })
    .map(drop)
}
