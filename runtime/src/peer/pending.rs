//! A call that waits for its reply.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use callosum_proto::{Call, CallId};

use super::outcome::{Answered, OutcomeCell};
use super::shared::PeerShared;
use crate::error::CallError;
use crate::loan::{Lender, Loan};
use crate::lock::guard_call;
use crate::stream::Shared;

/// A call that was accepted. Dropping it abandons the call.
struct PendingCall {
    peer: Arc<PeerShared>,
    call: CallId,
    cell: Arc<OutcomeCell>,
    ended: bool,
}

impl PendingCall {
    /// Makes a call for a whole result.
    fn make(peer: Arc<PeerShared>, call: Call, timeout: Option<Duration>) -> Result<Self, CallError> {
        let cell = Arc::<OutcomeCell>::default();
        let call = peer.make(call, timeout, |state, call| {
            state.waiting.insert(call, cell.clone());
        })?;
        Ok(Self { peer, call, cell, ended: false })
    }

    /// Ready once, with the outcome.
    fn poll_outcome(&mut self, cx: &Context<'_>) -> Poll<Answered> {
        let outcome = self.cell.poll_take(cx);
        self.ended = outcome.is_ready();
        outcome
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.peer.lock();
        // The cell and the waker in it are dropped with this call, so not under the lock.
        if state.waiting.remove(&self.call).is_some() {
            if state.connection.abandon(self.call) {
                state.count_call(false);
            }
            drop(state);
            self.peer.wake();
        }
    }
}

/// The reply to a call that was made, or why it was not. Dropping it abandons the call.
pub(crate) struct PendingReply {
    call: Option<Result<PendingCall, CallError>>,
    loan: Option<Loan>,
}

impl PendingReply {
    /// Makes a call. A handler's slot is lent from then on; a refused call lends nothing.
    pub(crate) fn make(
        peer: Arc<PeerShared>,
        lender: Option<Lender>,
        mut call: Call,
        timeout: Option<Duration>,
    ) -> Self {
        guard_call(&mut call);
        let call = PendingCall::make(peer, call, timeout);
        let loan = match (&call, lender) {
            (Ok(pending), Some(lender)) => Some(lender.lend(&pending.peer.core)),
            _ => None,
        };
        Self { call: Some(call), loan }
    }
}

impl Future for PendingReply {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let this = self.get_mut();
        let reply = match this.call.as_mut().expect("a response is not polled after completion") {
            Ok(pending) => ready!(pending.poll_outcome(cx)),
            Err(_) => match this.call.take() {
                Some(Err(error)) => Err(error),
                _ => unreachable!("it was an error"),
            },
        };
        this.call = None;
        this.loan = None;
        Poll::Ready(reply)
    }
}

/// Makes a call whose argument or result is a stream. Lends the slot as [`PendingReply::make`] does.
pub(crate) fn open(
    peer: &PeerShared,
    lender: Option<Lender>,
    mut call: Call,
    timeout: Option<Duration>,
    shared: &Arc<Shared>,
) -> Result<Option<Loan>, CallError> {
    guard_call(&mut call);
    peer.make(call, timeout, |state, call| {
        shared.set_id(call.into());
        state.streams.insert(call.into(), shared.clone());
    })?;
    Ok(lender.map(|lender| lender.lend(&peer.core)))
}
