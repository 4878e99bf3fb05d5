//! A call that waits for its reply.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use callosum_proto::{Call, CallId};
use futures_channel::oneshot;

use super::effects::Answered;
use super::shared::PeerShared;
use crate::error::{CallError, DisconnectCause};
use crate::loan::{Lender, Loan};
use crate::lock::guard_call;
use crate::stream::Shared;

/// A call that was accepted. Dropping it abandons the call.
struct PendingCall {
    peer: Arc<PeerShared>,
    call: CallId,
    reply: oneshot::Receiver<Answered>,
    ended: bool,
}

impl PendingCall {
    /// Makes a call for a whole result.
    fn make(peer: Arc<PeerShared>, call: Call, timeout: Option<Duration>) -> Result<Self, CallError> {
        let (sender, reply) = oneshot::channel();
        let call = peer.make(call, timeout, |state, call| {
            state.waiting.insert(call, sender);
        })?;
        Ok(Self { peer, call, reply, ended: false })
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.peer.lock();
        if let Some(sender) = state.waiting.remove(&self.call) {
            let abandoned = state.connection.abandon(self.call);
            drop(state);
            // This wakes a waker, which must not happen under a lock.
            drop(sender);
            if abandoned {
                self.peer.count_call(false);
            }
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
            Ok(pending) => {
                let reply = ready!(Pin::new(&mut pending.reply).poll(cx));
                pending.ended = true;
                // A driver that is dropped settles every call first; this is a driver that panicked.
                reply.unwrap_or(Err(CallError::Disconnected(DisconnectCause::Shutdown)))
            }
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
